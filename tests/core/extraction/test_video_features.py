"""The right frames reach the right rows, decoded once and in bounded memory."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from core.extraction import video_features
from core.extraction.backbones import WINDOW_SEC, Backbone, load_temporal_backbone
from core.extraction.decoding import UnreadableVideo, probe_video
from core.extraction.video_features import encode_video, frame_windows, temporal_windows
from core.records import Video
from tests.video_samples import make_video, number_of

RATE = 24


def video_of(path) -> Video:
    facts = probe_video(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = (facts.width, facts.height, 0, facts.codec)
    return Video(path.stem, path, facts.duration_sec, facts.frame_rate, *size, digest, "")


def reader(num_frames: int = 1, size: int = 96, batches: list | None = None) -> Backbone:
    """A backbone whose vector is the numbers that it reads off its frames."""

    def encode(windows: np.ndarray) -> np.ndarray:
        if batches is not None:
            batches.append(windows.shape)
        return np.array([[number_of(f) for f in w] for w in windows], np.float32)

    offsets = tuple(i * WINDOW_SEC / num_frames for i in range(num_frames))
    return Backbone("reader", size, offsets, encode)


# ---- grids ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duration", [0.0, 0.04, 0.5, 0.67, 1.0, 1.0005, 1.2, 2.0, 2.34, 7.9, 3600.2]
)
def test_every_step_has_a_frame_within_it_and_weights_that_add_up(duration):
    video = Video("v", None, duration, 25, 1, 1, 0, "", "", "")
    frames = frame_windows(duration, video.num_steps)
    steps = np.arange(video.num_steps)
    assert len(frames.starts_sec) == video.num_steps
    assert (frames.starts_sec >= steps).all()
    assert (frames.starts_sec <= np.minimum(steps + 0.5, max(duration, 0))).all()
    windows = temporal_windows(duration, video.num_steps)
    assert windows.weights.shape[0] == video.num_steps
    np.testing.assert_allclose(windows.weights.sum(axis=1), 1, atol=1e-6)
    assert (np.diff(windows.starts_sec) >= 0).all()
    assert windows.starts_sec[-1] <= max(0, duration - WINDOW_SEC) + 1e-9


def test_three_seconds_worked_by_hand():
    """Windows [0, 2/3), [2/3, 4/3), [4/3, 2), ...: a second overlaps one whole and one half."""
    windows = temporal_windows(3.0, 3)
    np.testing.assert_allclose(windows.starts_sec, np.array([0, 2, 4, 6, 7]) / 3, atol=1e-9)
    found = windows.resample(np.eye(5, dtype=np.float32))
    wanted = [[2, 1, 0, 0, 0], [0, 1, 2, 0, 0], [0, 0, 0, 2, 1]]
    np.testing.assert_allclose(found, np.array(wanted) / 3, atol=1e-6)


def test_a_short_last_second_is_made_of_the_windows_within_it():
    windows = temporal_windows(2.5, 3)  # [2, 2.5) lies within the window that begins at 2
    found = windows.resample(np.eye(4, dtype=np.float32))
    np.testing.assert_allclose(found[2], [0, 0, 0, 1], atol=1e-6)
    assert windows.starts_sec[3] == pytest.approx(np.floor((2.5 - WINDOW_SEC) * 24) / 24)


@pytest.mark.parametrize("duration", [0.7, 1.0, 4.96, 10.3])
def test_resampling_is_the_overlap_weighted_mean(duration):
    steps = int(np.ceil(duration))
    windows = temporal_windows(duration, steps)
    starts = np.arange(len(windows.starts_sec)) * WINDOW_SEC
    vectors = np.random.default_rng(0).normal(size=(len(starts), 3)).astype(np.float32)
    wanted = np.zeros((steps, 3))
    for k in range(steps):
        overlaps = [
            max(0.0, min(k + 1, s + WINDOW_SEC, duration) - max(k, s)) for s in starts
        ]  # fmt: skip
        wanted[k] = np.average(vectors.astype(float), axis=0, weights=overlaps)
    np.testing.assert_allclose(windows.resample(vectors), wanted, atol=1e-6)


# ---- frames -----------------------------------------------------------------------------------


def test_rows_come_from_the_frames_in_the_middle_of_each_second(tmp_path):
    video = video_of(make_video(tmp_path / "v.mp4", 84, rate=RATE, b_frames=2))  # 3.5 s
    rows = encode_video(video, {"2d": reader()}, "pyav", 32)["2d"]
    assert rows.dtype == np.float32 and len(rows) == video.num_steps == 4
    assert rows[:, 0].tolist() == [12, 36, 60, 78]  # the last second's middle is 3.25 s


def test_windows_hold_the_sixteen_frames_that_they_name(tmp_path):
    video = video_of(make_video(tmp_path / "v.mp4", 72, rate=RATE))  # 3 s
    seen = []

    def encode(windows: np.ndarray) -> np.ndarray:
        seen.extend([number_of(f) for f in w] for w in windows)
        return np.ones((len(windows), 1), np.float32)

    backbone = dataclasses.replace(reader(16), encode=encode)
    encode_video(video, {"temporal": backbone}, "pyav", 32)
    assert seen == [list(range(s, s + 16)) for s in (0, 16, 32, 48, 56)]


def test_a_video_shorter_than_a_window_has_one_row(tmp_path):
    video = video_of(make_video(tmp_path / "v.mp4", 5, rate=RATE))
    found = encode_video(video, {"2d": reader(), "temporal": reader(4)}, "pyav", 32)
    assert found["2d"].shape == (1, 1) and found["temporal"].shape == (1, 4)
    assert found["temporal"][0].tolist() == [0, 4, 4, 4]  # then its last picture stays


def test_both_streams_share_one_pass_and_do_not_depend_on_it(tmp_path, monkeypatch):
    video = video_of(make_video(tmp_path / "v.mp4", 60, rate=RATE))
    passes = []
    original = video_features.read_frames

    def count(path, times, **options):
        passes.append(options["size"])
        return original(path, times, **options)

    monkeypatch.setattr(video_features, "read_frames", count)
    both = {"2d": reader(size=224), "temporal": load_temporal_backbone("motion")}
    together = encode_video(video, both, "pyav", 32)
    assert passes == [224]
    for stream, backbone in both.items():
        alone = encode_video(video, {stream: backbone}, "pyav", 32)[stream]
        np.testing.assert_array_equal(alone, together[stream])


def test_a_backbone_that_wants_more_pixels_gets_them(tmp_path):
    video = video_of(make_video(tmp_path / "v.mp4", 30, rate=RATE))
    shapes: list = []
    streams = {"2d": reader(size=288, batches=shapes), "temporal": reader(2, 64, shapes)}
    encode_video(video, streams, "pyav", 32)
    assert {shape[2:] for shape in shapes} == {(288, 288, 3), (64, 64, 3)}


def test_memory_does_not_grow_with_the_length(tmp_path):
    video = video_of(make_video(tmp_path / "v.mp4", 200, rate=2, gop=50))  # 100 s
    shapes: list = []
    streams = {"2d": reader(1, 96, shapes), "temporal": reader(16, 96, shapes)}
    found = encode_video(video, streams, "pyav", 32)
    assert len(found["2d"]) == len(found["temporal"]) == 100
    assert max(windows * frames for windows, frames, *_ in shapes) <= 32


# ---- files that are not right -----------------------------------------------------------------


def test_a_file_that_is_gone_or_changed_says_so(tmp_path):
    video = video_of(make_video(tmp_path / "v.mp4", 30, rate=RATE))
    make_video(tmp_path / "v.mp4", 40, rate=RATE)
    with pytest.raises(UnreadableVideo, match="changed since it was imported"):
        encode_video(video, {"2d": reader()}, "pyav", 32)
    video.path.unlink()
    with pytest.raises(UnreadableVideo, match="not there any more"):
        encode_video(video, {"2d": reader()}, "pyav", 32)


def test_a_decoder_that_breaks_is_one_bad_video(tmp_path, monkeypatch):
    video = video_of(make_video(tmp_path / "v.mp4", 30, rate=RATE))

    def broken(*arguments, **options):
        raise RuntimeError("invalid\ndata found")
        yield

    monkeypatch.setattr(video_features, "read_frames", broken)
    with pytest.raises(UnreadableVideo, match="RuntimeError: invalid data found"):
        encode_video(video, {"2d": reader()}, "pyav", 32)


def test_a_fault_of_the_backbone_is_not_blamed_on_the_video(tmp_path):
    video = video_of(make_video(tmp_path / "v.mp4", 30, rate=RATE))

    def encode(windows):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        encode_video(video, {"2d": dataclasses.replace(reader(), encode=encode)}, "pyav", 32)
