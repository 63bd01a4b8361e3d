"""Video files to pictures: what a file holds, its frames at given times, short cuts of it.

Time zero is where players start the file (the container's start); the frame at `t` is the one
on screen then, by the file's own time stamps. Pictures are as displayed: turned, mirrored and
stretched as the file asks. PyAV decodes by default; decord is the optional second decoder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np

from core.config import SettingsError
from core.extraction.pictures import cropped, display_matrix, is_mirrored, rotation_of, scaled
from core.extraction.video_file import (
    DECODER_THREADS,
    EPSILON_SEC,
    TAIL_SEC,
    UnreadableVideo,
    VideoFile,
)

__all__ = [
    "DECODERS",
    "UnreadableVideo",
    "VideoFacts",
    "cut_preview",
    "find_end",
    "probe_video",
    "read_frames",
    "thumbnail",
]

DECODERS = ("pyav", "decord")
_ENCODER_THREADS = 2
_DECORD_BLOCK = 16  # pictures held at a time
_PREVIEW_CLOCK = 90_000  # ticks per second, divisible by the usual frame rates


@dataclass(frozen=True)
class VideoFacts:
    """What a file says of itself. Sizes are as displayed, in pixels."""

    duration_sec: float  # by the header; find_end() says what really decodes
    frame_rate: float  # average
    width: int
    height: int
    rotation: int  # clockwise turn for display, already applied to width and height
    codec: str
    num_frames: int | None  # None where the container does not count them


def probe_video(path: Path) -> VideoFacts:
    """Read a file's facts and decode its first frame.

    Raises UnreadableVideo with a one-line reason.
    """
    with VideoFile(path) as video:
        first = video.frame_at(0.0).frame
        return VideoFacts(
            duration_sec=video.duration_sec,
            frame_rate=video.frame_rate,
            width=(shape := video.display_shape(first))[1],
            height=shape[0],
            rotation=rotation_of(display_matrix(first)),
            codec=video.codec,
            num_frames=video.stream.frames or None,
        )


def find_end(path: Path) -> float:
    """Decode the end of a file: the second at which its last good frame leaves the screen.

    Cheap on a sound file (one seek); a damaged one is searched backwards for what decodes.
    Raises UnreadableVideo when nothing does.
    """
    with VideoFile(path) as video:
        last = video.last_frame()
        # The header may cut the last frame short; it cannot make it last longer.
        cut_short = last.start_sec < video.duration_sec < last.end_sec
        return video.duration_sec if cut_short else last.end_sec


def thumbnail(path: Path, sec: float, *, longest_side: int) -> np.ndarray:
    """The picture at a time, uint8 RGB [h, w, 3] as displayed, shrunk to fit a square."""
    with VideoFile(path) as video:
        return video.picture_within(video.frame_at(sec).frame, longest_side, longest_side)


def read_frames(
    path: Path, times_sec: Sequence[float], *, size: int | None = None, decoder: str = "pyav"
) -> Iterator[np.ndarray]:
    """Yield the frame on screen at each time, uint8 RGB [h, w, 3], one after another.

    times_sec: seconds from the start, ascending. size: the shorter side is scaled to it and the
    middle size x size square is cut out; None keeps the displayed size. One picture is held at a
    time, so a long video needs no more memory than a short one. A time before the first frame
    gives the first frame; one after the last, the last for TAIL_SEC seconds.

    Raises ValueError for times that are negative or not ascending; SettingsError for a decoder
    that is unknown or not installed; UnreadableVideo, when the frame is reached, for a time that does not decode.
    """
    times = np.asarray(times_sec, dtype=float)
    if times.ndim != 1 or not np.isfinite(times).all() or (times < 0).any():
        raise ValueError(f"Wanted a list of times of 0 s or more, found {times_sec!r}.")
    if (np.diff(times) < 0).any():
        raise ValueError("Wanted times in ascending order: sort them before read_frames().")
    if decoder not in DECODERS:
        raise SettingsError(f"Unknown decoder '{decoder}'. Known: {', '.join(DECODERS)}.")
    if decoder == "decord":
        _import_decord()  # a missing package is told at once, not at the first picture
    read = _read_with_pyav if decoder == "pyav" else _read_with_decord
    return read(Path(path), times.tolist(), size)


def cut_preview(
    path: Path, start_sec: float, end_sec: float, out: Path, *, max_height: int = 480
) -> Path:
    """Write [start, end) as an H.264 MP4 that every browser plays and seeks in. Returns `out`.

    Cuts at the exact times (not at keyframes), keeps the true speed of every frame, applies the
    rotation, starts fast (index first). The sound is dropped. `out` appears only when whole.
    Raises ValueError for an empty span, UnreadableVideo when nothing decodes there.
    """
    if not 0 <= start_sec < end_sec:
        raise ValueError(f"Wanted 0 <= start < end, found {start_sec} to {end_sec} s.")
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.{os.getpid()}.part.mp4")
    try:
        with VideoFile(path) as video:
            _encode_preview(video, start_sec, end_sec, partial, max_height)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return out


# ---- PyAV ------------------------------------------------------------------------------


def _read_with_pyav(path: Path, times: list[float], size: int | None) -> Iterator[np.ndarray]:
    with VideoFile(path) as video:
        frame, picture = None, None
        for sec in times:
            shown = video.frame_at(sec).frame
            if shown is not frame:  # a slow video shows one frame at several times
                frame, picture = shown, video.picture(shown, size)
            yield picture.copy()


# ---- decord ----------------------------------------------------------------------------


def _read_with_decord(path: Path, times: list[float], size: int | None) -> Iterator[np.ndarray]:
    """What decord cannot place or decode PyAV reads instead, or says why nobody can."""
    decord = _import_decord()
    done = 0
    try:
        for picture in _decord_pictures(decord, path, times, size):
            yield picture
            done += 1
    except decord.DECORDError:
        pass  # PyAV takes over at the picture that failed
    if done < len(times):
        yield from _read_with_pyav(path, times[done:], size)


def _decord_pictures(
    decord, path: Path, times: list[float], size: int | None
) -> Iterator[np.ndarray]:
    """Pictures up to the last frame; fewer than the times where decord is not to be trusted."""
    with VideoFile(path) as video:
        first = video.frame_at(0.0).frame
        height, width = video.display_shape(first)
        if is_mirrored(display_matrix(first)):
            return
    width, height = scaled(width, height, size)
    reader = decord.VideoReader(str(path), width=width, height=height, num_threads=DECODER_THREADS)
    starts = _frame_starts(path, reader)
    if starts is None:
        return
    rows = np.searchsorted(starts, np.asarray(times) + EPSILON_SEC, side="right") - 1
    rows = rows[np.asarray(times) <= starts[-1] + TAIL_SEC].clip(0)
    for block in range(0, len(rows), _DECORD_BLOCK):
        for picture in reader.get_batch(rows[block : block + _DECORD_BLOCK].tolist()).asnumpy():
            yield cropped(picture, size)


def _import_decord():
    try:
        import decord
    except ImportError:
        raise SettingsError(
            "The decoder decord is not installed. Run: pip install decord==0.6.0, "
            "or take the default: --set decoder=pyav"
        ) from None
    decord.logging.set_level(decord.logging.FATAL)
    return decord


def _frame_starts(path: Path, reader) -> np.ndarray | None:
    """Every frame's start in seconds, ascending [num_frames], from the packets alone.

    None for damaged files and where decord numbers the frames otherwise (AVI without stamps,
    stamps in decode order, frames that an edit list hides): its frame n is another picture.
    """
    with VideoFile(path) as video:
        packets = [packet for packet in video.packets() if packet is not None]
        stamps = [packet.pts for packet in packets]
        if video.stamped_in_decode_order or any(packet.is_corrupt for packet in packets):
            return None
        if None in stamps or len(stamps) != len(reader):
            return None
        starts = np.sort([video.sec(stamp) for stamp in stamps])
    theirs = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]  # from the first frame on
    return starts if np.allclose(theirs, starts - starts[0], atol=2e-3) else None


# ---- previews --------------------------------------------------------------------------


def _encode_preview(
    video: VideoFile, start_sec: float, end_sec: float, out: Path, max_height: int
) -> None:
    spans = _spans(video, start_sec, end_sec)
    first = next(spans)
    picture = video.picture_within(first[2], 10**6, max_height)
    lengths: dict[int, int] = {}
    with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = _preview_stream(container, video.frame_rate, picture.shape)
        for begin, end, frame in chain([first], spans):
            picture = video.picture_within(frame, 10**6, max_height)
            encoded = av.VideoFrame.from_ndarray(picture, format="rgb24")
            encoded = encoded.reformat(stream.width, stream.height, "yuv420p")
            encoded.pts, encoded.time_base = _ticks(begin), Fraction(1, _PREVIEW_CLOCK)
            lengths[encoded.pts] = max(1, _ticks(end) - encoded.pts)
            _mux(container, stream.encode(encoded), lengths)
        _mux(container, stream.encode(None), lengths)


def _spans(
    video: VideoFile, start_sec: float, end_sec: float
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """(begin, end, frame) on the preview's clock: each frame stays until the next one comes."""
    shown = video.frame_at(start_sec)
    begin = start_sec
    for ahead in video.following():
        if ahead.start_sec >= end_sec - EPSILON_SEC:
            yield begin - start_sec, end_sec - start_sec, shown.frame
            return
        if ahead.start_sec > begin:
            yield begin - start_sec, ahead.start_sec - start_sec, shown.frame
        shown, begin = ahead, max(begin, ahead.start_sec)
    end = min(end_sec, max(shown.end_sec, begin + 1 / video.frame_rate))
    yield begin - start_sec, end - start_sec, shown.frame


def _preview_stream(container, frame_rate: float, shape: tuple[int, ...]) -> av.VideoStream:
    # No B-frames: the first frame is then at time 0 without an edit list. A keyframe a second
    # lets a player jump to any moment at once.
    options = {"preset": "veryfast", "crf": "23", "bf": "0"}
    stream = container.add_stream("libx264", rate=Fraction(frame_rate).limit_denominator(1001))
    stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
    stream.options = options
    stream.gop_size = max(1, round(frame_rate))
    stream.codec_context.time_base = Fraction(1, _PREVIEW_CLOCK)
    stream.codec_context.thread_count = _ENCODER_THREADS
    return stream


def _mux(container, packets: list[av.Packet], lengths: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = lengths.pop(packet.pts, packet.duration)
        container.mux(packet)


def _ticks(sec: float) -> int:
    return round(sec * _PREVIEW_CLOCK)
