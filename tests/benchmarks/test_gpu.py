"""The GPU benchmark, on a CPU: its count of operations, its switches and what it prints."""

from __future__ import annotations

import itertools
import shutil

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu
from benchmarks.gpu import Variant
from core.config import DistillSettings, TeacherSettings, TextEncoderSettings, TrainingSettings
from core.models.tokenizer import load_tokenizer
from core.models.transformer import Dropout
from core.training.batches import unmasked
from core.training.compilation import transformer_layers

TEXT = TextEncoderSettings(
    num_layers=2, hidden_size=48, num_heads=4, intermediate_size=80, max_tokens=32
)
# Another size and depth than the student's, so that no side can stand in for the other.
TEACHER_TEXT = TextEncoderSettings(
    num_layers=3, hidden_size=64, num_heads=4, intermediate_size=112, max_tokens=32
)
TRAINING = TrainingSettings(batch_size=6)
TEACHER = TeacherSettings(
    text=TEACHER_TEXT,
    video_layers=2,
    video_hidden=40,
    video_heads=4,
    joint_size=24,
    window_sec=12,
    training=TRAINING,
)
STUDENT = DistillSettings(text=TEXT, training=TRAINING)
# Only plain products: the counter knows neither the CPU's attention kernel nor oneDNN's linear.
COUNTABLE = Variant(bf16=True, sdpa=False, fused=True, compile=False)


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("bert")


@pytest.fixture(params=["distillation", "teaching"])
def work(request, tokenizer) -> gpu.Work:
    if request.param == "distillation":
        return gpu.distillation_work(STUDENT, TEACHER, tokenizer)
    return gpu.teaching_work(TEACHER, tokenizer)


def counted_by_torch(work: gpu.Work, folder) -> tuple[int, dict[str, int]]:
    """Operations of a whole second step as torch saw them, and our count of the same batch."""
    with gpu.attention(COUNTABLE):
        loop = gpu.make_loop(work, COUNTABLE, folder)
        loop._one_step()  # CRD measures its offset in the first one
        batch = loop._batch(1, 0)
        with FlopCounterMode(display=False) as counter:
            loop._one_step()
    return counter.get_total_flops(), work.count(batch)


def test_distillation_count_is_what_torch_counts(tokenizer, tmp_path):
    work = gpu.distillation_work(STUDENT, TEACHER, tokenizer)
    found, ours = counted_by_torch(work, tmp_path)
    # Exactly: neither the teacher's LM head nor its joint space, which these objectives ignore.
    assert found == pytest.approx(sum(ours.values()), rel=1e-3)


def test_teacher_count_is_what_torch_counts(tokenizer, tmp_path):
    found, ours = counted_by_torch(gpu.teaching_work(TEACHER, tokenizer), tmp_path)
    assert found == pytest.approx(sum(ours.values()), rel=1e-3)


def test_batches_are_full_and_a_seventh_is_hidden(tokenizer, tmp_path):
    made = gpu.make_loop(
        gpu.distillation_work(STUDENT, TEACHER, tokenizer, 64), COUNTABLE, tmp_path
    )
    text = made._batch(0, 0)
    assert text.token_ids.shape == (64, 32)
    assert text.mask.all()
    assert text.content_mask.sum() == 64 * 30
    assert 0.12 < int((text.labels >= 0).sum()) / (64 * 30) < 0.18


def test_captions_fill_the_teacher(tokenizer, tmp_path):
    loop = gpu.make_loop(gpu.teaching_work(TEACHER, tokenizer, 16), COUNTABLE, tmp_path)
    batch = loop._batch(0, 0)
    assert batch.rows.text.mask.all()
    assert batch.rows.video.mask.all()
    assert batch.rows.video.features.shape == (16, 12, gpu.FEATURE_SIZE)
    assert len(batch.groups.unique()) == 16
    assert unmasked(batch.rows.text).sum() > 300


def weights_of(loop) -> torch.Tensor:
    """All trained weights in one vector, a copy."""
    return torch.cat([p.detach().flatten() for p in loop.task.parameters()])


def test_every_variant_learns_the_same(work, tmp_path):
    """A switch changes how a step is computed, not what it does to the weights."""
    moved = []
    for sdpa, fused in itertools.product((True, False), repeat=2):
        variant = Variant(bf16=False, sdpa=sdpa, fused=fused, compile=False)
        with gpu.attention(variant):
            loop = gpu.make_loop(work, variant, tmp_path)
            start = weights_of(loop)
            for _ in range(3):
                loop._one_step()
        moved.append(weights_of(loop) - start)
    first, *others = moved
    assert first.norm() > 0
    for other in others:
        assert float((other - first).norm() / first.norm()) < 1e-2


def test_switches_reach_the_optimizer(work, tmp_path):
    slow = gpu.make_loop(work, Variant(fused=False, compile=False), tmp_path).optimizer.optimizer
    fast = gpu.make_loop(work, Variant(fused=True, compile=False), tmp_path).optimizer.optimizer
    assert all(group["fused"] for group in fast.param_groups)
    assert not any(group["fused"] for group in slow.param_groups)
    for name in ("weight_decay", "lr", "betas", "eps"):
        assert [g[name] for g in slow.param_groups] == [g[name] for g in fast.param_groups]


@pytest.mark.parametrize("bf16", [True, False])
def test_switches_reach_the_layers(work, tmp_path, bf16):
    loop = gpu.make_loop(work, Variant(bf16=bf16, compile=False), tmp_path)
    seen = set()
    for layer in transformer_layers(loop.task):
        layer.qkv.register_forward_hook(lambda module, given, made: seen.add(made.dtype))
    loop._one_step()
    assert seen == {torch.bfloat16 if bf16 else torch.float32}


def test_the_frozen_teachers_layers_are_found_too(tokenizer, tmp_path):
    student = gpu.distillation_work(STUDENT, TEACHER, tokenizer).make_task()
    assert len(transformer_layers(student)) == 2 + 3 + 2  # student, teacher's text, its video
    assert len(transformer_layers(gpu.teaching_work(TEACHER, tokenizer).make_task())) == 3 + 2


def test_one_variant_off_at_a_time():
    rows = gpu.variants("cuda")
    assert rows[0] == Variant() and rows[-1] == Variant(False, False, False, False)
    assert len(rows) == 6 and len(gpu.variants("cuda", every=True)) == 16
    assert not any(variant.compile for variant in gpu.variants("cpu", every=True))


def test_peak_is_the_rate_of_a_product():
    left, right = torch.randn(2, 256, 256)
    times = [gpu.seconds(lambda: left @ right, "cpu") for _ in range(50)]
    rate = gpu.product_rate(256, torch.float32, "cpu", repeats=20)
    assert 0.2 < rate * min(times) / (2 * 256**3) < 5


def test_without_a_gpu_it_says_so_and_ends_well(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main([])
    assert capsys.readouterr().out.strip() == gpu.NO_GPU


def test_small_run_on_cpu_prints_both_tables(capsys):
    gpu.main(["--device", "cpu", "--batch", "2", "--steps", "1", "--peak-tflops", "0.05"])
    out = capsys.readouterr().out
    assert "Distillation step, preset demo, 2 rows" in out
    assert "Teacher's step, windows of 16 s, preset demo, 2 rows" in out
    assert out.count("floor ") == 3
    rows = [line.split() for line in out.splitlines() if line.endswith(" s") and " ms " in line]
    assert len(rows) == 2 * len(gpu.variants("cpu"))
    for row in rows:
        step_ms, per_second = float(row[4]), float(row[6])
        # Rounded to a tenth of a millisecond; two rows of 64 tokens.
        assert per_second == pytest.approx(2 * 64 / step_ms * 1e3, rel=0.02)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_layers_give_the_same_steps(tokenizer, tmp_path):
    # So many tokens that uncompiled layers of some CPUs take oneDNN's product.
    work = gpu.distillation_work(STUDENT, TEACHER, tokenizer, batch=6)
    torch._dynamo.utils.counters.clear()
    moved = []
    for compiled in (False, True):
        loop = gpu.make_loop(work, Variant(bf16=False, compile=compiled), tmp_path)
        for part in loop.task.modules():  # compiled code draws other random numbers
            if isinstance(part, Dropout):
                part.probability = 0.0
        start = weights_of(loop)
        for _ in range(2):
            loop._one_step()
        moved.append(weights_of(loop) - start)
    # That of the check, one that learns, one for the frozen teacher, whose layers are wider.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3
    assert not torch._dynamo.utils.counters["graph_break"]
    assert float((moved[1] - moved[0]).norm() / moved[0].norm()) < 1e-2
