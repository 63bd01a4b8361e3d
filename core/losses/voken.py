"""Vokenization: every token predicts the clip assigned to it (Tan and Bansal 2020).

The method that the paper improves on (arXiv 2010.06775), kept as its baseline.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from core.losses.gather import global_mean
from core.losses.objective import DistillationObjective
from core.losses.precision import full_precision


@full_precision
def voken_loss(student: Tensor, vokens: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy over the clip set, averaged over the kept tokens that have a voken.

    student [..., C] logits over the C clips, vokens int64 [...] with the row of each token's
    nearest clip (negative = none), mask bool [...] -> scalar.
    """
    kept = mask & (vokens >= 0)
    total = F.cross_entropy(student[kept], vokens[kept], reduction="sum")
    return global_mean(total, kept.sum())


class Voken(DistillationObjective):
    """`voken_loss` as an objective; its head maps the student to the clip set's size."""

    takes = "vokens"

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, **extra) -> Tensor:
        return voken_loss(student, teacher, mask)
