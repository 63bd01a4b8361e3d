"""Batches of states for the loss tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


@pytest.fixture
def make_batch() -> Callable:
    """make_batch(B, L, Ds, Dt, seed) -> float64 student, teacher and a ragged mask.

    Every sentence has a token, the first has none at its beginning (a special token) and the
    last fills the whole length.
    """

    def make(rows=4, length=6, student_size=5, teacher_size=5, seed=0):
        generator = torch.Generator().manual_seed(seed)
        sides = [
            torch.randn(rows, length, size, generator=generator, dtype=torch.float64)
            for size in (student_size, teacher_size)
        ]
        lengths = torch.randint(min(2, length), length + 1, (rows,), generator=generator)
        lengths[-1] = length
        mask = torch.arange(length) < lengths[:, None]
        mask[0, 0] = length == 1
        return *sides, mask

    return make
