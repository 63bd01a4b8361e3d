"""Neuron selectivity transfer: the student's channels select tokens as the teacher's do.

Huang and Wang 2017 (arXiv 1707.01219), polynomial kernel (aᵀb)², with the teacher-teacher
term kept, so that the loss is never negative and 0 says "equal".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from core.losses.gather import global_mean
from core.losses.objective import DistillationObjective
from core.losses.precision import full_precision


@full_precision
def nst_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared distance of the token Grams of unit channels, averaged over sentences.

    student [B, L, Ds], teacher [B, L, Dt], mask bool [B, L] -> scalar. Sizes may differ. Per
    sentence ‖SSᵀ/Ds − TTᵀ/Dt‖²_F, which is the MMD of the two sets of channels under the
    kernel (aᵀb)². Sentences without a token are left out of the mean.
    """
    student, teacher = _unit_channels(student, mask), _unit_channels(teacher.detach(), mask)
    length, channels = student.shape[1], max(student.shape[2], teacher.shape[2])
    distance = _channel_distance if length > channels else _TokenDistance.apply
    return global_mean(distance(student, teacher).sum(), mask.any(dim=1).sum())


class NST(DistillationObjective):
    """`nst_loss` as an objective."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, **extra) -> Tensor:
        return nst_loss(student, teacher, mask)


def _unit_channels(states: Tensor, mask: Tensor) -> Tensor:
    """Channels of length 1 over the real tokens, scaled so that the Gram is a mean [B, L, D]."""
    kept = states.masked_fill(~mask[..., None], 0)  # filled, not multiplied: NaN · 0 is NaN
    # The floor keeps channels that are zero everywhere, and their gradient, at zero.
    lengths = kept.square().sum(dim=1, keepdim=True).clamp(min=1e-24).sqrt()  # [B, 1, D]
    return kept * (states.shape[2] ** -0.5 / lengths)


class _TokenDistance(torch.autograd.Function):
    """‖SSᵀ − TTᵀ‖²_F of each sentence through L × L Grams, [B]; T gets no gradient.

    Written out because dS = 4 (SSᵀ − TTᵀ) S is one product, where autograd, which sees two
    factors S and not that the Gram is symmetric, makes two and adds them.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor) -> Tensor:
        gap = student @ student.transpose(1, 2) - teacher @ teacher.transpose(1, 2)  # [B, L, L]
        ctx.save_for_backward(student, gap)
        return gap.square().sum(dim=(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        student, gap = ctx.saved_tensors
        return (4 * grad[:, None, None] * gap) @ student, None


def _channel_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The same through D × D Grams, cheaper when there are more tokens than channels, [B].

    The usual expansion ‖SᵀS‖² − 2‖SᵀT‖² + ‖TᵀT‖² cancels to noise near the optimum. With
    P = S − T and Q = S + T the difference of Grams is (PQᵀ + QPᵀ)/2, and every term is small
    when P is.
    """
    size = max(student.shape[2], teacher.shape[2])
    student = F.pad(student, (0, size - student.shape[2]))  # empty channels change no Gram
    teacher = F.pad(teacher, (0, size - teacher.shape[2]))
    gap, total = student - teacher, student + teacher
    cross = gap.transpose(1, 2) @ total  # [B, D, D]
    product = (gap.transpose(1, 2) @ gap) * (total.transpose(1, 2) @ total)
    twice = (product + cross * cross.transpose(1, 2)).sum(dim=(1, 2))
    return twice.clamp(min=0) / 2  # rounding may leave -1e-9
