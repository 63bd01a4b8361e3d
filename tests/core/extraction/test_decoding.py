"""Frames come at their true times, from every container, whole or damaged."""

from __future__ import annotations

import os
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from core.config import SettingsError
from core.extraction.decoding import (
    DECODERS,
    UnreadableVideo,
    cut_preview,
    find_end,
    probe_video,
    read_frames,
    thumbnail,
)
from core.extraction.video_file import VideoFile
from tests.video_samples import cut_short, make_audio, make_video, number_of

RATE = 25
UNEVEN = [0.0, 0.04, 0.06, 0.5, 0.52, 2.1, 2.12, 2.9, 4.4, 4.44, 4.5, 5.9, 6.0, 7.25, 7.3, 8.0]

EVERY_KIND = {
    "plain.mp4": {},
    "b_frames.mp4": {"b_frames": 3},
    "long_gop.mp4": {"frames": 300, "gop": 300, "b_frames": 2},
    "uneven.mp4": {"frames": UNEVEN, "b_frames": 2},
    "uneven.mkv": {"frames": UNEVEN, "b_frames": 2},
    "late_start.mp4": {"offset_sec": 10.0, "b_frames": 2},
    "late_start.mkv": {"offset_sec": 10.0},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 30},
    "mpeg4.avi": {"codec": "mpeg4"},
    "quick.mov": {"b_frames": 1},
    "itunes.m4v": {},
    "no_index.webm": {"codec": "libvpx", "container_options": {"live": "1"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


def starts_of(frames=100, **_) -> np.ndarray:
    return np.arange(frames) / RATE if isinstance(frames, int) else np.array(frames)


def numbers(path, times, **options) -> list[int]:
    return [number_of(picture) for picture in read_frames(path, times, **options)]


def expected(starts: np.ndarray, times: np.ndarray) -> list[int]:
    # Half a millisecond of slack, as Matroska rounds its stamps to milliseconds.
    return (np.searchsorted(starts, np.asarray(times) + 6e-4, side="right") - 1).tolist()


@pytest.fixture
def seeks(monkeypatch) -> list[float]:
    """Where the decoder jumped to, recorded on the way to the real thing."""
    made: list[float] = []
    jump = VideoFile._decode_from

    def recorded(video, sec):
        made.append(sec)
        return jump(video, sec)

    monkeypatch.setattr(VideoFile, "_decode_from", recorded)
    return made


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", EVERY_KIND)
def test_frame_on_screen_is_returned(tmp_path, name, decoder):
    settings = EVERY_KIND[name]
    starts = starts_of(**settings)
    path = make_video(tmp_path / name, **{"frames": 100, **settings})
    dense = np.arange(0, starts[-1], 0.2)
    sparse = np.sort(np.random.default_rng(0).uniform(0, starts[-1], 5))
    for times in (dense, sparse, starts):
        assert numbers(path, times, decoder=decoder) == expected(starts, times)
    assert numbers(path, sparse, size=64, decoder=decoder) == expected(starts, sparse)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
def test_turned_and_mirrored_videos_come_upright(tmp_path, turn, mirror, decoder):
    path = make_video(tmp_path / "turned.mp4", 10, turn=turn, mirror=mirror)
    facts = probe_video(path)
    assert (facts.width, facts.height, facts.rotation) == (160, 96, turn)
    assert numbers(path, [0.0, 0.2], decoder=decoder) == [0, 5]
    assert number_of(thumbnail(path, 0.2, longest_side=120)) == 5


@pytest.mark.parametrize("decoder", DECODERS)
def test_pixels_that_are_not_square_are_stretched(tmp_path, decoder):
    path = make_video(tmp_path / "wide.mp4", 10, pixel_shape=Fraction(2, 1))
    assert (probe_video(path).width, probe_video(path).height) == (320, 96)
    assert next(read_frames(path, [0.0], decoder=decoder)).shape == (96, 320, 3)


@pytest.mark.parametrize("decoder", DECODERS)
def test_size_gives_the_middle_square(tmp_path, decoder):
    path = make_video(tmp_path / "video.mp4", 10)
    (small,) = read_frames(path, [0.2], size=48, decoder=decoder)
    (large,) = read_frames(path, [0.2], size=192, decoder=decoder)
    assert small.shape == (48, 48, 3) and small.dtype == np.uint8 and small.flags.c_contiguous
    assert large.shape == (192, 192, 3)
    assert number_of(small) == number_of(large) == 5  # the pattern fills exactly that square


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders_agree_on_colours(tmp_path, decoder):
    path = make_video(tmp_path / "video.mp4", 10)
    (picture,) = read_frames(path, [0.2], decoder=decoder)
    (reference,) = read_frames(path, [0.2])
    assert np.abs(picture.astype(int) - reference).mean() < 4


def test_same_time_twice_gives_the_same_frame_and_separate_arrays(tmp_path):
    path = make_video(tmp_path / "video.mp4", 10)
    first, second = read_frames(path, [0.1, 0.1])
    assert (first == second).all()
    first[:] = 0
    assert second.any()


def test_stamps_in_decode_order_are_put_right(tmp_path):
    """Some writers stamp B-frames in coding order; the k-th picture has the k-th stamp."""
    source = make_video(tmp_path / "source.mp4", 60, b_frames=3, gop=60)
    path = tmp_path / "decode_order.mp4"
    with av.open(str(source)) as read, av.open(str(path), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for place, packet in enumerate(p for p in read.demux(video=0) if p.size):
            packet.pts = packet.dts = round(place / RATE / packet.time_base)
            packet.stream = stream
            write.mux(packet)
    assert [round(p.pts * p.time_base * RATE) for p in _packets(path)] == list(range(60))
    assert numbers(path, np.arange(60) / RATE) == list(range(60))
    assert numbers(path, [1.0, 2.0], decoder="decord") == [25, 50]


def _packets(path):
    with av.open(str(path)) as container:
        yield from (packet for packet in container.demux(video=0) if packet.size)


# ---- how far it reads and seeks ----------------------------------------------------------


def test_dense_reads_do_not_seek(tmp_path, seeks):
    path = make_video(tmp_path / "long.mp4", 1500, gop=25)
    times = np.arange(0, 60, 0.2)
    assert numbers(path, times) == expected(starts_of(1500), times)
    assert seeks == []


def test_sparse_reads_jump_to_keyframes(tmp_path, seeks):
    path = make_video(tmp_path / "long.mp4", 1500, gop=25)
    assert numbers(path, [0.0, 20.5, 55.5]) == [0, 512, 1387]
    assert seeks == [20.5, 55.5]


@pytest.mark.parametrize("name", ["long_gop.mp4", "long_gop.mkv"])
def test_seeks_behind_the_position_do_not_repeat(tmp_path, seeks, name):
    """With one keyframe for all, jumping for every time would decode the file again and again."""
    live = {} if name.endswith("mp4") else {"container_options": {"live": "1"}}
    path = make_video(tmp_path / name, 1500, gop=1500, **live)
    times = np.arange(0, 60, 3.0)
    assert numbers(path, times) == expected(starts_of(1500), times)
    assert len(seeks) <= 4


def test_reading_holds_one_picture_at_a_time(tmp_path):
    path = make_video(tmp_path / "video.mp4", 300)
    size = next(read_frames(path, [0.0])).nbytes
    tracemalloc.start()
    for _ in read_frames(path, np.arange(0, 12, 0.04)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * size


@pytest.mark.parametrize("times", [[1.0, 0.5], [-1.0], [float("nan")], [[0.0]]])
def test_wrong_times_are_refused_at_once(tmp_path, times):
    with pytest.raises(ValueError, match="Wanted"):
        read_frames(tmp_path / "never_opened.mp4", times)


def test_unknown_decoder_is_refused_at_once(tmp_path):
    with pytest.raises(SettingsError, match="Known: pyav, decord"):
        read_frames(tmp_path / "never_opened.mp4", [0.0], decoder="magic")


# ---- files that are not as they should be ------------------------------------------------


def test_unreadable_files_say_why(tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("Dear diary, today I was renamed.\n" * 50)
    script = tmp_path / "script.mp4"
    script.write_text("ffconcat version 1.0\nfile /etc/hostname\n")
    headless = make_video(tmp_path / "headless.mp4", 50, container_options={"movflags": "0"})
    cut_short(headless, 0.5)
    reasons = {
        empty: "0 bytes",
        text: "Not a video",
        script: "Not a video",
        headless: "Not a video, or its header is damaged",
        make_audio(tmp_path / "sound.mp4"): "No video stream: the file holds audio only",
        tmp_path / "missing.mp4": "No such file",
        tmp_path: "cannot be read|Not a video",
    }
    for path, reason in reasons.items():
        for read in (probe_video, find_end, lambda p: list(read_frames(p, [0.0]))):
            with pytest.raises(UnreadableVideo, match=reason) as caught:
                read(path)
            assert "\n" not in str(caught.value)


def test_file_without_permission_says_so(tmp_path):
    path = make_video(tmp_path / "secret.mp4", 5)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(UnreadableVideo, match="permission denied"):
        probe_video(path)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.webm", "long_gop.mp4"])
def test_missing_end_is_filled_for_a_second_then_told(tmp_path, name, decoder):
    codec = "libvpx" if name.endswith("webm") else "libx264"
    gop = 500 if name == "long_gop.mp4" else 12
    path = cut_short(make_video(tmp_path / name, 500, codec=codec, gop=gop), 0.6)
    end = find_end(path)
    assert 8 < end < 16
    last = round(end * RATE) - 1
    times = [1.0, end - 0.1, end + 0.9]
    assert numbers(path, times, decoder=decoder) == [25, expected(starts_of(500), times)[1], last]
    with pytest.raises(UnreadableVideo, match=f"Nothing decodes after {end:.1f} s"):
        list(read_frames(path, [1.0, end + 1.2], decoder=decoder))


def test_hole_in_the_middle_is_told_and_what_follows_is_read(tmp_path):
    path = make_video(tmp_path / "hole.mp4", 500, gop=25)
    data = bytearray(path.read_bytes())
    hole = slice(int(len(data) * 0.4), int(len(data) * 0.5))
    data[hole] = np.random.default_rng(0).bytes(hole.stop - hole.start)
    path.write_bytes(data)
    assert find_end(path) == pytest.approx(20.0)
    with pytest.raises(UnreadableVideo, match="Nothing decodes from"):
        list(read_frames(path, np.arange(0, 20, 0.2)))
    times = [1.0, 2.0, 15.0, 19.0]
    assert numbers(path, times) == expected(starts_of(500), times)


def test_long_last_frame_is_not_a_missing_end(tmp_path):
    path = make_video(tmp_path / "slides.mp4", [0.0, 3.0, 6.0, 9.0], rate=1)
    assert numbers(path, [2.9, 3.0, 8.9, 9.5]) == [0, 1, 2, 3]


# ---- facts -------------------------------------------------------------------------------


def test_facts_are_those_of_the_file(tmp_path):
    facts = probe_video(make_video(tmp_path / "video.mp4", 60, rate=30, b_frames=2))
    assert facts.duration_sec == pytest.approx(2.0, abs=1e-3)
    assert facts.frame_rate == pytest.approx(30)
    assert (facts.width, facts.height, facts.rotation) == (160, 96, 0)
    assert (facts.codec, facts.num_frames) == ("h264", 60)


def test_length_is_found_where_the_header_has_none(tmp_path):
    live = {"codec": "libvpx", "container_options": {"live": "1"}}
    path = make_video(tmp_path / "recorded.webm", 75, **live)
    assert probe_video(path).duration_sec == pytest.approx(3.0, abs=0.05)
    assert find_end(path) == pytest.approx(3.0, abs=0.05)


# ---- previews ----------------------------------------------------------------------------


def test_preview_holds_exactly_the_span(tmp_path):
    source = make_video(tmp_path / "source.mp4", 250, b_frames=2, gop=250)
    preview = cut_preview(source, 3.02, 5.5, tmp_path / "deep" / "preview.mp4")
    assert find_end(preview) == pytest.approx(2.48, abs=1e-3)
    times = np.arange(0, 2.48, 0.1)
    assert numbers(preview, times) == expected(starts_of(250), times + 3.02)


def test_preview_keeps_the_speed_of_uneven_frames(tmp_path):
    source = make_video(tmp_path / "source.mkv", UNEVEN)
    preview = cut_preview(source, 0.3, 7.0, tmp_path / "preview.mp4")
    times = np.arange(0, 6.6, 0.13)
    assert numbers(preview, times) == expected(np.array(UNEVEN), times + 0.3)


def test_preview_is_what_browsers_play(tmp_path):
    source = make_video(tmp_path / "source.webm", 30, codec="libvpx")
    preview = cut_preview(source, 0.0, 1.0, tmp_path / "preview.mp4", max_height=48)
    with av.open(str(preview)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.start_time) == (80, 48, 0)
    data = preview.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # it can start before it is loaded


def test_preview_is_upright_and_never_half_written(tmp_path):
    source = make_video(tmp_path / "source.mp4", 25, turn=90)
    preview = cut_preview(source, 0.0, 1.0, tmp_path / "preview.mp4")
    assert probe_video(preview).rotation == 0
    assert numbers(preview, [0.0, 0.52]) == [0, 13]
    with pytest.raises(UnreadableVideo):
        cut_preview(source, 30.0, 31.0, tmp_path / "beyond.mp4")
    with pytest.raises(ValueError, match="start < end"):
        cut_preview(source, 1.0, 1.0, tmp_path / "beyond.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["preview.mp4", "source.mp4"]


# ---- real files --------------------------------------------------------------------------


@pytest.mark.slow
def test_decoders_agree_on_real_clips(shared_data):
    for path in sorted((shared_data / "videos" / "clips").iterdir()):
        times = np.linspace(0.1, find_end(path) - 0.1, 5)
        pictures = [
            np.stack(list(read_frames(path, times, size=64, decoder=decoder))).astype(int)
            for decoder in DECODERS
        ]
        assert np.abs(pictures[0] - pictures[1]).mean(axis=(1, 2, 3)).max() < 6, path.name
