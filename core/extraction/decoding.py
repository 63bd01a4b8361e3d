"""Video files to pictures: what a file holds, its frames at given times, short cuts of it.

Time zero is where players start the file (the container's start); the frame at `t` is the one
on screen then, by the file's own time stamps. Pictures are as displayed: turned, mirrored and
stretched as the file asks. PyAV decodes by default; decord is the optional second decoder.
"""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter

from core.config import SettingsError

DECODERS = ("pyav", "decord")

# Extraction runs a process per core, and each seek makes frame threads start over: one thread
# was the faster one, and it cannot deadlock.
DECODER_THREADS = 1
_ENCODER_THREADS = 2
# Matroska rounds time stamps to milliseconds: a frame of 66.67 ms is stamped 67.
_EPSILON_SEC = 6e-4
# A missing end is filled with the last good frame for this long, no longer.
TAIL_SEC = 1.0
# Decoding forward over less than this is cheaper than a seek, which flushes the decoder.
_MIN_JUMP_SEC = 1.0
# Formats by content, not by name. Playlists and concat scripts are absent on purpose: a text
# file named .mp4 must not make the decoder open other files.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,"
    "h264,hevc,m4v,ivf,dv,mxf,nut,rm,gif"
)
_DECORD_BLOCK = 16  # pictures held at a time
_PREVIEW_CLOCK = 90_000  # ticks per second, divisible by the usual frame rates

# What goes wrong is said by UnreadableVideo; FFmpeg's own lines would fill the terminal. Any
# level but None sends them through Python, where decoder threads wait for the interpreter's
# lock and can hang for ever (github.com/PyAV-Org/PyAV/issues/751).
av.logging.set_level(None)


class UnreadableVideo(RuntimeError):
    """A video that cannot be decoded, or not up to the time asked for. One line says why."""


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
    with _VideoFile(path) as video:
        first = video.frame_at(0.0).frame
        return VideoFacts(
            duration_sec=video.duration_sec,
            frame_rate=video.frame_rate,
            width=(shape := video.display_shape(first))[1],
            height=shape[0],
            rotation=_rotation(_display_matrix(first)),
            codec=video.codec,
            num_frames=video.stream.frames or None,
        )


def find_end(path: Path) -> float:
    """Decode the end of a file: the second at which its last good frame leaves the screen.

    Cheap on a sound file (one seek); a damaged one is searched backwards for what decodes.
    Raises UnreadableVideo when nothing does.
    """
    with _VideoFile(path) as video:
        last = video.last_frame()
        # The header may cut the last frame short; it cannot make it last longer.
        cut_short = last.start_sec < video.duration_sec < last.end_sec
        return video.duration_sec if cut_short else last.end_sec


def thumbnail(path: Path, sec: float, *, longest_side: int) -> np.ndarray:
    """The picture at a time, uint8 RGB [h, w, 3] as displayed, shrunk to fit a square."""
    with _VideoFile(path) as video:
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
        with _VideoFile(path) as video:
            _encode_preview(video, start_sec, end_sec, partial, max_height)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return out


# ---- PyAV ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """A decoded frame and the span in which it is on screen."""

    start_sec: float
    end_sec: float
    frame: av.VideoFrame
    after_damage: bool  # something before it could not be decoded


class _VideoFile:
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
        self._current: _Shown | None = None
        self._ahead: _Shown | None = None
        self._started = False
        # Without an index of keyframes a seek is a guess; it is made from this distance on.
        self._blind_jump_sec = 2 * _MIN_JUMP_SEC
        self._reformatter = VideoReformatter()

    def __enter__(self) -> _VideoFile:
        return self

    def __exit__(self, *exc) -> None:
        self._frames = iter(())
        self.container.close()

    # -- where the frames are --

    def frame_at(self, sec: float) -> _Shown:
        """The frame on screen at a time; times must not go back. Raises UnreadableVideo."""
        self._start()
        if self._should_jump(sec):
            self._jump(sec)
        while self._ahead is not None and self._ahead.start_sec <= sec + _EPSILON_SEC:
            self._step()
        shown = self._current or self._ahead
        if shown is None:
            raise UnreadableVideo("No frame can be decoded: the file is damaged or cut short.")
        if self._is_missing(sec):
            raise UnreadableVideo(self._missing_reason(sec))
        return shown

    def following(self) -> Iterator[_Shown]:
        """The frames after the one that frame_at() gave last."""
        while self._ahead is not None:
            self._step()
            yield self._current

    def last_frame(self) -> _Shown:
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
        if self._current is None or sec <= self._current.end_sec + TAIL_SEC + _EPSILON_SEC:
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
            if target == 0 or (first and first.start_sec <= sec + _EPSILON_SEC):
                break
            back_sec = max(1.0, 4 * back_sec)
        if first and first.start_sec <= position:
            self._blind_jump_sec = 2 * (sec - first.start_sec)  # keyframes are further apart
        self._frames = frames
        self._current, self._ahead = None, first

    def _decode_from(self, sec: float) -> Iterator[_Shown]:
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

    def _decode(self, wait_for_keyframe: bool) -> Iterator[_Shown]:
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
                elif sec is not None and sec > last_sec and sec >= first_sec - _EPSILON_SEC:
                    last_sec = sec
                    yield _Shown(sec, sec + self._length_sec(frame), frame, damaged)
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
        return math.floor((sec + _EPSILON_SEC + self.zero_sec) / self.time_base)

    # -- pictures --

    def picture(self, frame: av.VideoFrame, size: int | None) -> np.ndarray:
        """RGB uint8 [h, w, 3] as displayed; with a size, the middle square of that side."""
        width, height = _scaled(*self._square_pixels(frame), size)
        return _turn(_crop(self._rgb(frame, width, height), size), _display_matrix(frame))

    def picture_within(self, frame: av.VideoFrame, max_width: int, max_height: int) -> np.ndarray:
        """RGB as displayed, shrunk to fit, with even sides (as H.264 wants them)."""
        shown_height, shown_width = self.display_shape(frame)
        scale = min(1.0, max_width / shown_width, max_height / shown_height)
        width, height = (_even(side * scale) for side in self._square_pixels(frame))
        return _turn(self._rgb(frame, width, height), _display_matrix(frame))

    def display_shape(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(height, width) on screen."""
        width, height = self._square_pixels(frame)
        turned = _rotation(_display_matrix(frame)) in (90, 270)
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


def _read_with_pyav(path: Path, times: list[float], size: int | None) -> Iterator[np.ndarray]:
    with _VideoFile(path) as video:
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
    with _VideoFile(path) as video:
        first = video.frame_at(0.0).frame
        height, width = video.display_shape(first)
        if _is_mirrored(_display_matrix(first)):
            return
    width, height = _scaled(width, height, size)
    reader = decord.VideoReader(str(path), width=width, height=height, num_threads=DECODER_THREADS)
    starts = _frame_starts(path, reader)
    if starts is None:
        return
    rows = np.searchsorted(starts, np.asarray(times) + _EPSILON_SEC, side="right") - 1
    rows = rows[np.asarray(times) <= starts[-1] + TAIL_SEC].clip(0)
    for block in range(0, len(rows), _DECORD_BLOCK):
        for picture in reader.get_batch(rows[block : block + _DECORD_BLOCK].tolist()).asnumpy():
            yield _crop(picture, size)


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
    with _VideoFile(path) as video:
        packets = [packet for packet in video.packets() if packet is not None]
        stamps = [packet.pts for packet in packets]
        if video.stamped_in_decode_order or any(packet.is_corrupt for packet in packets):
            return None
        if None in stamps or len(stamps) != len(reader):
            return None
        starts = np.sort([video.sec(stamp) for stamp in stamps])
    theirs = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]  # from the first frame on
    return starts if np.allclose(theirs, starts - starts[0], atol=2e-3) else None


# ---- pictures --------------------------------------------------------------------------


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """The turn and mirroring (a, b, c, d): x' = ax + cy, y' = bx + dy. ISO 14496-12, 8.2.2.3."""
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    numbers = np.frombuffer(bytes(data), dtype=np.int32)
    return tuple(int(n) for n in np.sign(numbers[[0, 1, 3, 4]]))


def _is_mirrored(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return a * d - b * c < 0


def _rotation(matrix: tuple[int, int, int, int]) -> int:
    """Clockwise degrees of a display matrix; a mirror counts as one left to right, done last."""
    a, b, _, _ = matrix
    a = -a if _is_mirrored(matrix) else a
    return {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}.get((a, b), 0)


def _turn(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    a, b, c, d = matrix
    if (a, b, c, d) == (1, 0, 0, 1):
        return picture
    if a == d == 0:
        picture, a, d = picture.transpose(1, 0, 2), c, b
    picture = picture[:, ::-1] if a < 0 else picture
    return np.ascontiguousarray(picture[::-1] if d < 0 else picture)


def _scaled(width: int, height: int, size: int | None) -> tuple[int, int]:
    """The sides with the shorter one brought to `size`, where one is given."""
    if size is None:
        return width, height
    scale = size / min(width, height)
    return max(size, round(width * scale)), max(size, round(height * scale))


def _crop(picture: np.ndarray, size: int | None) -> np.ndarray:
    if size is None:
        return picture
    top, left = (picture.shape[0] - size) // 2, (picture.shape[1] - size) // 2
    return np.ascontiguousarray(picture[top : top + size, left : left + size])


def _even(side: float) -> int:
    return max(2, 2 * round(side / 2))


# ---- previews --------------------------------------------------------------------------


def _encode_preview(
    video: _VideoFile, start_sec: float, end_sec: float, out: Path, max_height: int
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
    video: _VideoFile, start_sec: float, end_sec: float
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """(begin, end, frame) on the preview's clock: each frame stays until the next one comes."""
    shown = video.frame_at(start_sec)
    begin = start_sec
    for ahead in video.following():
        if ahead.start_sec >= end_sec - _EPSILON_SEC:
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
