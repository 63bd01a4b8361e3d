"""A whole distillation step against the same step with loops and whole LM heads.

Ours: the teacher's forward without its LM head, the student with its LM head on the masked
positions, NST and CRD with their heads, backward, AdamW. The loop version does what the authors'
release does: both LM heads on all tokens (the teacher's is thrown away), NST sentence by
sentence, and position-wise NT-Xent, which stands there in CRD's place, vector by vector.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks import loop_losses
from benchmarks.losses import HIDDEN, LENGTH, VOCABULARY, random_text
from benchmarks.measure import Measured, best, measure, print_table
from core.config import TextEncoderSettings
from core.losses.mlm import mlm_loss
from core.models.heads import HeadedObjective
from core.models.student import Student
from core.models.text_encoder import TextEncoder
from core.records import TextBatch

ROWS = 16


def main() -> None:
    torch.manual_seed(0)
    text, settings = random_text(ROWS), TextEncoderSettings()
    teacher, student = TextEncoder(settings, VOCABULARY).eval(), Student(settings, VOCABULARY)
    here = best(our_step(student, teacher, text), 1)
    loop = measure(loop_step(student, teacher, text))
    print_table(
        f"One distillation step, 6 layers, {HIDDEN} wide, {ROWS * LENGTH} tokens, "
        f"{torch.get_num_threads()} threads (goal: >= 3x)",
        ["step", "time", "ratio", "tokens/s", "peak"],
        [row("loops", loop, loop), row("here", here, loop)],
    )


def row(name: str, run: Measured, loop: Measured) -> list[str]:
    return [
        name,
        f"{run.seconds:.2f} s",
        f"{loop.seconds / run.seconds:.1f}x",
        f"{ROWS * LENGTH / run.seconds:.0f}",
        f"{run.peak_mb:.0f} MB",
    ]


def our_step(student: Student, teacher: TextEncoder, text: TextBatch) -> Callable[[], None]:
    objectives = [HeadedObjective(name, HIDDEN, HIDDEN) for name in ("nst", "crd")]
    optimizer = adamw(student, *objectives)

    def step() -> None:
        with torch.no_grad():
            taught = teacher(text).token_states
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
