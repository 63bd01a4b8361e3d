"""An open video file: its frames in order of time, from wherever one asks, whole or damaged."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from core.extraction.pictures import (
    cropped,
    display_matrix,
    even,
    rotation_of,
    scaled,
    turned,
)

# Extraction runs a process per core, and each seek makes frame threads start over: one thread
# was the faster one, and it cannot deadlock.
DECODER_THREADS = 1
# Matroska rounds time stamps to milliseconds: a frame of 66.67 ms is stamped 67.
EPSILON_SEC = 6e-4
# A missing end is filled with the last good frame for this long, no longer.
TAIL_SEC = 1.0
# Decoding forward over less than this is cheaper than a seek, which flushes the decoder.
_MIN_JUMP_SEC = 1.0
# Formats by content, not by name. Playlists and concat scripts are absent on purpose: a text
# file named .mp4 must not make the decoder open other files.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,"
    "h264,hevc,m4v,ivf,dv,mxf,nut,rm,gif"
)

# What goes wrong is said by UnreadableVideo; FFmpeg's own lines would fill the terminal. Any
# level but None sends them through Python, where decoder threads wait for the interpreter's
# lock and can hang for ever (github.com/PyAV-Org/PyAV/issues/751).
av.logging.set_level(None)


class UnreadableVideo(RuntimeError):
    """A video that cannot be decoded, or not up to the time asked for. One line says why."""


@dataclass(frozen=True)
class Shown:
    """A decoded frame and the span in which it is on screen."""

    start_sec: float
    end_sec: float
    frame: av.VideoFrame
    after_damage: bool  # something before it could not be decoded


class VideoFile:
    """An open video stream that moves forward, jumping to keyframes where that saves decoding."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.container = _open(self.path)
        self.seeks = 0
        try:
            self.stream = _video_stream(self.container)
            self._prepare()
        except BaseException:
            self.container.close()
            raise

    def _prepare(self) -> None:
        self.stream.codec_context.thread_count = DECODER_THREADS
        self.time_base = self.stream.time_base
        self.zero_sec = _start_sec(self.container, self.stream)
        self.frame_rate = float(self.stream.average_rate or self.stream.guessed_rate or 25)
        self.codec = self.stream.codec_context.codec.canonical_name
        self.duration_sec = max(0.0, self._header_end() - self.zero_sec)
        self.stamped_in_decode_order = self._has_decode_order_stamps()
        self._frames = self._decode(wait_for_keyframe=False)
        self._current: Shown | None = None
        self._ahead: Shown | None = None
        self._started = False
        # Without an index of keyframes a seek is a guess; it is made from this distance on.
        self._blind_jump_sec = 2 * _MIN_JUMP_SEC
        self._reformatter = VideoReformatter()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *exc) -> None:
        self._frames = iter(())
        self.container.close()

    # -- where the frames are --

    def frame_at(self, sec: float) -> Shown:
        """The frame on screen at a time; times must not go back. Raises UnreadableVideo."""
        self._start()
        if self._should_jump(sec):
            self._jump(sec)
        while self._ahead is not None and self._ahead.start_sec <= sec + EPSILON_SEC:
            self._step()
        shown = self._current or self._ahead
        if shown is None:
            raise UnreadableVideo("No frame can be decoded: the file is damaged or cut short.")
        if self._is_missing(sec):
            raise UnreadableVideo(self._missing_reason(sec))
        return shown

    def following(self) -> Iterator[Shown]:
        """The frames after the one that frame_at() gave last."""
        while self._ahead is not None:
            self._step()
            yield self._current

    def last_frame(self) -> Shown:
        """The last frame that decodes. Raises UnreadableVideo when there is none."""
        self._start()
        if self.duration_sec > 2 * _MIN_JUMP_SEC:
            self._jump(self.duration_sec - _MIN_JUMP_SEC)
        while self._ahead is not None:
            self._step()
        if self._current is None:
            raise UnreadableVideo("No frame can be decoded: the file is damaged or cut short.")
        return self._current

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._ahead = next(self._frames, None)

    def _step(self) -> None:
        self._current, self._ahead = self._ahead, next(self._frames, None)

    def _is_missing(self, sec: float) -> bool:
        if self._current is None or sec <= self._current.end_sec + TAIL_SEC + EPSILON_SEC:
            return False
        return self._ahead is None or self._ahead.after_damage

    def _missing_reason(self, sec: float) -> str:
        broke_sec = self._current.end_sec
        if self._ahead is None:
            where = f"Nothing decodes after {broke_sec:.1f} s (wanted {sec:.1f} s)"
        else:
            again_sec = self._ahead.start_sec
            where = (
                f"Nothing decodes from {broke_sec:.1f} to {again_sec:.1f} s (wanted {sec:.1f} s)"
            )
        return f"{where}: the file is damaged or cut short."

    # -- jumping --

    def _should_jump(self, sec: float) -> bool:
        if self._ahead is None or sec - self._ahead.start_sec < _MIN_JUMP_SEC:
            return False
        position = self._ahead.start_sec
        keyframe = self._keyframe_before(sec, position)
        if keyframe is None:
            return sec - position > self._blind_jump_sec
        return keyframe - position > _MIN_JUMP_SEC / 2

    def _keyframe_before(self, sec: float, position: float) -> float | None:
        """By the container's index; None where the index does not reach that far."""
        index = self.stream.index_entries
        if not len(index):
            return None
        row = index.search_timestamp(self._stamp(sec), backward=True, any_frame=False)
        known_until = self.sec(index[len(index) - 1].timestamp)
        return None if row < 0 or known_until <= position else self.sec(index[row].timestamp)

    def _jump(self, sec: float) -> None:
        """Go to the last keyframe that lets the frame at `sec` decode, however far back it is."""
        position = self._ahead.start_sec if self._ahead else 0.0
        back_sec = 0.0
        while True:
            target = max(0.0, sec - back_sec)
            frames = self._decode_from(target)
            first = next(frames, None)
            if target == 0 or (first and first.start_sec <= sec + EPSILON_SEC):
                break
            back_sec = max(1.0, 4 * back_sec)
        if first and first.start_sec <= position:
            self._blind_jump_sec = 2 * (sec - first.start_sec)  # keyframes are further apart
        self._frames = frames
        self._current, self._ahead = None, first

    def _decode_from(self, sec: float) -> Iterator[Shown]:
        self.seeks += 1
        try:
            offset = self._stamp(sec) if sec > 0 else min(0, self.stream.start_time or 0)
            self.container.seek(offset, stream=self.stream)
        except av.FFmpegError:
            self._reopen()  # a format that cannot seek is read from its start
            return self._decode(wait_for_keyframe=False)
        return self._decode(wait_for_keyframe=sec > 0)

    def _reopen(self) -> None:
        self.container.close()
        self.container = _open(self.path)
        self.stream = _video_stream(self.container)
        self.stream.codec_context.thread_count = DECODER_THREADS

    # -- decoding --

    def _decode(self, wait_for_keyframe: bool) -> Iterator[Shown]:
        damaged, last_sec = False, -math.inf
        first_sec = -math.inf  # frames before the keyframe lean on pictures we have not seen
        stamps: list[int] = []
        for packet in self.packets():
            if packet is not None:
                if wait_for_keyframe and not packet.is_keyframe:
                    continue
                if wait_for_keyframe and packet.pts is not None:
                    first_sec = self.sec(packet.pts)
                wait_for_keyframe = False
                if packet.is_corrupt:
                    damaged = True
                    continue
                if packet.pts is not None and not packet.is_discard:
                    heapq.heappush(stamps, packet.pts)
            frames, failed = self._decode_packet(packet)
            damaged |= failed
            for frame in frames:
                sec = self._frame_sec(frame, stamps)
                if frame.is_corrupt:
                    damaged = True
                elif sec is not None and sec > last_sec and sec >= first_sec - EPSILON_SEC:
                    last_sec = sec
                    yield Shown(sec, sec + self._length_sec(frame), frame, damaged)
                    damaged = False

    def packets(self) -> Iterator[av.Packet | None]:
        """Packets of the stream, then None to bring out the decoder's last frames."""
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    yield packet
        except av.FFmpegError:
            pass  # the rest cannot be reached; what is missing shows as a missing end
        yield None

    def _decode_packet(self, packet: av.Packet | None) -> tuple[list[av.VideoFrame], bool]:
        try:
            return self.stream.decode(packet), False
        except av.FFmpegError:
            return [], packet is not None

    def _frame_sec(self, frame: av.VideoFrame, stamps: list[int]) -> float | None:
        if self.stamped_in_decode_order:
            return self.sec(heapq.heappop(stamps)) if stamps else None
        stamps.clear()
        stamp = frame.pts if frame.pts is not None else frame.dts
        return None if stamp is None else self.sec(stamp)

    def _has_decode_order_stamps(self) -> bool:
        """True for files written without reordering offsets: B-frames stamped in coding order.

        Their k-th displayed frame gets the k-th smallest stamp.
        """
        if not self.stream.codec_context.has_b_frames or "mov" not in self.container.format.name:
            return False
        packets = []
        for packet in self.packets():
            if packet is None or len(packets) == 32:
                break
            packets.append((packet.pts, packet.dts))
        self.container.seek(min(0, self.stream.start_time or 0), stream=self.stream)
        return len(packets) > 2 and all(pts == dts is not None for pts, dts in packets)

    def _length_sec(self, frame: av.VideoFrame) -> float:
        length = float((frame.duration or 0) * self.time_base)
        return length if length > 0 else 1 / self.frame_rate

    def _header_end(self) -> float:
        """The stream's end on the container's clock, by the header, else by its packets."""
        stream = self.stream
        if stream.duration:
            return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        tagged = _clock(stream.metadata.get("DURATION", ""))  # Matroska, one per stream
        if tagged:
            return tagged
        if self.container.duration:
            return self.container.duration / av.time_base
        return self._packet_end()

    def _packet_end(self) -> float:
        ends = [
            float((packet.pts + (packet.duration or 0)) * self.time_base)
            for packet in self.packets()
            if packet is not None and packet.pts is not None
        ]
        self._reopen()
        return max(ends, default=0.0)

    def sec(self, stamp: int) -> float:
        return float(stamp * self.time_base) - self.zero_sec

    def _stamp(self, sec: float) -> int:
        return math.floor((sec + EPSILON_SEC + self.zero_sec) / self.time_base)

    # -- pictures --

    def picture(self, frame: av.VideoFrame, size: int | None) -> np.ndarray:
        """RGB uint8 [h, w, 3] as displayed; with a size, the middle square of that side."""
        width, height = scaled(*self._square_pixels(frame), size)
        return turned(cropped(self._rgb(frame, width, height), size), display_matrix(frame))

    def picture_within(self, frame: av.VideoFrame, max_width: int, max_height: int) -> np.ndarray:
        """RGB as displayed, shrunk to fit, with even sides (as H.264 wants them)."""
        shown_height, shown_width = self.display_shape(frame)
        scale = min(1.0, max_width / shown_width, max_height / shown_height)
        width, height = (even(side * scale) for side in self._square_pixels(frame))
        return turned(self._rgb(frame, width, height), display_matrix(frame))

    def display_shape(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(height, width) on screen."""
        width, height = self._square_pixels(frame)
        turned = rotation_of(display_matrix(frame)) in (90, 270)
        return (width, height) if turned else (height, width)

    def _square_pixels(self, frame: av.VideoFrame) -> tuple[int, int]:
        ratio = float(self.stream.sample_aspect_ratio or 1) or 1.0
        return max(1, round(frame.width * ratio)), frame.height

    def _rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        picture = self._reformatter.reformat(
            frame, width, height, "rgb24", interpolation="BICUBIC", threads=1
        )
        return picture.to_ndarray()


def _open(path: Path) -> av.container.InputContainer:
    path = Path(path).absolute()
    try:
        if path.stat().st_size == 0:
            raise UnreadableVideo("The file is empty (0 bytes): copy or download it again.")
        return av.open(str(path), options={"format_whitelist": _FORMATS})
    except av.FFmpegError as error:
        raise UnreadableVideo(_open_reason(error)) from None
    except OSError as error:
        raise UnreadableVideo(f"The file cannot be read: {error.strerror}.") from None
    except UnicodeEncodeError:
        raise UnreadableVideo("The file's name is not valid UTF-8: rename the file.") from None


def _open_reason(error: av.FFmpegError) -> str:
    if isinstance(error, PermissionError):
        return "The file cannot be read: permission denied."
    return f"Not a video, or its header is damaged ({error.strerror})."


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    for stream in container.streams.video:
        # The cover picture of an audio file is a video stream of one frame.
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:
                raise UnreadableVideo("Its video codec is not supported: convert it to H.264.")
            return stream
    kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
    raise UnreadableVideo(f"No video stream: the file holds {', '.join(kinds)} only.")


def _start_sec(container, stream) -> float:
    if container.start_time is not None:
        return container.start_time / av.time_base
    return float((stream.start_time or 0) * stream.time_base)


def _clock(text: str) -> float:
    """Seconds of HH:MM:SS.fraction; 0 for anything else."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0
