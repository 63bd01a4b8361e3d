"""Point sets for tests: groups of points whose right answers are known, written as core writes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from core.analysis.projections import fit_pca
from core.data import point_store
from core.records import PointSet, Projection

WORDS = ("ball", "glass", "lamp", "duck", "rolls", "sinks", "the", "before")
GROUPS = len(WORDS)


def write_point_set(
    run: str = "demo-teacher",
    count: int = 2000,
    source: str = "sample",
    kind: str = "tokens",
    shift: float = 0.0,
    size: int = 16,
    seed: int = 0,
) -> PointSet:
    """`count` points in GROUPS groups: row i is of group i % GROUPS and reads WORDS[i % GROUPS].

    `shift` moves each group by its own direction, so that two runs differ in a known way.
    """
    rng = np.random.default_rng(seed)
    centres = 6 * rng.normal(size=(GROUPS, size))
    moves = shift * np.random.default_rng(seed + 1).normal(size=(GROUPS, size))
    groups = np.arange(count) % GROUPS
    vectors = (centres + moves)[groups] + rng.normal(size=(count, size))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made_from = {"run": run, "count": count, "shift": shift, "seed": seed}
    path = point_store.set_path(source, kind, run, "joint", made_from)
    with point_store.writing(path) as folder:
        np.save(folder / "vectors.npy", vectors.astype(np.float16))
        point_store.write_table(folder / "points.parquet", points_table(run, groups, seed))
        point_store.write_table(folder / "sentences.parquet", sentences_table(count))
        identity = (source, kind, run, "joint")
        rows = point_store.rows_hash(groups.tolist())
        point_store.write_facts(folder, identity, made_from, rows)
    return write_map(point_store.load_point_set(path))


def points_table(run: str, groups: np.ndarray, seed: int) -> pa.Table:
    words = [WORDS[group] for group in groups]
    starts = [4] * len(words)
    rng = np.random.default_rng(seed + sum(map(ord, run)))
    return pa.table(
        {
            "text": words,
            "sentence_id": pa.array(range(len(words)), pa.int32()),
            "start": pa.array(starts, pa.int32()),
            "end": pa.array([4 + len(word) for word in words], pa.int32()),
            "position": pa.array([1] * len(words), pa.int32()),
            "pos": ["verb" if word in ("rolls", "sinks") else "noun" for word in words],
            "zipf": pa.array(3 + groups / 2, pa.float32()),
            "concreteness": pa.array(np.where(groups < 6, 5 - groups / 2, np.nan), pa.float32()),
            "groundedness": pa.array(rng.random(len(words)), pa.float32()),
            "dataset": ["sample"] * len(words),
            "run": [run] * len(words),
            "cluster": pa.array(groups, pa.int32()),
            "cluster_name": [f"{word}, and such" for word in words],
        }
    )


def sentences_table(count: int) -> pa.Table:
    """A sentence for each point, in which its word stands at character 4."""
    texts = [f"the {WORDS[row % GROUPS]} of line {row}" for row in range(count)]
    return pa.table({"sentence_id": pa.array(range(count), pa.int32()), "text": texts})


def write_map(points: PointSet, method: str = "pca") -> PointSet:
    places = fit_pca(points.vectors)(points.vectors)
    map_ = Projection(method, places, {"method": method}, 0.9, 0.25, 500, 10)
    point_store.write_projection(points, map_)
    return points
