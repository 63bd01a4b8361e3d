"""Speed of training on a GPU: step time against the arithmetic floor, memory, what helps.

    python -m benchmarks.gpu                                  # base, on a GPU
    python -m benchmarks.gpu --preset small --batch 128 --steps 50 --every
    python -m benchmarks.gpu --device cpu                     # tiny; only shows that it works

Two steps are timed, as the training loop makes them, batch and logging's waits included: the
distillation step (a student, a teacher of the same preset, NST and CRD, 15 % of the words
hidden) and the teacher's step (text and video). Tokens and features are random; no data needed.

The floor is the counted work (benchmarks/model_flops.py) at the machine's best matrix-product
rate, measured in the same run; utilisation (MFU) is floor by step time. The switches:

    bf16     autocast, or float32 (without TF32, as torch starts)
    sdpa     the attention kernel that torch picks, or scores, softmax and sum one after the other
             (SDPA's "math" backend; the encoders have no attention of their own)
    fused    AdamW in one kernel, or torch's usual one kernel per operation and list of weights
    compile  --set compile=true (core/training/compilation.py): every Transformer layer
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure import measure, print_table
from benchmarks.model_flops import distillation_flops, teacher_flops
from core.config import PRESETS, DistillSettings, TeacherSettings, TrainingSettings, preset
from core.data.masking import MaskingRule
from core.data.text_corpus import TextCorpus
from core.models.heads import HeadedObjective
from core.models.run_folder import RunFolder
from core.models.student import Student
from core.models.teacher import Teacher
from core.models.tokenizer import Tokenizer, load_tokenizer
from core.records import Clip
from core.training import loop as training
from core.training.batches import ClipRows, TextRows
from core.training.distill_student import StudentTask, head_arguments, objective_weights
from core.training.train_teacher import TeacherTask, clip_rows

NO_GPU = "No GPU here: nothing was measured. Run it where torch.cuda.is_available()."
FEATURE_SIZE = 2048  # EfficientNet-Lite0's 1280 beside the 768 of a base-sized video Transformer
NUM_VIDEOS, CLIP_SEC = 8, 8
WARM_UP_STEPS = {"cuda": 5, "cpu": 2}  # compilation, CRD's offset, the allocator, AdamW's state
PEAK_SIZES = {"cuda": (4096, 8192), "cpu": (512,)}


@dataclass(frozen=True)
class Variant:
    """Which switches are on."""

    bf16: bool = True
    sdpa: bool = True
    fused: bool = True
    compile: bool = True


@dataclass(frozen=True)
class Work:
    """A kind of step: its name, its settings, and how its task and its counted work are made."""

    name: str
    training: TrainingSettings
    make_task: Callable[[], nn.Module]
    count: Callable[[object], dict[str, int]]  # batch -> floating-point operations by part


@dataclass(frozen=True)
class Speed:
    """What the steps of one variant took."""

    step_sec: float  # median
    batch_sec: float  # of it, to make one batch on the host
    warm_up_sec: float
    peak_mb: float
    tokens: int  # of a batch
    flops: dict[str, int]  # of a batch, by part


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU)
        return
    if options.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # the loop would take a GPU that is there
    peak = options.peak_tflops * 1e12 or measured_peak(options.device)
    print(f"\n{machine(options.device)}; floor at {peak / 1e12:.3g} TFLOP/s")
    tokenizer = load_tokenizer("bert")
    for make in (distillation, teaching):
        report(make(options.preset, tokenizer, options.batch), options, peak)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--preset", choices=list(PRESETS), help="default: base; demo on CPU")
    parser.add_argument("--batch", type=int, help="rows; default: the preset's own; 4 on CPU")
    parser.add_argument("--steps", type=int, help="timed steps; default: 20; 2 on CPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="instead of measuring it")
    parser.add_argument("--every", action="store_true", help="every combination of switches")
    options = parser.parse_args(arguments)
    on_gpu = options.device == "cuda"
    options.preset = options.preset or ("base" if on_gpu else "demo")
    options.batch = options.batch or (0 if on_gpu else 4)
    options.steps = options.steps or (20 if on_gpu else 2)
    return options


# ---- the table ------------------------------------------------------------------------------


def report(work: Work, options: argparse.Namespace, peak: float) -> None:
    """Time every variant of a kind of step and print its table and its counted work."""
    rows, speed = [], None
    for variant in variants(options.device, options.every):
        try:
            speed = time_steps(work, variant, options.steps, options.device)
            rows.append(switches(variant) + figures(speed, peak))
        except torch.OutOfMemoryError:
            rows.append([*switches(variant), "out of memory", "", "", "", ""])
    names = [field.name for field in dataclasses.fields(Variant)]
    print_table(
        f"{work.name}, preset {options.preset}, {work.training.batch_size} rows",
        [*names, "step", "tokens/s", "MFU", "peak memory", "warm-up"],
        rows,
    )
    if speed is not None:
        print_floor(speed, peak)


def figures(speed: Speed, peak: float) -> list[str]:
    return [
        f"{speed.step_sec * 1e3:.1f} ms",
        f"{speed.tokens / speed.step_sec:.0f}",
        f"{sum(speed.flops.values()) / peak / speed.step_sec:.1%}",
        f"{speed.peak_mb:.0f} MB",
        f"{speed.warm_up_sec:.1f} s",
    ]


def switches(variant: Variant) -> list[str]:
    return ["on" if on else "-" for on in dataclasses.astuple(variant)]


def print_floor(speed: Speed, peak: float) -> None:
    total = sum(speed.flops.values())
    print(
        f"  floor {total / peak * 1e3:.1f} ms: {total / 1e12:.3g} TFLOP in {speed.tokens} tokens; "
        f"a batch takes the host {speed.batch_sec * 1e3:.1f} ms of each step"
    )
    print("  " + ", ".join(f"{name} {part / total:.1%}" for name, part in speed.flops.items()))


def variants(device: str, every: bool = False) -> list[Variant]:
    """All switches on, each one off, all off; or every combination. On CPU nothing is compiled.

    Compiling for a CPU takes minutes and tells nothing about a GPU.
    """
    count = len(dataclasses.fields(Variant))
    one_off = [[place != off for place in range(count)] for off in range(count)]
    chosen = itertools.product((True, False), repeat=count) if every else None
    chosen = chosen or [[True] * count, *one_off, [False] * count]
    made = [Variant(*values) for values in chosen]
    if device == "cpu":
        made = [dataclasses.replace(variant, compile=False) for variant in made]
    return list(dict.fromkeys(made))


# ---- timing ---------------------------------------------------------------------------------


def time_steps(work: Work, variant: Variant, steps: int, device: str) -> Speed:
    """Make the task anew, warm up and time its steps."""
    if variant.compile:
        torch.compiler.reset()  # a layer compiled for other switches must not serve these
    if device == "cpu":
        run = measure(lambda: _time_steps(work, variant, steps, device))
        return dataclasses.replace(run.result, peak_mb=run.peak_mb)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    speed = _time_steps(work, variant, steps, device)
    return dataclasses.replace(speed, peak_mb=torch.cuda.max_memory_allocated() / 2**20)


def _time_steps(work: Work, variant: Variant, steps: int, device: str) -> Speed:
    with tempfile.TemporaryDirectory() as folder, attention(variant):
        loop = make_loop(work, variant, Path(folder))
        warm_up = sum(seconds(loop._one_step, device) for _ in range(WARM_UP_STEPS[device]))
        times = [seconds(loop._one_step, device) for _ in range(steps)]
        on_host = [seconds(lambda n=n: loop._batch(n, 0), device) for n in range(steps)]
        # Some words more or fewer are hidden in the next batch: a per cent of its LM head.
        batch = loop._batch(WARM_UP_STEPS[device], 0)
        tokens = loop.task.num_tokens(batch)
        return Speed(
            median(times), median(on_host), warm_up, float("nan"), tokens, work.count(batch)
        )


def make_loop(work: Work, variant: Variant, folder: Path) -> training._Loop:
    """The training loop itself, ready for its first step.

    Its private step is what is timed, because a copy of it here would measure the copy.
    """
    settings = dataclasses.replace(
        work.training,
        mixed_precision="bf16" if variant.bf16 else "no",
        compile=variant.compile,
        gradient_accumulation=1,
        steps=10**6,
    )
    accelerator = training.make_accelerator(settings)
    training.seed_everything(settings.seed)
    task = work.make_task()
    loop = training._Loop(task, settings, RunFolder(folder), accelerator, lambda *_: None)
    if not variant.fused:
        loop.optimizer = unfused(loop.optimizer)
    loop.model, loop.optimizer = accelerator.prepare(loop.task, loop.optimizer)
    return loop


def unfused(optimizer: torch.optim.AdamW) -> torch.optim.AdamW:
    """AdamW over the same groups as torch makes it when nothing is said."""
    groups = [
        {"params": group["params"], "weight_decay": group["weight_decay"]}
        for group in optimizer.param_groups
    ]
    return torch.optim.AdamW(groups, lr=optimizer.defaults["lr"])


@contextlib.contextmanager
def attention(variant: Variant) -> Iterator[None]:
    """SDPA's own choice of kernel, or its plain products and softmax."""
    if variant.sdpa:
        yield
        return
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    # Otherwise it would raise bf16 to float32, which nobody's own attention does.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def seconds(call: Callable, device: str) -> float:
    """Time of a call until the device is done with it."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# ---- the machine ----------------------------------------------------------------------------


def machine(device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU, to try the script only"
    return f"{name}, torch {torch.__version__}"


def measured_peak(device: str) -> float:
    """Operations per second of the best square matrix product, over sizes and both precisions.

    One peak for all variants: float32 is a choice that costs, not a slower machine.
    """
    rates = {}
    for dtype in (torch.bfloat16, torch.float32):
        rates[dtype] = max(product_rate(size, dtype, device) for size in PEAK_SIZES[device])
        print(f"{dtype} products: {rates[dtype] / 1e12:.3g} TFLOP/s")
    return max(rates.values())


def product_rate(size: int, dtype: torch.dtype, device: str, repeats: int = 10) -> float:
    """Operations per second of a product of random square matrices, best of three rounds."""
    # Random, because products of zeros draw less power and run faster.
    left, right = torch.randn(2, size, size, device=device).to(dtype)
    out = torch.empty_like(left)

    def products() -> None:
        for _ in range(repeats):
            torch.mm(left, right, out=out)

    products()
    return 2 * size**3 * repeats / min(seconds(products, device) for _ in range(3))


# ---- the two kinds of step ------------------------------------------------------------------


def distillation(preset_name: str, tokenizer: Tokenizer, batch: int = 0) -> Work:
    """The distillation step of a preset; `batch` rows, or the preset's own number."""
    settings = preset(DistillSettings, preset_name)
    taught_by = preset(TeacherSettings, preset_name)
    return distillation_work(settings, taught_by, tokenizer, batch)


def distillation_work(
    settings: DistillSettings, taught_by: TeacherSettings, tokenizer: Tokenizer, batch: int = 0
) -> Work:
    limits = with_batch(settings.training, batch)
    vocabulary, max_tokens = tokenizer.vocab_size, settings.text.max_tokens
    rule = MaskingRule.of(tokenizer, settings.mask_probability)
    corpus = random_corpus(4 * limits.batch_size, max_tokens - 2, rule)

    def make_task() -> StudentTask:
        teacher = Teacher(taught_by, vocabulary, FEATURE_SIZE)
        heads = head_arguments(settings, teacher)
        return StudentTask(
            Student(settings.text, vocabulary),
            teacher,
            {name: HeadedObjective(name, **how) for name, how in heads.items()},
            {"mlm": settings.mlm_weight, **objective_weights(settings)},
            TextRows(corpus, np.arange(len(corpus)), tokenizer, rule, max_tokens),
            TextRows(corpus, np.arange(0), tokenizer, rule, max_tokens),
        )

    return Work(
        "Distillation step",
        limits,
        make_task,
        lambda text: distillation_flops(settings, taught_by, vocabulary, text),
    )


def teaching(preset_name: str, tokenizer: Tokenizer, batch: int = 0) -> Work:
    """The teacher's step of a preset; `batch` rows, or the preset's own number."""
    return teaching_work(preset(TeacherSettings, preset_name), tokenizer, batch)


def teaching_work(settings: TeacherSettings, tokenizer: Tokenizer, batch: int = 0) -> Work:
    limits = with_batch(settings.training, batch)
    vocabulary = tokenizer.vocab_size
    features = RandomFeatures(2 * settings.window_sec)
    clips = random_clips(4 * limits.batch_size, features, tokenizer, settings.text.max_tokens)

    def make_task() -> TeacherTask:
        teacher = Teacher(settings, vocabulary, FEATURE_SIZE)
        return TeacherTask(teacher, *(rows(some) for some in (clips, [])))

    def rows(some: list[Clip]) -> ClipRows:
        return clip_rows(settings, some, features, tokenizer)

    return Work(
        f"Teacher's step, windows of {settings.window_sec} s",
        limits,
        make_task,
        lambda batch: teacher_flops(settings, vocabulary, FEATURE_SIZE, batch),
    )


def with_batch(settings: TrainingSettings, batch: int) -> TrainingSettings:
    return dataclasses.replace(settings, batch_size=batch or settings.batch_size)


# ---- random data ----------------------------------------------------------------------------


class RandomFeatures:
    """Some videos of `seconds` steps of noise."""

    dim = FEATURE_SIZE

    def __init__(self, seconds: int):
        self.video_ids = [f"video-{number}" for number in range(NUM_VIDEOS)]
        rng = np.random.default_rng(0)
        shape = seconds, FEATURE_SIZE
        self._rows = {v: rng.standard_normal(shape, dtype=np.float32) for v in self.video_ids}

    def video(self, video_id: str) -> np.ndarray:
        return self._rows[video_id]


def random_corpus(blocks: int, length: int, rule: MaskingRule) -> TextCorpus:
    """Blocks of random pieces, none of them special, all of full length."""
    ids = np.random.default_rng(0).choice(rule.replacements, blocks * length).astype(np.int32)
    return TextCorpus("random", "", ids, np.arange(blocks + 1) * length)


def random_clips(
    count: int, features: RandomFeatures, tokenizer: Tokenizer, words: int
) -> list[Clip]:
    """Clips whose captions are random words, enough to fill the teacher's tokens."""
    rng = np.random.default_rng(0)
    known = [piece for piece in tokenizer.pieces if piece.isascii() and piece.isalpha()]
    return [
        Clip(
            f"clip-{number}",
            features.video_ids[number % NUM_VIDEOS],
            0.0,
            float(CLIP_SEC),
            " ".join(rng.choice(known, words)),
        )
        for number in range(count)
    ]


if __name__ == "__main__":
    main()
