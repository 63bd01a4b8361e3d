"""Position-wise NT-Xent: what the authors' released code runs in place of CRD.

The k-th tokens of all sentences are contrasted with each other, whatever words they are. Kept
for comparison only; use `crd`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from core.losses.gather import global_mean
from core.losses.objective import DistillationObjective
from core.losses.precision import full_precision


@full_precision
def nt_xent_position_loss(
    student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float = 0.5
) -> Tensor:
    """NT-Xent (Chen et al. 2020) at each position, averaged over the kept tokens.

    student and teacher [B, L, D], mask bool [B, L] -> scalar. At a position each of the 2B
    vectors must find its partner among the 2B − 1 others. The released code divides by 2B once
    more, which makes its weight fall with the batch size, and counts padding; we do neither.
    Negatives come from the own rank only.
    """
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"NT-Xent wants equal sizes, found student {student.shape[-1]} and teacher "
            f"{teacher.shape[-1]}. Put a head on the student that maps to the teacher's size."
        )
    vectors = torch.cat([_by_position(student, mask), _by_position(teacher, mask)], dim=1)
    kept = mask.T.repeat(1, 2)  # [L, 2B]
    scores = vectors @ vectors.transpose(1, 2) / temperature  # [L, 2B, 2B]
    rows = torch.arange(kept.shape[1], device=mask.device)
    impossible = ~kept[:, None, :] | (rows[:, None] == rows)
    scores = scores.masked_fill(impossible, float("-inf"))[kept]  # [2T, 2B]
    partners = ((rows + mask.shape[0]) % rows.numel()).expand_as(kept)[kept]
    total = F.cross_entropy(scores, partners, reduction="sum")
    return global_mean(total, kept.sum())


class NTXentPosition(DistillationObjective):
    """`nt_xent_position_loss` as an objective; the release trains a head on both sides."""

    needs_equal_size = True
    teacher_head = True

    def __init__(self, temperature: float = 0.5):
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, **extra) -> Tensor:
        return nt_xent_position_loss(student, teacher, mask, temperature=self.temperature)


def _by_position(states: Tensor, mask: Tensor) -> Tensor:
    """Unit vectors with positions first, [L, B, D]; zeros where there is no token."""
    return F.normalize(states.masked_fill(~mask[..., None], 0), dim=-1).transpose(0, 1)
