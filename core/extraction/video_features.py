"""One video through the backbones: decode once, one row a second and stream.

Step k of a video is [k, k + 1) seconds; the last step may be short. A frame backbone sees the
frame in the middle of each step. A temporal backbone sees windows of 16/24 s, one after the
other; a step's row is the mean of the windows it overlaps, weighted by how much.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from core.extraction.backbones import WINDOW_SEC, Backbone
from core.extraction.decoding import UnreadableVideo, read_frames
from core.records import Video

GONE = "The file is not there any more"
CHANGED = "The file has changed since it was imported"

# Frames are decoded at this size and shrunk for backbones that want less, always: then a
# stream's rows are the same bytes whether or not another stream shares the decoding.
_DECODED_SIZE = 224
_TICKS = 1_000_000  # a second in whole microseconds, so that equal times compare equal


@dataclass(frozen=True)
class Windows:
    """When a stream looks, and how its looks become rows.

    Row k is the sum of weights[k, i] times the vector of window parts[k, i].
    """

    starts_sec: np.ndarray  # [W] ascending
    parts: np.ndarray  # int [S, P], the windows that a step overlaps
    weights: np.ndarray  # float32 [S, P]; each row adds up to 1

    def resample(self, vectors: np.ndarray) -> np.ndarray:
        """Window vectors [W, dim] to step rows [S, dim]."""
        return sum(
            self.weights[:, i, None] * vectors[self.parts[:, i]] for i in range(self.parts.shape[1])
        )


def frame_windows(duration_sec: float, num_steps: int) -> Windows:
    """One look in the middle of each step, or of what there is of the last one."""
    steps = np.arange(num_steps)
    ends = np.minimum(steps + 1, np.maximum(duration_sec, steps))
    ones = np.ones((num_steps, 1), np.float32)
    return Windows((steps + ends) / 2, steps[:, None], ones)


def temporal_windows(duration_sec: float, num_steps: int) -> Windows:
    """Windows of 16/24 s that tile the video; a step overlaps up to three of them."""
    num_windows = max(1, int(np.ceil(duration_sec / WINDOW_SEC - 1e-3)))
    starts = np.arange(num_windows) * WINDOW_SEC
    ends = np.minimum(starts + WINDOW_SEC, max(duration_sec, WINDOW_SEC))
    steps = np.arange(num_steps)[:, None]
    parts = (np.floor(steps / WINDOW_SEC + 1e-6) + np.arange(3)).astype(int)  # [S, 3]
    beyond, parts = parts >= num_windows, np.minimum(parts, num_windows - 1)
    overlap = np.minimum(steps + 1, ends[parts]) - np.maximum(steps, starts[parts])
    overlap = np.where(beyond, 0, np.maximum(overlap, 0))
    weights = overlap / overlap.sum(axis=1, keepdims=True)
    # The last window would look past the end, where nothing moves: it ends with the video.
    latest = max(0.0, np.floor((duration_sec - WINDOW_SEC) * 24 + 1e-6) / 24)
    return Windows(np.minimum(starts, latest), parts, weights.astype(np.float32))


def encode_video(
    video: Video, backbones: Mapping[str, Backbone], decoder: str, batch_frames: int
) -> dict[str, np.ndarray]:
    """Rows of one video for each stream ("2d", "temporal"): float32 [S, dim].

    Memory is bounded by batch_frames, whatever the length. Raises UnreadableVideo with a
    one-line reason, also when the file is gone or is not the one that was imported.
    """
    _check_file(video)
    streams = {name: _Stream(name, b, video, batch_frames) for name, b in backbones.items()}
    by_size = defaultdict(list)
    for stream in streams.values():
        by_size[max(_DECODED_SIZE, stream.backbone.image_size)].append(stream)
    for size, group in by_size.items():
        ticks = sorted(set().union(*(stream.wanted for stream in group)))
        for tick, frame in zip(ticks, _decode(video.path, ticks, size, decoder)):
            for stream in group:
                stream.see(tick, frame)
    return {name: stream.rows() for name, stream in streams.items()}


class _Stream:
    """Collects the frames of a backbone's windows and encodes full batches of windows."""

    def __init__(self, name: str, backbone: Backbone, video: Video, batch_frames: int):
        make = frame_windows if name == "2d" else temporal_windows
        self.backbone = backbone
        self.windows = make(video.duration_sec, video.num_steps)
        self.batch_windows = max(1, batch_frames // backbone.num_frames)
        times = self.windows.starts_sec[:, None] + np.asarray(backbone.offsets_sec)
        self.wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)  # tick -> window, slot
        for (window, slot), sec in np.ndenumerate(times):
            self.wanted[round(sec * _TICKS)].append((window, slot))
        self._open: dict[int, list] = {}
        self._full: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []

    def see(self, tick: int, frame: np.ndarray) -> None:
        places = self.wanted.get(tick)
        if not places:
            return
        frame = _shrink(frame, self.backbone.image_size)
        for window, slot in places:
            frames = self._open.setdefault(window, [None] * self.backbone.num_frames)
            frames[slot] = frame
            if slot == self.backbone.num_frames - 1:  # times ascend: the last slot comes last
                self._full.append(np.stack(self._open.pop(window)))
        if len(self._full) >= self.batch_windows:
            self._encode()

    def rows(self) -> np.ndarray:
        """Window vectors resampled to the steps: float32 [S, dim]."""
        if self._full:
            self._encode()
        return self.windows.resample(np.concatenate(self._vectors))

    def _encode(self) -> None:
        self._vectors.append(self.backbone.encode(np.stack(self._full)))
        self._full = []


def _check_file(video: Video) -> None:
    """Features are kept under the content's hash, so the content must be that one."""
    if not video.path.is_file():
        raise UnreadableVideo(f"{GONE}: {video.path}")
    if file_hash(video.path) != video.content_hash:
        raise UnreadableVideo(f"{CHANGED}: {video.path}. Import its folder again.")


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, hex, as the library has it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _decode(path: Path, ticks: list[int], size: int, decoder: str) -> Iterator[np.ndarray]:
    times = [tick / _TICKS for tick in ticks]
    try:
        yield from read_frames(path, times, size=size, decoder=decoder)
    except UnreadableVideo:
        raise
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        # A file can break a decoder in ways it has no name for; the other videos go on.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UnreadableVideo(f"The decoder failed: {reason}") from error


def _shrink(frame: np.ndarray, size: int) -> np.ndarray:
    if frame.shape[0] == size:
        return frame
    return cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
