"""Soft labels: the teacher's masked-word distribution (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from core.losses.gather import global_mean
from core.losses.objective import DistillationObjective
from core.losses.precision import full_precision


@full_precision
def soft_label_loss(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, *, temperature: float = 2.0
) -> Tensor:
    """KL(teacher ‖ student) at a temperature, times its square, averaged over positions.

    student and teacher are logits [..., V] over the same vocabulary; mask bool [...] picks the
    positions, None takes all (logits of the masked positions only, [M, V]).
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"Soft labels want logits of one shape, found student {tuple(student.shape)} and "
            f"teacher {tuple(teacher.shape)}. Use one tokenizer for both models."
        )
    if mask is not None:
        student, teacher = student[mask], teacher[mask]
    log_student = F.log_softmax(student.flatten(0, -2) / temperature, dim=-1)  # [M, V]
    log_teacher = F.log_softmax(teacher.detach().flatten(0, -2) / temperature, dim=-1)
    total = F.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    # Gradients of softened logits shrink by 1/temperature², which the square undoes.
    return temperature**2 * global_mean(total, log_student.shape[0])


class SoftLabel(DistillationObjective):
    """`soft_label_loss` as an objective; it takes logits and needs no head."""

    takes = "logits"

    def __init__(self, temperature: float = 2.0):
        super().__init__()
        self.temperature = temperature

    def forward(
        self, student: Tensor, teacher: Tensor, mask: Tensor | None = None, **extra
    ) -> Tensor:
        return soft_label_loss(student, teacher, mask, temperature=self.temperature)
