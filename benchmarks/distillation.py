"""A whole distillation step against the same step with loops and whole LM heads.

Ours: the teacher's forward without its LM head, the student with its LM head on the masked
positions, NST and CRD with their heads, backward, AdamW. The loop version does what the authors'
release does: both LM heads on all tokens (the teacher's is thrown away), NST sentence by
sentence, and position-wise NT-Xent, which stands there in CRD's place, vector by vector.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import loop_losses
from benchmarks.losses import HIDDEN, LENGTH, VOCABULARY, random_text
from benchmarks.measure import Measured, best, measure, print_table
from core.config import DistillSettings, TeacherSettings, TextEncoderSettings, preset
from core.feature_cache import FeatureCache
from core.losses.mlm import mlm_loss
from core.models.heads import HeadedObjective
from core.models.student import Student
from core.models.teacher import Teacher
from core.models.text_encoder import TextEncoder
from core.records import TextBatch

Taught = Callable[[TextBatch], torch.Tensor]  # the teacher's token states of a batch [B, L, H]

ROWS = 16
FEATURE_SIZE = 64  # of the teacher's video side, which distillation never calls
DEMO_ROWS, DEMO_LENGTH, DEMO_VOCABULARY = 64, 32, 4986  # as the demo's students have them


def main() -> None:
    torch.manual_seed(0)
    against_loops()
    whole, demo = random_text(ROWS), random_text(DEMO_ROWS, DEMO_LENGTH, DEMO_VOCABULARY)
    what_the_teacher_costs("6 layers, 512 wide", "small", whole, VOCABULARY)
    what_the_teacher_costs("demo preset", "demo", demo, DEMO_VOCABULARY)


def against_loops() -> None:
    text, settings = random_text(ROWS), TextEncoderSettings()
    teacher, student = new_teacher("small", VOCABULARY), Student(settings, VOCABULARY)
    here = best(our_step(student, live(teacher), text), 1)
    loop = measure(loop_step(student, teacher.text_encoder, text))
    print_table(
        f"One distillation step, 6 layers, {HIDDEN} wide, {ROWS * LENGTH} tokens, "
        f"{torch.get_num_threads()} threads (goal: >= 3x)",
        ["step", "time", "ratio", "tokens/s", "peak"],
        [row("loops", loop, loop), row("here", here, loop)],
    )


def what_the_teacher_costs(title: str, name: str, text: TextBatch, vocabulary: int) -> None:
    """The same step with the teacher's joint space computed too, and with its states cached."""
    teacher = new_teacher(name, vocabulary)
    student = Student(preset(DistillSettings, name).text, vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        teachers = {
            "teacher live": live(teacher),
            "teacher live, joint space too": live(teacher, joint=True),
            "teacher's states cached": cached(teacher, text, Path(folder)),
        }
        steps = {title: our_step(student, taught, text) for title, taught in teachers.items()}
        runs = {title: fastest(step) for title, step in in_turn(steps).items()}
    base = runs["teacher live"]
    print_table(
        f"The teacher's part of a distillation step, {title}, {text.mask.sum()} tokens",
        ["step", "time", "against live"],
        [[name, f"{sec * 1e3:.0f} ms", f"{sec / base:.2f}x"] for name, sec in runs.items()],
    )


def in_turn(steps: dict[str, Callable[[], None]], rounds: int = 5) -> dict[str, list[float]]:
    """Seconds of each step in each round: one after the other, so that all meet the same load."""
    times: dict[str, list[float]] = {title: [] for title in steps}
    for _ in range(rounds + 1):
        for title, step in steps.items():
            start = time.perf_counter()
            step()
            times[title].append(time.perf_counter() - start)
    return times


def fastest(times: list[float]) -> float:
    return min(times[1:])  # the first one makes AdamW's moments and CRD's offset


def row(name: str, run: Measured, loop: Measured) -> list[str]:
    return [
        name,
        f"{run.seconds:.2f} s",
        f"{loop.seconds / run.seconds:.1f}x",
        f"{ROWS * LENGTH / run.seconds:.0f}",
        f"{run.peak_mb:.0f} MB",
    ]


def new_teacher(name: str, vocabulary: int) -> Teacher:
    return Teacher(preset(TeacherSettings, name), vocabulary, FEATURE_SIZE).eval()


def live(teacher: Teacher, joint: bool = False) -> Taught:
    """The teacher's forward; with `joint`, also the projection that only vokens want."""
    return torch.no_grad()(lambda text: teacher.encode_text(text, joint=joint).token_states)


def cached(teacher: Teacher, text: TextBatch, folder: Path) -> Taught:
    """The same states from an entry of the cache, read and raised to float32 at each call."""
    states = live(teacher)(text)
    entry = FeatureCache.create(folder, settings={}, keys=["block"], command="benchmark")
    entry.write_shard(0, {"block": states.flatten(0, 1).numpy()})
    reader = entry.finish()
    return lambda text: torch.from_numpy(reader.read("block").astype(np.float32)).view_as(states)


def our_step(student: Student, taught_by: Taught, text: TextBatch) -> Callable[[], None]:
    size = student.hidden_size
    objectives = [HeadedObjective(name, size, size) for name in ("nst", "crd")]
    optimizer = adamw(student, *objectives)

    def step() -> None:
        taught = taught_by(text)
        output = student.encode_text(text, mlm=True)
        loss = mlm_loss(output.mlm_logits, text.labels)
        for objective in objectives:
            loss = loss + objective(output.token_states, taught, text.mask)
        descend(loss, optimizer)

    return step


def loop_step(student: Student, teacher: TextEncoder, text: TextBatch) -> Callable[[], None]:
    heads = [HeadedObjective(name, HIDDEN, HIDDEN) for name in ("nst", "nt_xent_position")]
    losses = loop_losses.nst_by_sentence, loop_losses.nt_xent_position
    optimizer = adamw(student, *heads)

    def step() -> None:
        with torch.no_grad():
            taught = teacher(text).token_states
            whole_lm_head(teacher, taught)
        states = student.encode_text(text).token_states
        logits = whole_lm_head(student.text_encoder, states)
        loss = F.cross_entropy(logits.flatten(0, 1), text.labels.flatten())
        for head, objective in zip(heads, losses):
            sides = head.student_head(states), head.teacher_head(taught)
            loss = loss + objective(*sides, text.mask)
        descend(loss, optimizer)

    return step


def whole_lm_head(encoder: TextEncoder, states: torch.Tensor) -> torch.Tensor:
    """Logits of every token, [B, L, V]."""
    return encoder.mlm_head(states, encoder.token_embedding.weight)


def adamw(*modules: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([w for module in modules for w in module.parameters()], lr=2e-4)


def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    main()
