"""Losses are computed in float32 (or float64), whatever precision the model runs in.

In bfloat16 a difference of two nearly equal Grams rounds to zero, so an objective would stop
teaching exactly where it matters: near its optimum.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

_HALF = (torch.float16, torch.bfloat16)


def full_precision(loss: Callable) -> Callable:
    """Run a loss outside autocast, with its half-precision tensors raised to float32."""

    @functools.wraps(loss)
    def in_full_precision(*arguments, **settings):
        device = next(a.device for a in arguments if isinstance(a, torch.Tensor))
        with torch.autocast(device_type=device.type, enabled=False):
            return loss(*map(_raised, arguments), **{k: _raised(v) for k, v in settings.items()})

    return in_full_precision


def _raised(value):
    is_half = isinstance(value, torch.Tensor) and value.dtype in _HALF
    return value.float() if is_half else value
