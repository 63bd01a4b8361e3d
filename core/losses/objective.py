"""What every distillation objective tells the code that puts heads in front of it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


class DistillationObjective(nn.Module):
    """`forward(student, teacher, mask) -> scalar`; tensors only, no model and no head.

    `mask` is bool, true for the tokens that count. Values do not depend on the batch size or
    the padding. What heads an objective wants stands in the class attributes.
    """

    takes: Literal["states", "logits", "vokens"] = "states"
    needs_equal_size = False  # the head must map the student to the teacher's size
    teacher_head = False  # the teacher's side has a trained head of its own
    head_size: int | None = None  # size that the heads map to; None = the loss does not mind

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, **extra) -> Tensor:
        raise NotImplementedError
