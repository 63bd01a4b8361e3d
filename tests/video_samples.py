"""Small real videos for tests, each frame carrying its own number as a pattern of blocks."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from core.data.video_inspection import inspect_file

HEIGHT, WIDTH = 96, 160
_CELL = HEIGHT // 4  # the middle square holds 4 x 4 cells
_BITS = 14  # of the 16 cells; the first is always white, the last black, which shows a turn
_CLOCK = 90_000


def numbered_picture(number: int) -> np.ndarray:
    """RGB uint8 [96, 160, 3]: grey sides, and the number in black and white blocks."""
    cells = [1, *((number >> bit) & 1 for bit in range(_BITS)), 0]
    blocks = np.kron(np.reshape(cells, (4, 4)), np.ones((_CELL, _CELL)))
    picture = np.full((HEIGHT, WIDTH), 128, np.uint8)
    left = (WIDTH - HEIGHT) // 2
    picture[:, left : left + HEIGHT] = 20 + 215 * blocks
    return np.repeat(picture[..., None], 3, axis=2)


def number_of(picture: np.ndarray) -> int:
    """The number that a decoded picture shows; raises if it is turned, mirrored or no such one."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    grey = picture[top : top + side, left : left + side].mean(axis=2)
    centres = ((np.arange(4) + 0.5) * side / 4).astype(int)
    values = grey[np.ix_(centres, centres)].ravel()
    assert ((values < 70) | (values > 185)).all(), f"not black and white: {values.round()}"
    cells = values > 128
    assert cells[0] and not cells[-1], "the picture is turned or mirrored"
    return int(sum(1 << bit for bit in range(_BITS) if cells[1 + bit]))


def make_video(
    path: Path,
    frames: int | Sequence[float] = 50,
    *,
    rate: int = 25,
    codec: str = "libx264",
    gop: int = 12,
    b_frames: int = 0,
    turn: int = 0,
    mirror: bool = False,
    offset_sec: float = 0.0,
    pixel_shape: Fraction | None = None,
    first_number: int = 0,
    container_options: dict | None = None,
) -> Path:
    """Write frames numbered 0, 1, … to `path`; its suffix chooses the container.

    frames: how many, or the start of each in seconds (a variable rate). turn: degrees clockwise
    that a player must turn the stored pictures to show them upright.
    """
    starts = [k / rate for k in range(frames)] if isinstance(frames, int) else list(frames)
    options = dict(container_options or {"movflags": "+faststart"} if _is_mov(path) else {})
    options |= container_options or {}
    with av.open(str(path), "w", options=options) as container:
        stream = _stream(container, codec, rate, gop, b_frames, turn, mirror)
        if pixel_shape:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        for number, start in enumerate(starts, start=first_number):
            frame = av.VideoFrame.from_ndarray(_stored(number, turn, mirror), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = _stamp(start + offset_sec, stream)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_audio(path: Path, seconds: float = 1.0) -> Path:
    """A file with a tone and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        times = np.arange(int(16_000 * seconds)) / 16_000
        for first in range(0, len(times), 1024):
            tone = np.sin(2 * np.pi * 440 * times[first : first + 1024]).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_short(path: Path, fraction: float) -> Path:
    """Throw away the end of a file, as a broken-off download does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def inspect_or_die(job):
    """Inspect a file for import, but die on one named deadly as a crashing decoder does.

    Stands here because worker processes load this module quickly.
    """
    if job.path.stem == "deadly":
        os.kill(os.getpid(), signal.SIGSEGV)
    return inspect_file(job)


def _is_mov(path: Path) -> bool:
    return path.suffix.lower() in (".mp4", ".mov", ".m4v")


def _stream(container, codec, rate, gop, b_frames, turn, mirror) -> av.VideoStream:
    stream = container.add_stream(codec, rate=rate)
    height, width = _stored(0, turn, mirror).shape[:2]
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    stream.gop_size, stream.codec_context.max_b_frames = gop, b_frames
    if codec == "libx264":
        stream.options = {"preset": "ultrafast", "crf": "18", "bf": str(b_frames)}
        stream.options |= {"keyint": str(gop), "sc_threshold": "0", "x264-params": "b-adapt=0"}
        stream.codec_context.time_base = Fraction(1, _CLOCK)
    elif codec.startswith("libvpx"):
        stream.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "16"}
        stream.codec_context.time_base = Fraction(1, 1000)
    stream.codec_context.thread_count = 1
    if turn or mirror:
        # FFmpeg counts counter-clockwise; a player mirrors after the turn.
        stream.set_display_rotation(-turn, hflip=mirror)
    return stream


def _stored(number: int, turn: int, mirror: bool) -> np.ndarray:
    """The picture as it must lie in the file to be upright after the player's turn."""
    picture = numbered_picture(number)
    picture = picture[:, ::-1] if mirror else picture
    return np.ascontiguousarray(np.rot90(picture, k=turn // 90))  # counter-clockwise


def _stamp(sec: float, stream) -> tuple[int, Fraction]:
    base = stream.codec_context.time_base or 1 / stream.codec_context.framerate
    return round(sec / base), base
