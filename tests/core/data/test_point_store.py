"""Point sets on disk appear whole or not at all, and say what is wrong with them."""

import os

import numpy as np
import pyarrow as pa
import pytest

from core.data import point_store
from core.feature_cache import CacheError
from core.records import Projection

IDENTITY = ("demo", "tokens", "teacher", "joint")


def write_set(run="teacher", count=6, made_from=None, fail=False):
    identity = ("demo", "tokens", run, "joint")
    made_from = made_from or {"encoder": run}
    path = point_store.set_path(*identity, made_from)
    with point_store.writing(path) as folder:
        vectors = np.eye(count, 8, dtype=np.float16)
        np.save(folder / "vectors.npy", vectors)
        table = pa.table({"text": [f"w{row}" for row in range(count)], "zipf": np.ones(count)})
        point_store.write_table(folder / "points.parquet", table)
        if fail:
            raise KeyboardInterrupt
        point_store.write_facts(folder, identity, made_from, point_store.rows_hash(["w"] * count))
    return path


def some_map(method="pca", count=6, seed=0) -> Projection:
    places = np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)
    return Projection(method, places, {"seed": seed}, 0.9, 0.4, 6, 2, np.arange(3))


def test_a_set_is_read_as_it_was_written(workspace):
    points = point_store.load_point_set(write_set())
    assert (points.source, points.kind, points.run, points.layer) == IDENTITY
    assert points.vectors.shape == (6, 8) and isinstance(points.vectors, np.memmap)
    assert point_store.read_points(points, ["text", "unheard"])["text"].to_pylist()[2] == "w2"
    assert point_store.read_sentences(points).num_rows == 0
    assert [s.run for s in point_store.list_point_sets()] == ["teacher"]


def test_an_interrupted_set_leaves_nothing(workspace):
    with pytest.raises(KeyboardInterrupt):
        write_set(fail=True)
    assert point_store.list_point_sets() == []
    assert list((workspace / "cached_features" / "demo").iterdir()) == []


def test_what_a_killed_process_left_goes_away(workspace):
    folder = workspace / "cached_features" / "demo"
    for name in (".points-x.999999999.part", f".points-y.{os.getppid()}.part"):
        (folder / name).mkdir(parents=True)
    write_set()
    assert not (folder / ".points-x.999999999.part").exists()
    assert (folder / f".points-y.{os.getppid()}.part").exists()  # that one is alive


def test_a_map_is_read_as_it_was_written_and_replaces_the_one_before(workspace):
    points = point_store.load_point_set(write_set())
    for seed in (1, 2):
        point_store.write_projection(points, some_map(seed=seed))
    found = point_store.load_projection(points, "pca")
    assert np.array_equal(found.coordinates, some_map(seed=2).coordinates)
    assert (found.trustworthiness, found.quality_queries) == (0.9, 6)
    assert found.sample.tolist() == [0, 1, 2] and found.axes is None
    assert len(list((points.path / "maps").iterdir())) == 1


def test_methods_are_listed_quick_ones_first(workspace):
    points = point_store.load_point_set(write_set())
    for method in ("umap-shared", "umap", "pca"):
        point_store.write_projection(points, some_map(method))
    assert point_store.list_methods(points) == ["pca", "umap", "umap-shared"]


def test_a_map_that_is_missing_names_the_command(workspace):
    points = point_store.load_point_set(write_set())
    with pytest.raises(CacheError, match="core project --source demo .*--method tsne"):
        point_store.load_projection(points, "tsne")


@pytest.mark.parametrize("file", ["vectors.npy", "point_set.json"])
def test_a_damaged_set_is_refused_and_not_listed(workspace, file):
    path = write_set()
    content = (path / file).read_bytes()
    (path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(CacheError, match="Damaged"):
        point_store.load_point_set(path)
    assert point_store.list_point_sets() == []


def test_a_map_of_another_number_of_points_is_refused(workspace):
    points = point_store.load_point_set(write_set())
    with pytest.raises(CacheError, match="Damaged"):
        point_store.write_projection(points, some_map(count=5))


def test_other_weights_are_another_set(workspace):
    write_set(made_from={"encoder": "a"})
    write_set(made_from={"encoder": "b"})
    assert len({s.hash for s in point_store.list_point_sets()}) == 2


def test_layers_are_listed_in_their_order_after_the_joint_space():
    layers = ["10", "2", "joint", "0"]
    assert sorted(layers, key=point_store._layer_order) == ["joint", "0", "2", "10"]
