"""The cache keeps its promises through crashes, damage, extension and concurrent writers."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core import feature_cache
from core.feature_cache import CacheError, FeatureCache, entry_name, find_entries

SETTINGS = {"backbone": "tiny", "size": 8}
COMMAND = "python -m core extract --library tiny"
KEYS = [f"video-{i:03d}" for i in range(40)]  # three shards


def rows_of(key: str) -> np.ndarray:
    """What the imagined encoder says of a key: 1 to 4 rows of 6 numbers, never zeros."""
    seed = int(key.split("-")[1])
    rows = np.random.default_rng(seed).normal(size=(1 + seed % 4, 6))
    return (rows + np.sign(rows)).astype(np.float16)


def plan(directory: Path, keys=KEYS, **changes) -> FeatureCache:
    arguments = {"settings": SETTINGS, "keys": keys, "command": COMMAND} | changes
    return FeatureCache.create(directory, **arguments)


def write(cache: FeatureCache, shards, failed=()) -> None:
    for shard in shards:
        arrays = {key: rows_of(key) for key in shard.keys if key not in failed}
        reasons = {key: "no video stream" for key in shard.keys if key in failed}
        cache.write_shard(shard.index, arrays, reasons)


def build(directory: Path, keys=KEYS, failed=()) -> FeatureCache:
    cache = plan(directory, keys)
    write(cache, cache.pending_shards(), failed)
    return cache.finish()


def contents(directory: Path) -> dict[str, bytes]:
    """All files that count: the lock is empty and says nothing."""
    files = (p for p in directory.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(files)}


def flip_byte(path: Path, position: int = -3) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(bytes(data))


# ---- what goes in comes out ----------------------------------------------------------------


def test_every_array_comes_back_as_it_was_written(tmp_path):
    cache = build(tmp_path / "e")
    assert cache.keys() == KEYS and len(cache) == len(KEYS)
    assert cache.dim == 6 and cache.dtype == np.float16 and cache.settings == SETTINGS
    for key in KEYS:
        np.testing.assert_array_equal(cache.read(key), rows_of(key))
        assert cache.num_rows(key) == len(rows_of(key))


def test_arrays_are_read_from_the_file_not_into_memory(tmp_path):
    array = build(tmp_path / "e").read(KEYS[5])
    base = array
    while not isinstance(base, np.memmap) or base.base is None:
        base = base.base
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_failed_keys_keep_their_reason_and_have_no_rows(tmp_path):
    cache = build(tmp_path / "e", failed={KEYS[3], KEYS[20]})
    assert cache.failed == {KEYS[3]: "no video stream", KEYS[20]: "no video stream"}
    assert KEYS[3] not in cache and KEYS[4] in cache
    with pytest.raises(CacheError, match="no video stream"):
        cache.read(KEYS[3])


def test_an_entry_whose_keys_all_failed_can_be_read(tmp_path):
    cache = build(tmp_path / "e", KEYS[:2], failed=set(KEYS[:2]))
    assert cache.keys() == [] and len(cache.failed) == 2 and cache.dim == 0


def test_an_unknown_key_is_an_error_with_the_command(tmp_path):
    with pytest.raises(CacheError, match="python -m core extract --library tiny"):
        build(tmp_path / "e").read("video-999")


def test_shards_are_small_and_respect_weights(tmp_path):
    cache = plan(tmp_path / "a")
    assert [len(s.keys) for s in cache.shards] == [16, 16, 8]
    heavy = plan(tmp_path / "b", weights={key: 1500.0 for key in KEYS[:3]})
    assert [len(s.keys) for s in heavy.shards][:3] == [1, 1, 16]


def test_entry_names_tell_settings_apart_and_are_safe_in_a_path():
    assert entry_name("frame", "tiny", SETTINGS) == entry_name("frame", "tiny", dict(SETTINGS))
    assert entry_name("frame", "tiny", SETTINGS) != entry_name("frame", "tiny", {"size": 9})
    assert entry_name("frame", "openai/clip", {}).startswith("frame-openai--clip-")
    assert entry_name("frame", "/models/my clip/", {}).startswith("frame-my--clip-")


def test_find_entries_lists_all_settings_of_one_name(tmp_path):
    names = [entry_name("frame", "tiny", {"size": size}) for size in (1, 2)]
    others = [entry_name("frame", "tiny-2", {}), entry_name("temporal", "tiny", {})]
    for name in names + others:
        (tmp_path / name).mkdir()
    assert find_entries(tmp_path, "frame", "tiny") == [tmp_path / n for n in sorted(names)]
    assert find_entries(tmp_path / "absent", "frame", "tiny") == []


# ---- what may not go in ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((2, 6), np.nan), "not finite"),
        (np.full((2, 6), 1e6), "largest finite value 1e"),  # beyond float16
        (np.zeros((0, 6)), "shape"),
        (np.zeros(6), "shape"),
        (np.ones((2, 7)), "one width"),
    ],
)
def test_arrays_that_cannot_be_kept_are_refused(tmp_path, bad, message):
    cache = plan(tmp_path / "e", KEYS[:2])
    with pytest.raises(ValueError, match=message):
        cache.write_shard(0, {KEYS[0]: rows_of(KEYS[0]), KEYS[1]: bad})
    assert cache.pending_shards() == cache.shards


def test_a_shard_takes_exactly_its_keys(tmp_path):
    cache = plan(tmp_path / "e", KEYS[:2])
    with pytest.raises(ValueError, match="lacks"):
        cache.write_shard(0, {KEYS[0]: rows_of(KEYS[0])})
    with pytest.raises(ValueError, match="twice"):
        cache.write_shard(0, {k: rows_of(k) for k in KEYS[:2]}, {KEYS[0]: "both"})
    with pytest.raises(ValueError, match="without a reason"):
        cache.write_shard(0, {KEYS[0]: rows_of(KEYS[0])}, {KEYS[1]: ""})


def test_shards_of_different_width_do_not_make_an_entry(tmp_path):
    cache = plan(tmp_path / "e", KEYS[:20])
    write(cache, cache.shards[:1])
    cache.write_shard(1, {key: np.ones((1, 7)) for key in cache.shards[1].keys})
    with pytest.raises(CacheError, match=r"widths \[6, 7\]"):
        cache.finish()


def test_other_settings_are_refused_with_the_command(tmp_path):
    build(tmp_path / "e")
    with pytest.raises(CacheError, match="other settings.*python -m core extract"):
        plan(tmp_path / "e", settings={"backbone": "tiny", "size": 9})
    with pytest.raises(CacheError, match="other dtype"):
        plan(tmp_path / "e", dtype="float32")
    with pytest.raises(CacheError, match="Stale.*python -m core extract"):
        FeatureCache.open(tmp_path / "e", settings={"backbone": "other"})
    assert FeatureCache.open(tmp_path / "e", settings=dict(SETTINGS)).keys() == KEYS


# ---- interruption ------------------------------------------------------------------------------


def test_no_manifest_means_no_reading(tmp_path):
    with pytest.raises(CacheError, match="Nothing is cached.*python -m core extract"):
        FeatureCache.open(tmp_path / "absent")
    cache = plan(tmp_path / "e")
    write(cache, cache.pending_shards())
    with pytest.raises(CacheError, match="Unfinished.*--library tiny"):
        FeatureCache.open(tmp_path / "e")
    with pytest.raises(CacheError, match="open for writing"):
        cache.read(KEYS[0])


def test_finish_refuses_while_shards_are_missing(tmp_path):
    cache = plan(tmp_path / "e")
    write(cache, cache.pending_shards()[:2])
    with pytest.raises(CacheError, match="shard 2 of 3 is missing.*--library tiny"):
        cache.finish()
    assert not (tmp_path / "e" / "manifest.json").exists()


def _drop_table(folder):
    (folder / "00001.parquet").unlink()


def _cut_array(folder):
    path = folder / "00001.npy"
    path.write_bytes(path.read_bytes()[:-7])


def _cut_table(folder):
    path = folder / "00001.parquet"
    path.write_bytes(path.read_bytes()[:40])


def _empty_array(folder):
    (folder / "00001.npy").write_bytes(b"")


def _zero_table(folder):  # as some file systems leave a file after a power cut
    path = folder / "00001.parquet"
    path.write_bytes(bytes(path.stat().st_size))


def _half_temporary_file(folder):
    (folder / "00001.parquet").unlink()
    name = f".00001.npy.{socket.gethostname()}.4194999.tmp"  # beyond the largest process id
    (folder / name).write_bytes(b"\x93NUMPY half a")


STAGES = [_drop_table, _cut_array, _cut_table, _empty_array, _zero_table, _half_temporary_file]


@pytest.mark.parametrize("interrupt", STAGES)
def test_a_half_written_shard_is_recognised_and_finished(tmp_path, interrupt):
    build(tmp_path / "whole")
    cache = plan(tmp_path / "e")
    write(cache, cache.pending_shards()[:2])
    interrupt(tmp_path / "e" / "shards")
    again = plan(tmp_path / "e")
    assert [s.index for s in again.pending_shards()] == [1, 2]
    write(again, again.pending_shards())
    again.finish()
    assert contents(tmp_path / "e") == contents(tmp_path / "whole")


def test_a_crash_between_plan_and_first_shard_or_before_the_manifest_costs_nothing(tmp_path):
    build(tmp_path / "whole")
    plan(tmp_path / "e")  # crash after the plan
    cache = plan(tmp_path / "e")
    write(cache, cache.pending_shards())  # crash before the manifest
    (tmp_path / "e" / "index.parquet").write_bytes(b"half an ind")
    again = plan(tmp_path / "e")
    assert again.pending_shards() == []
    again.finish()
    assert contents(tmp_path / "e") == contents(tmp_path / "whole")


def test_the_table_is_written_after_the_rows_and_the_manifest_last(tmp_path, monkeypatch):
    written = []
    original = feature_cache._write_atomically

    def record(path, data):
        written.append(path.name)
        original(path, data)

    monkeypatch.setattr(feature_cache, "_write_atomically", record)
    build(tmp_path / "e", KEYS[:3])
    order = ["plan.json", "00000.npy", "00000.parquet", "index.parquet", "manifest.json"]
    assert written == order


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    cache = build(tmp_path / "e")
    before = contents(tmp_path / "e")

    def no_space(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write(FeatureCache.planned(tmp_path / "e"), [feature_cache.Shard(0, tuple(KEYS[:16]))])
    after = {k: v for k, v in contents(tmp_path / "e").items() if not k.endswith(".tmp")}
    assert after == before
    np.testing.assert_array_equal(cache.read(KEYS[0]), rows_of(KEYS[0]))


# ---- damage to a finished entry -------------------------------------------------------------------


@pytest.mark.parametrize("interrupt", STAGES[:5])
def test_damage_that_shows_in_sizes_is_refused_and_mended(tmp_path, interrupt):
    build(tmp_path / "e")
    before = contents(tmp_path / "e")
    interrupt(tmp_path / "e" / "shards")
    if interrupt is _zero_table:  # its size is right: only the checksum tells
        FeatureCache.open(tmp_path / "e")
        with pytest.raises(CacheError, match="checksum"):
            FeatureCache.open(tmp_path / "e", verify="full")
    else:
        with pytest.raises(CacheError, match="Damaged.*Run: .*--library tiny"):
            FeatureCache.open(tmp_path / "e")
    cache = plan(tmp_path / "e")
    write(cache, cache.pending_shards())
    cache.finish()
    assert contents(tmp_path / "e") == before


def test_a_flipped_byte_is_found_by_full_verification_and_mended(tmp_path):
    build(tmp_path / "e")
    before = contents(tmp_path / "e")
    flip_byte(tmp_path / "e" / "shards" / "00001.npy")
    FeatureCache.open(tmp_path / "e", verify="quick")
    with pytest.raises(CacheError, match="00001.npy.*checksum.*Run: .*--library tiny"):
        FeatureCache.open(tmp_path / "e", verify="full")
    cache = plan(tmp_path / "e")
    assert cache.pending_shards() == []
    assert [s.index for s in cache.pending_shards("full")] == [1]
    write(cache, cache.pending_shards("full"))
    cache.finish()
    assert contents(tmp_path / "e") == before


def test_a_flipped_byte_in_a_header_or_in_the_index_is_found_by_the_quick_check(tmp_path):
    build(tmp_path / "a")
    flip_byte(tmp_path / "a" / "shards" / "00001.npy", position=30)
    with pytest.raises(CacheError, match="Damaged"):
        FeatureCache.open(tmp_path / "a")
    build(tmp_path / "b")
    flip_byte(tmp_path / "b" / "index.parquet", position=60)
    with pytest.raises(CacheError, match="Damaged.*index.parquet"):
        FeatureCache.open(tmp_path / "b")
    plan(tmp_path / "b").finish()
    assert FeatureCache.open(tmp_path / "b", verify="full").keys() == KEYS


def test_finish_finds_bytes_that_changed_since_they_were_written(tmp_path):
    cache = plan(tmp_path / "e")
    write(cache, cache.pending_shards())
    flip_byte(tmp_path / "e" / "shards" / "00002.npy")
    with pytest.raises(CacheError, match="shard 2 of 3.*damaged"):
        cache.finish()
    assert [s.index for s in cache.pending_shards()] == [2]


@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
def test_unreadable_json_is_refused_with_the_command(tmp_path, name):
    build(tmp_path / "e")
    (tmp_path / "e" / name).write_text('{"format": 1, "sett')
    with pytest.raises(CacheError, match=f"{name}.*Run: .*extract"):
        FeatureCache.open(tmp_path / "e") if name == "manifest.json" else plan(tmp_path / "e")


def test_another_format_is_refused(tmp_path):
    build(tmp_path / "e")
    path = tmp_path / "e" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(CacheError, match="format 99, wanted 1"):
        FeatureCache.open(tmp_path / "e")


def test_a_shard_that_vanishes_after_opening_is_an_error_not_zeros(tmp_path):
    cache = build(tmp_path / "e")
    shutil.rmtree(tmp_path / "e" / "shards")
    with pytest.raises(CacheError, match="Damaged.*Run:"):
        cache.read(KEYS[0])


# ---- more keys ------------------------------------------------------------------------------------


def test_new_keys_go_into_new_shards_and_the_old_ones_stay(tmp_path):
    build(tmp_path / "e")
    before = contents(tmp_path / "e")
    more = [f"video-{i:03d}" for i in range(100, 105)]
    cache = plan(tmp_path / "e", KEYS[5:] + more)
    assert [s.keys for s in cache.pending_shards()] == [tuple(more)]
    # Until the extension is finished, readers see the entry as it was.
    half_way = FeatureCache.open(tmp_path / "e")
    assert half_way.keys() == KEYS and not half_way.is_complete()
    write(cache, cache.pending_shards())
    extended = cache.finish()
    assert extended.keys() == KEYS + more and extended.is_complete()
    after = contents(tmp_path / "e")
    old_shards = {name: data for name, data in before.items() if name.startswith("shards/")}
    assert old_shards.items() <= after.items()


def test_planning_the_same_keys_again_changes_nothing(tmp_path):
    build(tmp_path / "e")
    before = contents(tmp_path / "e")
    cache = plan(tmp_path / "e", list(reversed(KEYS)))
    assert cache.pending_shards("full") == []
    cache.finish()
    assert contents(tmp_path / "e") == before


def test_a_second_attempt_at_a_failed_key_replaces_the_failure(tmp_path):
    build(tmp_path / "e", failed={KEYS[3], KEYS[4]})
    cache = plan(tmp_path / "e")
    cache.retry([KEYS[3], KEYS[4]])
    write(cache, cache.pending_shards(), failed={KEYS[4]})
    assert cache.failures() == {KEYS[4]: "no video stream"}
    mended = cache.finish()
    np.testing.assert_array_equal(mended.read(KEYS[3]), rows_of(KEYS[3]))
    assert mended.failed == {KEYS[4]: "no video stream"}


# ---- many hands ------------------------------------------------------------------------------------


def test_bytes_do_not_depend_on_the_order_of_shards_or_keys(tmp_path):
    build(tmp_path / "a")
    cache = plan(tmp_path / "b", list(reversed(KEYS)))
    write(cache, reversed(cache.pending_shards()))
    cache.finish()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def _write_part(directory: str, rank: int, world: int) -> None:
    cache = plan(Path(directory))
    write(cache, [s for s in cache.shards if s.index % world == rank])


def test_processes_that_write_different_shards_do_not_disturb_each_other(tmp_path):
    build(tmp_path / "whole")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_part, args=(tmp_path / "e", r, 3)) for r in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    FeatureCache.planned(tmp_path / "e").finish()
    assert contents(tmp_path / "e") == contents(tmp_path / "whole")


def test_two_runs_that_write_the_same_shards_at_once_still_leave_a_whole_entry(tmp_path):
    build(tmp_path / "whole")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_part, args=(tmp_path / "e", 0, 1)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    FeatureCache.planned(tmp_path / "e").finish()
    assert contents(tmp_path / "e") == contents(tmp_path / "whole")


def test_opening_many_keys_touches_no_array_and_is_quick(tmp_path):
    keys = [f"video-{i:05d}" for i in range(4_000)]
    cache = plan(tmp_path / "e", keys)
    rows = {key: np.full((1, 4), 1 + i % 100) for i, key in enumerate(keys)}
    for shard in cache.shards:  # fsync is what costs here
        cache.write_shard(shard.index, {key: rows[key] for key in shard.keys})
    reader = cache.finish()
    assert len(reader) == 4_000 and reader._map_shard.cache_info().currsize == 0
    for key in keys[::200]:
        np.testing.assert_array_equal(reader.read(key), rows[key])
    assert reader._map_shard.cache_info().currsize <= feature_cache.OPEN_SHARDS


def test_the_module_needs_no_torch():
    code = "import sys, core.feature_cache; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
