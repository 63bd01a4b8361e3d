"""Extraction is resumable, idempotent and tolerant; reading never invents a row."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest

from core.config import REPO_ROOT, ExtractSettings, ImportSettings, SettingsError, library_root
from core.data.video_library import import_library, load_library
from core.extraction import backbones, clip_features, motion, video_features
from core.extraction.clip_features import (
    ExtractError,
    MissingFeatures,
    extract,
    feature_state,
    load_features,
)
from core.feature_cache import CacheError, FeatureCache
from tests.video_samples import make_video

SETTINGS = ExtractSettings(library="tiny", workers=1)


def import_videos(folder: Path) -> None:
    import_library(folder, ImportSettings(name="tiny", workers=1))


@pytest.fixture
def videos(workspace) -> Path:
    """Four videos of 1.2 to 3 s, imported as library 'tiny'."""
    folder = workspace / "videos"
    folder.mkdir()
    for i, frames in enumerate((30, 36, 50, 75)):
        make_video(folder / f"video{i}.mp4", frames, first_number=100 * i)
    import_videos(folder)
    return folder


@pytest.fixture
def passes(monkeypatch) -> list[str]:
    """The name of every video that is decoded from now on, in this process."""
    names: list[str] = []
    original = video_features.read_frames

    def note(path, times, **options):
        names.append(Path(path).stem)
        return original(path, times, **options)

    monkeypatch.setattr(video_features, "read_frames", note)
    return names


def contents(library: str = "tiny") -> dict[str, bytes]:
    """The bytes of all feature entries; locks are empty and say nothing."""
    root = library_root(library)
    files = [p for kind in ("frame-*", "temporal-*") for p in root.glob(f"{kind}/**/*")]
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted(files)
        if p.is_file() and p.name != ".lock"
    }


def entry(kind: str) -> Path:
    (found,) = library_root("tiny").glob(f"{kind}-*")
    return found


def small_shards(monkeypatch) -> None:
    monkeypatch.setattr("core.feature_cache.KEYS_PER_SHARD", 1)


# ---- extracting -------------------------------------------------------------------------------


def test_every_video_gets_a_row_a_second_in_both_streams(videos):
    report = extract(SETTINGS)
    assert report.num_videos == 4 and report.failed == {}
    store = load_features("tiny")
    assert store.stream_dims == {"2d": 1280, "temporal": 1200} and store.dim == 2480
    for video in load_library("tiny").videos:
        rows = store.video(video.video_id)
        assert rows.shape == (video.num_steps, 2480) and rows.dtype == np.float32
        assert np.isfinite(rows).all() and (np.abs(rows).max(axis=1) > 0.1).all()


def test_kept_rows_are_what_the_backbones_say_of_the_video(videos):
    extract(SETTINGS)
    video = load_library("tiny").videos[2]
    streams = {
        "2d": backbones.load_frame_backbone("efficientnet-lite0"),
        "temporal": backbones.load_temporal_backbone("motion"),
    }
    wanted = video_features.encode_video(video, streams, "pyav", 32)
    found = load_features("tiny").video(video.video_id)
    side_by_side = np.concatenate([wanted["2d"], wanted["temporal"]], axis=1)
    np.testing.assert_allclose(found, side_by_side, rtol=1e-3, atol=1e-3)  # float16 on disk


def test_a_second_run_decodes_nothing_and_changes_nothing(videos, passes):
    extract(SETTINGS)
    assert sorted(passes) == ["video0", "video1", "video2", "video3"]
    before = contents()
    extract(SETTINGS)
    assert len(passes) == 4 and contents() == before


def test_only_new_videos_are_extracted_when_a_library_grows(videos, passes):
    extract(SETTINGS)
    key = load_features("tiny").key
    make_video(videos / "later.mp4", 30, first_number=900)
    import_videos(videos)
    store = load_features("tiny")  # what is there stays readable
    assert len(store.video_ids) == 4
    with pytest.raises(
        MissingFeatures, match="'later'.*Run: python -m core extract --library tiny"
    ):
        store.video("later")
    passes.clear()
    extract(SETTINGS)
    assert passes == ["later"]
    assert load_features("tiny").video("later").shape == (2, 2480)
    assert load_features("tiny").key == key  # the same function of a video as before


def test_only_the_stream_that_is_missing_is_computed(videos):
    extract(SETTINGS)
    before = contents()
    shutil.rmtree(entry("temporal"))
    state = (entry("frame") / "manifest.json").stat().st_mtime_ns
    extract(SETTINGS)
    assert contents() == before
    assert (entry("frame") / "manifest.json").stat().st_mtime_ns == state


def test_progress_counts_every_video_to_the_end(videos):
    heard: list[tuple[int, int, str]] = []
    extract(SETTINGS, lambda *step: heard.append(step))
    assert heard[0] == (0, 4, heard[0][2]) and heard[-1][:2] == (4, 4)
    assert {name for _, _, name in heard if name} == {f"video{i}" for i in range(4)}
    assert [done for done, _, _ in heard] == sorted(done for done, _, _ in heard)


def test_worker_processes_leave_the_same_bytes(videos, monkeypatch):
    small_shards(monkeypatch)
    extract(SETTINGS)
    one = contents()
    for kind in ("frame", "temporal"):
        shutil.rmtree(entry(kind))
    heard: list[tuple[int, int, str]] = []
    extract(dataclasses.replace(SETTINGS, workers=2), lambda *step: heard.append(step))
    assert contents() == one
    assert heard[-1][:2] == (4, 4)


def test_damage_to_finished_features_is_mended_by_the_same_command(videos, monkeypatch, passes):
    small_shards(monkeypatch)
    extract(SETTINGS)
    before = contents()
    shard = entry("temporal") / "shards" / "00002.npy"
    data = bytearray(shard.read_bytes())
    data[-9] ^= 4
    shard.write_bytes(bytes(data))
    with pytest.raises(CacheError, match="checksum.*Run: python -m core extract --library tiny"):
        FeatureCache.open(entry("temporal"), verify="full")
    passes.clear()
    extract(SETTINGS)
    assert contents() == before and len(passes) == 1


def test_models_from_folders_are_extracted_like_the_catalogs(videos, workspace):
    from transformers import (
        VideoMAEConfig,
        VideoMAEImageProcessorPil,
        VideoMAEModel,
        ViTConfig,
        ViTImageProcessorPil,
        ViTModel,
    )

    shape = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    ViTModel(ViTConfig(image_size=32, patch_size=16, **shape)).save_pretrained(workspace / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(workspace / "vit")
    config = VideoMAEConfig(image_size=32, patch_size=16, num_frames=16, **shape)
    VideoMAEModel(config).save_pretrained(workspace / "mae")
    square = {"height": 32, "width": 32}
    processor = VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size=square)
    processor.save_pretrained(workspace / "mae")
    names = {"frame": str(workspace / "vit"), "temporal": str(workspace / "mae")}
    extract(ExtractSettings("tiny", names["frame"], names["temporal"], workers=1))
    store = load_features("tiny", **names)
    assert store.stream_dims == {"2d": 24, "temporal": 24}
    assert store.video("video3").shape == (3, 48)
    assert entry("frame").name.startswith("frame-vit-")
    with pytest.raises(MissingFeatures, match="No 2d features by 'efficientnet-lite0'"):
        load_features("tiny")


# ---- what goes wrong --------------------------------------------------------------------------


def test_broken_videos_do_not_stop_the_rest_and_are_reported(videos):
    (videos / "video1.mp4").unlink()
    make_video(videos / "video2.mp4", 60, first_number=5000)
    report = extract(SETTINGS)
    assert set(report.failed) == {"video1", "video2"}
    assert "not there any more" in report.failed["video1"]
    assert "changed since it was imported" in report.failed["video2"]
    store = load_features("tiny")
    assert store.video_ids == ("video0", "video3") and store.failed == report.failed
    with pytest.raises(MissingFeatures, match="'video1'.*not there any more.*Run: python"):
        store.video("video1")


def test_a_file_that_comes_back_is_tried_again_and_others_are_not(videos, passes):
    away = videos.parent / "away.mp4"
    shutil.move(videos / "video1.mp4", away)
    extract(SETTINGS)
    before = contents()
    assert set(extract(SETTINGS).failed) == {"video1"} and contents() == before
    shutil.move(away, videos / "video1.mp4")
    passes.clear()
    assert extract(SETTINGS).failed == {}
    assert passes == ["video1", "video1"] or passes == ["video1"]
    assert load_features("tiny").video("video1").shape == (2, 2480)
    after = contents()
    extract(SETTINGS)
    assert contents() == after


def test_nothing_readable_at_all_is_an_error(videos):
    for path in videos.glob("*.mp4"):
        path.unlink()
    with pytest.raises(ExtractError, match="None of the 4 videos.*not there any more"):
        extract(SETTINGS)
    with pytest.raises(MissingFeatures, match="No video of library 'tiny' has 2d"):
        load_features("tiny")


def test_an_unknown_decoder_or_backbone_stops_before_any_work(videos, passes):
    with pytest.raises(SettingsError, match="Unknown decoder 'pyva'"):
        extract(dataclasses.replace(SETTINGS, decoder="pyva"))
    with pytest.raises(backbones.BackboneError, match="no-such/model"):
        extract(dataclasses.replace(SETTINGS, frame_backbone="no-such/model"))
    assert passes == []


def test_a_second_extraction_at_the_same_time_is_refused(videos):
    with (
        filelock.FileLock(library_root("tiny") / ".extract-0.lock"),
        pytest.raises(ExtractError, match="another process"),
    ):
        extract(SETTINGS)
    assert extract(SETTINGS).failed == {}
    assert extract(SETTINGS).failed == {}  # the lock was let go


@pytest.mark.slow
def test_killed_workers_are_replaced(videos, monkeypatch):
    """Both worker processes are killed as soon as one of them has begun a video."""
    small_shards(monkeypatch)
    extract(SETTINGS)
    wanted = contents()
    for kind in ("frame", "temporal"):
        shutil.rmtree(entry(kind))
    killed: list[int] = []
    messages: list[str] = []

    def kill_both(done: int, total: int, message: str) -> None:
        messages.append(message)
        if not killed:
            killed.extend(worker_ids())
            for process in killed:
                os.kill(process, 9)

    report = extract(dataclasses.replace(SETTINGS, workers=2), kill_both)
    assert report.failed == {} and contents() == wanted
    assert any("killed (signal 9)" in message for message in messages)


def worker_ids() -> list[int]:
    """Our own child processes that extract."""
    import psutil

    children = psutil.Process().children()
    return [c.pid for c in children if clip_features._MODULE in " ".join(c.cmdline())]


@pytest.mark.slow
def test_a_video_that_kills_its_worker_is_recorded_and_tried_again_later(videos):
    extract(SETTINGS)
    make_video(videos / "deadly.mp4", 30, first_number=900)
    import_videos(videos)

    def kill_at_deadly(done: int, total: int, message: str) -> None:
        if message == "deadly":
            os.kill(worker_ids()[0], 9)

    report = extract(dataclasses.replace(SETTINGS, workers=2), kill_at_deadly)
    assert list(report.failed) == ["deadly"] and "killed (signal 9)" in report.failed["deadly"]
    assert len(load_features("tiny").video_ids) == 4
    assert extract(SETTINGS).failed == {}
    assert len(load_features("tiny").video_ids) == 5


# ---- several ranks ----------------------------------------------------------------------------


def run_python(code: str, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPO_ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


EXTRACT = """
from core import feature_cache
from core.config import ExtractSettings
from core.extraction import clip_features
feature_cache.KEYS_PER_SHARD = 1
clip_features._WAIT_SEC = {wait}
clip_features.extract(ExtractSettings(library="tiny", workers={workers}))
"""


@pytest.mark.slow
def test_ranks_share_the_shards_and_leave_the_same_bytes(videos, monkeypatch):
    small_shards(monkeypatch)
    extract(SETTINGS)
    one = contents()
    for kind in ("frame", "temporal"):
        shutil.rmtree(entry(kind))
    code = EXTRACT.format(wait=60, workers=1)
    ranks = [run_python(code, RANK=str(r), WORLD_SIZE="2") for r in range(2)]
    assert [rank.wait(60) for rank in ranks] == [0, 0], [rank.stderr.read() for rank in ranks]
    assert contents() == one


def test_a_rank_that_never_comes_is_an_error_not_a_success(videos):
    rank = run_python(EXTRACT.format(wait=1, workers=1), RANK="0", WORLD_SIZE="2")
    _, error = rank.communicate(timeout=60)
    assert rank.returncode != 0
    assert "Waited for shards of other processes: 4 still missing" in error
    with pytest.raises(MissingFeatures, match="Unfinished"):
        load_features("tiny")


# ---- kill -9 ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_survive_being_killed(videos, monkeypatch, workers):
    """The whole process group is killed, later each time, then the run is let finish."""
    small_shards(monkeypatch)
    extract(SETTINGS)
    wanted = contents()
    for kind in ("frame", "temporal"):
        shutil.rmtree(entry(kind))
    code = EXTRACT.format(wait=60, workers=workers)
    kills = 0
    for _ in range(3):
        process = run_python(code)
        before = count_shards()
        while process.poll() is None and count_shards() == before:
            time.sleep(0.005)
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills >= 2
    wait_for_lock()
    process = run_python(code)
    assert process.wait(120) == 0, process.stderr.read()
    assert contents() == wanted


def count_shards() -> int:
    return len(list(library_root("tiny").glob("*/shards/*")))


def wait_for_lock() -> None:
    """The system lets go of a killed process's lock, if not in the same instant."""
    with filelock.FileLock(library_root("tiny") / ".extract-0.lock", timeout=10):
        pass


# ---- reading ----------------------------------------------------------------------------------


def test_streams_are_chosen_by_name(videos):
    extract(SETTINGS)
    both = load_features("tiny").video("video0")
    frame = load_features("tiny", streams="2d")
    temporal = load_features("tiny", streams="temporal")
    np.testing.assert_array_equal(both[:, :1280], frame.video("video0"))
    np.testing.assert_array_equal(both[:, 1280:], temporal.video("video0"))
    assert len({frame.key, temporal.key, load_features("tiny").key}) == 3
    with pytest.raises(ValueError, match="Wanted streams '2d'"):
        load_features("tiny", streams="3d")


def test_missing_features_name_library_backbone_and_command(videos):
    with pytest.raises(
        MissingFeatures, match="'efficientnet-lite0' for library 'tiny'.*--library tiny"
    ):
        load_features("tiny")
    with pytest.raises(MissingFeatures, match="--frame other/model"):
        load_features("tiny", frame="other/model")


def test_features_of_an_older_recipe_are_stale(videos, monkeypatch):
    extract(SETTINGS)
    load, _, recipe = backbones.TEMPORAL_BACKBONES["motion"]
    newer = (load, lambda: motion.describe_motion() | {"recipe": recipe + 1}, recipe + 1)
    monkeypatch.setitem(backbones.TEMPORAL_BACKBONES, "motion", newer)
    with pytest.raises(MissingFeatures, match="Stale.*recipe.*Run: python -m core extract"):
        load_features("tiny")
    extract(SETTINGS)
    assert len(load_features("tiny").video_ids) == 4


def test_damaged_features_are_refused_with_the_command(videos):
    extract(SETTINGS)
    shard = next((entry("frame") / "shards").glob("*.npy"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(
        MissingFeatures, match="Damaged.*Run: python -m core extract --library tiny"
    ):
        load_features("tiny")


def test_rows_that_do_not_fit_the_video_are_refused(videos):
    extract(SETTINGS)
    library = load_library("tiny")
    longer = dataclasses.replace(library.videos[0], duration_sec=50.0)
    changed = dataclasses.replace(library, videos=(longer, *library.videos[1:]))
    with pytest.raises(MissingFeatures, match="has 50 seconds, its 2d features 2"):
        load_features(changed).video("video0")


def test_state_tells_which_streams_each_video_has(videos):
    nothing = {"2d": False, "temporal": False}
    assert feature_state("tiny") == {f"video{i}": nothing for i in range(4)}
    (videos / "video1.mp4").unlink()
    extract(SETTINGS)
    everything = {"2d": True, "temporal": True}
    assert feature_state("tiny")["video0"] == everything
    assert feature_state("tiny")["video1"] == nothing
    assert feature_state("tiny", frame="other")["video0"] == {"2d": False, "temporal": True}
    shutil.rmtree(entry("temporal"))
    assert feature_state(load_library("tiny"))["video0"] == {"2d": True, "temporal": False}


def test_reading_needs_no_torch():
    code = "import sys, core.extraction.clip_features; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT).returncode == 0


def test_the_command_names_what_is_not_the_default():
    settings = ExtractSettings(library="kitchen", temporal_backbone="x/videomae", decoder="decord")
    wanted = "python -m core extract --library kitchen --temporal x/videomae --decoder decord"
    assert clip_features.extract_command(settings) == wanted


# ---- the 72 real clips ------------------------------------------------------------------------


@pytest.mark.slow
def test_real_clips_are_all_extracted(workspace, shared_data):
    """The smallest twelve of the real clips: their odd frame rates and time stamps."""
    clips = sorted((shared_data / "videos" / "clips").glob("*.mp4"), key=lambda p: p.stat().st_size)
    import_library(clips[:12], ImportSettings(name="real", workers=1))
    report = extract(ExtractSettings(library="real", workers=2))
    assert report.failed == {}
    store = load_features("real")
    for video in load_library("real").videos:
        assert store.video(video.video_id).shape == (video.num_steps, store.dim)
