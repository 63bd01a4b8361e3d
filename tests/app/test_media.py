import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from app.media import KeyedLocks, piece_span, plays_directly, preview, prune
from core.records import Video


def make_video(path: Path, seconds: float = 2.0, codec: str = "libx264", pixels="yuv420p") -> Video:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for number in range(round(10 * seconds)):
            picture = np.full((48, 64, 3), 10 * number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    name = {"libx264": "h264", "mpeg4": "mpeg4"}[codec]
    return Video("v", path, seconds, 10.0, 64, 48, 0, name, f"hash-{path.name}", "")


@pytest.mark.parametrize(
    "duration, at_sec, wanted",
    [
        (5.0, 3.0, (0.0, 5.0)),
        (60.0, 59.0, (0.0, 60.0)),
        (200.0, 0.0, (0.0, 45.0)),
        (200.0, 52.0, (45.0, 90.0)),
        (200.0, 199.0, (155.0, 200.0)),
    ],
)
def test_a_piece_is_the_whole_short_video_or_holds_the_moment(duration, at_sec, wanted):
    video = Video("v", Path("v.mp4"), duration, 25.0, 64, 48, 0, "h264", "hash", "")
    start, end = piece_span(video, at_sec)
    assert (start, end) == wanted and start <= at_sec < end


def test_only_files_that_every_browser_plays_are_served_as_they_are(tmp_path):
    plain = make_video(tmp_path / "plain.mp4")
    assert plays_directly(plain)
    assert not plays_directly(replace(plain, rotation=90))
    assert not plays_directly(make_video(tmp_path / "old.mp4", codec="mpeg4"))
    assert not plays_directly(make_video(tmp_path / "rich.mp4", pixels="yuv444p"))


def test_a_preview_is_cut_once_and_kept(workspace, tmp_path):
    video = make_video(tmp_path / "old.avi", codec="mpeg4")
    first = preview("lib", video, 0.5, 1.5)
    stamp = first.stat().st_mtime_ns
    assert first.is_relative_to(workspace / "cached_features" / "lib" / "previews")
    with av.open(str(first)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert abs(float(container.duration / av.time_base) - 1.0) < 0.15
    assert preview("lib", video, 0.5, 1.5) == first and first.stat().st_mtime_ns == stamp


def test_the_oldest_previews_go_first(tmp_path):
    for age, name in enumerate(["new.mp4", "middle.mp4", "old.mp4"]):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    prune(tmp_path, keep=tmp_path / "new.mp4", max_bytes=200)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["middle.mp4", "new.mp4"]
    prune(tmp_path, keep=tmp_path / "new.mp4", max_bytes=0)
    assert [p.name for p in tmp_path.iterdir()] == ["new.mp4"]


def test_locks_of_different_names_are_different_and_few():
    locks = KeyedLocks(max_entries=3)
    held = locks.of("held")
    with held:
        for number in range(10):
            assert locks.of(str(number)) is not held
        assert locks.of("held") is held  # a lock in use is never thrown away
        assert len(locks._locks) <= 4
