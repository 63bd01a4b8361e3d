"""What a backbone is, and what all of them share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

WINDOW_FRAMES = 16  # of a temporal window, at 24 frames/s: one window starts every 16/24 s
WINDOW_SEC = WINDOW_FRAMES / 24


class BackboneError(RuntimeError):
    """A backbone that cannot be found, is of the wrong kind, or lacks weights."""


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone. `encode` maps uint8 RGB [W, num_frames, s, s, 3] to float32 [W, dim]."""

    name: str
    image_size: int  # s: pixels of the square that it wants to see
    offsets_sec: tuple[float, ...]  # of its frames from a window's start; (0,) for one frame
    encode: Callable[[np.ndarray], np.ndarray]

    @property
    def num_frames(self) -> int:
        return len(self.offsets_sec)


def device() -> torch.device:
    """The GPU of this process's rank, where there is one."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank = int(os.environ.get("LOCAL_RANK", 0))
    return torch.device("cuda", rank % torch.cuda.device_count())


def without_gradients(encode: Callable) -> Callable:
    def run(windows: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return encode(windows)

    return run


def file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
