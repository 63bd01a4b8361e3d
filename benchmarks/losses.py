"""The losses against loops over the same formulas, and objectives beside a student's own work."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import loop_losses
from benchmarks.measure import best, measure, print_table
from core.config import TextEncoderSettings
from core.losses.crd import crd_loss
from core.losses.mlm import mlm_loss
from core.losses.nst import nst_loss
from core.losses.nt_xent_position import nt_xent_position_loss
from core.losses.token_contrast import token_contrast
from core.models.heads import HeadedObjective
from core.models.student import Student
from core.records import TextBatch

ROWS, LENGTH, HIDDEN, JOINT, CRD_SIZE, VOCABULARY = 32, 128, 512, 256, 128, 30_522


def main() -> None:
    torch.manual_seed(0)
    against_loops()
    crd_over_tokens()
    beside_the_student()


def against_loops() -> None:
    """Forward and backward of each loss, vectorised and as a loop."""
    wide = torch.randn(2, ROWS, LENGTH, HIDDEN)
    narrow = torch.randn(2, ROWS, LENGTH, CRD_SIZE)
    tokens = F.normalize(torch.randn(ROWS, LENGTH, JOINT), dim=-1)
    joint = tokens, F.normalize(torch.randn(ROWS, JOINT), dim=-1)
    crd, crd_loop = (functools.partial(f, log_mean=1.0) for f in (crd_loss, loop_losses.crd))
    position = nt_xent_position_loss, loop_losses.nt_xent_position
    print_table(
        f"Losses, forward and backward, {ROWS} sentences of {LENGTH} tokens, "
        f"{torch.get_num_threads()} threads",
        ["loss, and its loop", "loop", "here", "ratio", "goal", "loop's peak", "peak here", "gap"],
        [
            compare("nst, by channel", 100, nst_loss, loop_losses.nst, *wide),
            compare("nst, as released", 100, nst_loss, loop_losses.nst_by_sentence, *wide),
            compare("nt_xent_position, by vector", 80, *position, *wide),
            compare(
                "token_contrast, by token", 80, token_contrast, loop_losses.token_contrast, *joint
            ),
            compare("crd, by token", None, crd, crd_loop, *narrow),
        ],
    )
    print("  gap: relative difference of the two gradients")


def compare(
    name: str, goal: int | None, fast: Callable, slow: Callable, student: Tensor, teacher: Tensor
) -> list[str]:
    """A row of the table. The two must agree, else their times mean nothing."""
    mask = torch.ones(student.shape[:2], dtype=torch.bool)
    quick = functools.partial(gradient, fast, student, teacher, mask)
    # The quick one before and after the slow one, so that a lucky moment does not favour it.
    before = best(quick, 4)
    loop = measure(functools.partial(gradient, slow, student, teacher, mask))
    here = max(before, best(quick, 4), key=lambda run: run.seconds)
    gap = float((here.result - loop.result).norm() / loop.result.norm())
    if gap > 1e-3:
        raise AssertionError(f"{name}: the loop's gradient differs by {gap:.1e}.")
    return [
        name,
        f"{loop.seconds:.2f} s",
        f"{here.seconds * 1e3:.1f} ms",
        f"{loop.seconds / here.seconds:.0f}x",
        f">= {goal}x" if goal else "",
        f"{loop.peak_mb:.0f} MB",
        f"{here.peak_mb:.0f} MB",
        f"{gap:.0e}",
    ]


def gradient(loss: Callable, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    states = student.clone().requires_grad_()
    loss(states, teacher, mask).backward()
    return states.grad


def crd_over_tokens() -> None:
    """CRD's pairs grow with the square of the tokens, its memory with the tokens alone."""
    table = []
    for rows in (16, 64, 128):
        student, teacher = torch.randn(2, rows, LENGTH, CRD_SIZE)
        mask = torch.ones(student.shape[:2], dtype=torch.bool)
        run = measure(functools.partial(gradient, crd_alone, student, teacher, mask))
        pairs = (rows * LENGTH) ** 2
        table.append(
            [
                f"{rows * LENGTH}",
                f"{pairs / 1e6:.0f} million",
                f"{run.seconds * 1e3:.0f} ms",
                f"{pairs / run.seconds / 1e6:.0f} million",
                f"{run.peak_mb:.0f} MB",
                f"{pairs * 4 / 2**20:.0f} MB",
            ]
        )
    header = ["tokens", "pairs", "time", "pairs/s", "peak", "one matrix of all pairs"]
    print_table(
        "CRD in-batch, all pairs, in chunks of anchors: forward and backward", header, table
    )


def crd_alone(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    return crd_loss(student, teacher, mask, log_mean=1.0)


def beside_the_student() -> None:
    """Each objective's forward and backward as a share of a 6-layer student's own."""
    student, text = Student(TextEncoderSettings(), VOCABULARY), random_text()
    states = torch.randn(2, ROWS, LENGTH, HIDDEN)
    narrow = torch.randn(2, ROWS, LENGTH, CRD_SIZE, requires_grad=True)
    steps = {
        "student with its MLM loss": functools.partial(student_step, student, text),
        "crd, the loss alone": lambda: crd_loss(*narrow, text.mask).backward(),
        "crd with both heads": headed_step("crd", *states, text.mask),
        "nst with its head": headed_step("nst", *states, text.mask),
        "regression with its head": headed_step("regression", *states, text.mask),
    }
    runs = {name: best(step, 1) for name, step in steps.items()}
    whole = runs["student with its MLM loss"].seconds
    print_table(
        f"Objectives beside a 6-layer, {HIDDEN}-wide student, {ROWS * LENGTH} tokens, "
        "forward and backward",
        ["work", "time", "share", "goal", "peak"],
        [
            [
                name,
                f"{run.seconds * 1e3:.0f} ms",
                f"{run.seconds / whole:.1%}",
                "< 25%" if name.startswith("crd") else "",
                f"{run.peak_mb:.0f} MB",
            ]
            for name, run in runs.items()
        ],
    )


def random_text(rows: int = ROWS, length: int = LENGTH, vocabulary: int = VOCABULARY) -> TextBatch:
    ids = torch.randint(0, vocabulary, (rows, length))
    mask = torch.ones(rows, length, dtype=torch.bool)
    labels = ids.masked_fill(torch.rand(rows, length) > 0.15, -100)
    return TextBatch(ids, mask, mask, labels)


def student_step(student: Student, text: TextBatch) -> None:
    student.zero_grad()
    mlm_loss(student.encode_text(text, mlm=True).mlm_logits, text.labels).backward()


def headed_step(name: str, student: Tensor, teacher: Tensor, mask: Tensor) -> Callable:
    objective = HeadedObjective(name, HIDDEN, HIDDEN)
    states = student.clone().requires_grad_()
    return lambda: objective(states, teacher, mask).backward()


if __name__ == "__main__":
    main()
