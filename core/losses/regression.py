"""Regression onto the teacher's states (FitNets, Romero et al. 2015, arXiv 1412.6550)."""

from __future__ import annotations

from torch import Tensor

from core.losses.gather import global_mean
from core.losses.objective import DistillationObjective
from core.losses.precision import full_precision


@full_precision
def regression_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared difference, averaged over the kept tokens and the channels.

    student [B, L, D] (after its head), teacher [B, L, D], mask bool [B, L] -> scalar.
    """
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"Regression wants equal sizes, found student {student.shape[-1]} and teacher "
            f"{teacher.shape[-1]}. Put a head on the student that maps to the teacher's size."
        )
    gap = student[mask] - teacher.detach()[mask]  # [T, D]
    return global_mean(gap.square().mean(dim=-1).sum(), mask.sum())


class Regression(DistillationObjective):
    """`regression_loss` as an objective."""

    needs_equal_size = True

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, **extra) -> Tensor:
        return regression_loss(student, teacher, mask)
