"""The split by video: the same for everybody, and the ground truth's own where there is one."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from core.config import library_root
from core.data.splits import split_videos
from core.records import Video, VideoLibrary


def library_of(count, tmp_path, name="lib"):
    videos = tuple(
        Video(f"v{i}", tmp_path / f"v{i}.mp4", 3.0, 25.0, 8, 8, 0, "h264", f"{i:064x}", "")
        for i in range(count)
    )
    return VideoLibrary(name, videos, ())


def test_the_split_is_a_partition_of_the_asked_size(workspace, tmp_path):
    library = library_of(72, tmp_path)
    train, held_out = split_videos(library, 1 / 3)
    assert len(held_out) == 24 and sorted(train + held_out) == sorted(
        v.video_id for v in library.videos
    )
    assert split_videos(library, 1 / 3) == (train, held_out)
    assert split_videos(library, 1 / 3, seed=1)[1] != held_out


def test_copies_of_one_video_stay_on_one_side(workspace, tmp_path):
    library = library_of(20, tmp_path)
    copies = tuple(dataclasses.replace(v, video_id=f"copy-{v.video_id}") for v in library.videos)
    library = dataclasses.replace(library, videos=library.videos + copies)
    _, held_out = split_videos(library, 0.3)
    assert {f"copy-{v}" for v in held_out if not v.startswith("copy")} == {
        v for v in held_out if v.startswith("copy")
    }


@pytest.mark.parametrize(
    ("count", "fraction", "held"), [(1, 0.5, 0), (2, 0.01, 1), (3, 0.99, 2), (5, 0.0, 0)]
)
def test_small_libraries_keep_something_to_learn_from(workspace, tmp_path, count, fraction, held):
    train, held_out = split_videos(library_of(count, tmp_path), fraction)
    assert len(held_out) == held and len(train) == count - held


def test_ground_truth_names_the_held_out_videos(workspace, tmp_path):
    library = library_of(4, tmp_path, "demo")
    folder = library_root("demo") / "demo"
    folder.mkdir(parents=True)
    table = {"video": ["v1.mp4", "v1.mp4", "v2.mp4"], "split": ["held-out", "held-out", "train"]}
    pd.DataFrame(table).to_parquet(folder / "ground_truth.parquet")
    assert split_videos(library, 0.9) == (["v0", "v2", "v3"], ["v1"])
