"""Heads: the projection into joint space, and the distillation heads before each objective."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from core.config import SettingsError
from core.losses.catalog import get_loss
from core.models.linear import Linear


class ProjectionHead(nn.Module):
    """States [..., H] -> unit vectors [..., D] of the joint space."""

    def __init__(self, hidden: int, joint_size: int):
        super().__init__()
        self.dense = Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.output = Linear(hidden, joint_size)

    def forward(self, states: Tensor) -> Tensor:
        vectors = self.output(self.norm(F.gelu(self.dense(states))))
        return F.normalize(vectors.float(), dim=-1)  # unit to float32's precision under autocast


class DistillationHead(nn.Sequential):
    """Linear, GELU, Linear: states [..., H] -> [..., size]. Dropped when the student is exported.

    Starts from torch's own initialisation: BERT's small one gives short vectors, whose
    normalisation in CRD multiplies the gradient by 50 and starves the other terms when clipped.
    """

    def __init__(self, hidden: int, size: int):
        super().__init__(Linear(hidden, hidden), nn.GELU(), Linear(hidden, size))


class HeadedObjective(nn.Module):
    """An objective of the catalog with the trained heads that stand before it.

    The student's side has a head that maps to the size the objective asks for; CRD's teacher
    side has one too. `heads=False` is the ablation: no heads where the formula allows it.
    """

    def __init__(
        self,
        name: str,
        student_size: int,
        teacher_size: int,
        heads: bool = True,
        num_clips: int = 0,
        **options,
    ):
        super().__init__()
        self.name = name
        self.loss = get_loss(name)(**options)
        self.takes = self.loss.takes
        self.student_head = self.teacher_head = nn.Identity()
        size = self.loss.head_size
        if self.takes == "vokens":
            # The classifier over clips is the objective itself, with or without an MLP before it.
            self.student_head = _head(student_size, num_clips, heads)
        elif heads and self.takes == "states":
            wanted = size or (teacher_size if self.loss.needs_equal_size else student_size)
            self.student_head = DistillationHead(student_size, wanted)
            if self.loss.teacher_head:
                self.teacher_head = DistillationHead(teacher_size, wanted)
        elif self._compares_directly and student_size != teacher_size:
            raise SettingsError(
                f"Without heads '{name}' wants a student as wide as its teacher: found "
                f"{student_size} and {teacher_size}. Set text.hidden_size={teacher_size}, or "
                "heads=true."
            )

    @property
    def _compares_directly(self) -> bool:
        """Whether a student's vector is set against a teacher's, so that sizes must agree."""
        return self.loss.needs_equal_size or self.loss.teacher_head

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None, **extra) -> Tensor:
        """states [B, L, Hs] and [B, L, Ht], or logits [M, V] each, or vokens int64 [B, L]."""
        return self.loss(self.student_head(student), self.teacher_head(teacher), mask, **extra)


def _head(hidden: int, size: int, deep: bool) -> nn.Module:
    return DistillationHead(hidden, size) if deep else Linear(hidden, size)
