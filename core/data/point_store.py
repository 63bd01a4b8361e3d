"""Point sets and their maps on disk, for the projections page to read.

    cached_features/<source>/points-<kind>-<run>-<layer>-<hash>/
        vectors.npy          f16 [N, D] unit, memory-mapped
        points.parquet       a row of metadata for each point
        sentences.parquet    sentence_id, text; of tokens and words
        point_set.json       what it is and what it was made from
        maps/<method>-<hash>/
            coordinates.npy  f32 [N, 2], memory-mapped
            sample.npy       int64 rows that UMAP or t-SNE was fitted on; new points are placed
                             by these rows' vectors and coordinates
            axes.npy         f32 [2, D + 1] of PCA
            map.json         parameters and how far to trust it

Everything is made in a hidden folder beside its place, which one rename shows whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core import config
from core.feature_cache import CacheError, settings_hash
from core.orphans import is_alive
from core.records import PointSet, Projection

FORMAT = 1
KINDS = ("tokens", "words", "clips", "seconds")
METHODS = ("pca", "umap", "tsne")
SHARED = "-shared"  # of a method: placed on the reference run's map instead of an own one


# ---- reading -----------------------------------------------------------------------------


def list_point_sets() -> list[PointSet]:
    """All point sets, by source, kind, run and layer; damaged folders are passed over."""
    found = []
    for path in sorted(config.cache_root().glob("*/points-*/point_set.json")):
        with contextlib.suppress(CacheError):
            found.append(load_point_set(path.parent))
    return sorted(found, key=lambda s: (s.source, s.kind, s.run, _layer_order(s.layer), s.hash))


def stamp() -> tuple:
    """Changes when a set or a map comes, goes or is replaced; much cheaper than opening them."""
    marks = sorted(config.cache_root().glob("*/points-*/point_set.json"))
    maps = (mark.parent / "maps" for mark in marks)
    return tuple((str(m.parent), m.stat().st_mtime_ns if m.exists() else 0) for m in maps)


def load_point_set(path: Path) -> PointSet:
    """The set in this folder, its vectors mapped. Raises CacheError for a damaged or alien one."""
    facts = _read_json(path / "point_set.json")
    if facts.get("format") != FORMAT:
        raise _damaged(path, f"wanted format {FORMAT}, found {facts.get('format')}")
    vectors = _open_array(path / "vectors.npy", (facts["count"], facts["size"]), np.float16)
    names = ("source", "kind", "run", "layer", "hash", "rows_hash", "made_from")
    return PointSet(path, *(facts[name] for name in names), vectors)


def read_points(point_set: PointSet, columns: Sequence[str] | None = None) -> pa.Table:
    """Metadata of all points, or some columns of it; texts come dictionary-encoded."""
    return _read_table(point_set.path / "points.parquet", columns)


def read_sentences(point_set: PointSet) -> pa.Table:
    """`sentence_id` (its row) and `text` of the sentences that the points were read in."""
    path = point_set.path / "sentences.parquet"
    if not path.exists():
        return pa.table(
            {"sentence_id": pa.array([], pa.int32()), "text": pa.array([], pa.string())}
        )
    return _read_table(path, None)


def list_methods(point_set: PointSet) -> list[str]:
    """Methods that this set has a map of, quick ones first."""
    found = {_method_of(path.parent) for path in point_set.path.glob("maps/*-*/map.json")}
    order = [method + suffix for suffix in ("", SHARED) for method in METHODS]
    return [method for method in order if method in found]


def load_projection(point_set: PointSet, method: str) -> Projection:
    """The set's newest map by this method. Raises CacheError when there is none."""
    folders = _map_folders(point_set, method)
    if not folders:
        raise CacheError(
            f"No {method} map of {point_set.kind} of '{point_set.run}'. Run: "
            f"{command(point_set)} --method {method.removesuffix(SHARED)}"
        )
    return _load_map(folders[-1], len(point_set))


def command(point_set: PointSet) -> str:
    """The command that makes such a set again."""
    return (
        f"python -m core project --source {point_set.source} --kind {point_set.kind} "
        f"--run {point_set.run} --layer {point_set.layer}"
    )


def _load_map(folder: Path, count: int) -> Projection:
    facts = _read_json(folder / "map.json")
    sample, axes = folder / "sample.npy", folder / "axes.npy"
    return Projection(
        facts["method"],
        _open_array(folder / "coordinates.npy", (count, 2), np.float32),
        facts["parameters"],
        facts["trustworthiness"],
        facts["neighbour_preservation"],
        facts["quality_queries"],
        facts["quality_neighbours"],
        np.load(sample) if sample.exists() else None,
        np.load(axes) if axes.exists() else None,
    )


def _map_folders(point_set: PointSet, method: str) -> list[Path]:
    """Oldest first: for a moment two may lie there, while one replaces the other."""
    marks = [p for p in point_set.path.glob("maps/*-*/map.json") if _method_of(p.parent) == method]
    return [mark.parent for mark in sorted(marks, key=lambda p: p.stat().st_mtime_ns)]


def _method_of(folder: Path) -> str:
    return folder.name.rpartition("-")[0]


# ---- writing -----------------------------------------------------------------------------


def set_path(source: str, kind: str, run: str, layer: str, made_from: dict) -> Path:
    """The folder of a set that is made from exactly this."""
    run = re.sub(r"[^A-Za-z0-9._-]+", "--", run)
    name = f"points-{kind}-{run}-{layer}-{settings_hash(made_from)[:8]}"
    return config.library_root(source) / name


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A hidden folder that becomes `path` at the end, or goes away when something goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    hidden = path.parent / f".{path.name}.{os.getpid()}.part"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    try:
        yield hidden
        if path.exists():  # another process was quicker; what it made is the same
            return
        os.replace(hidden, path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def write_facts(
    folder: Path, identity: tuple[str, str, str, str], made_from: dict, rows_hash: str
) -> None:
    """Write point_set.json of (source, kind, run, layer), last: the other files are there."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    facts = dict(zip(("source", "kind", "run", "layer"), identity, strict=True)) | {
        "format": FORMAT,
        "count": len(vectors),
        "size": vectors.shape[1],
        "hash": settings_hash(made_from),
        "rows_hash": rows_hash,
        "made_from": made_from,
    }
    _write_json(folder / "point_set.json", facts)


def write_table(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, compression="zstd")


def write_projection(point_set: PointSet, projection: Projection) -> Projection:
    """Keep a map; an older one by the same method goes away. Returns it as it is read back."""
    older = _map_folders(point_set, projection.method)
    folder = point_set.path / "maps" / f"{projection.method}-{_map_hash(projection)}"
    if folder in older:
        shutil.rmtree(folder)
    with writing(folder) as hidden:
        np.save(hidden / "coordinates.npy", np.asarray(projection.coordinates, np.float32))
        for name in ("sample", "axes"):
            if (values := getattr(projection, name)) is not None:
                np.save(hidden / f"{name}.npy", values)
        arrays = ("coordinates", "sample", "axes")
        facts = {k: v for k, v in vars(projection).items() if k not in arrays}
        _write_json(hidden / "map.json", facts)
    for before in older:
        shutil.rmtree(before, ignore_errors=True)
    return load_projection(point_set, projection.method)


def _map_hash(projection: Projection) -> str:
    return settings_hash(projection.parameters)[:8]


def rows_hash(*columns: Sequence) -> str:
    """sha256 over what names each point (its sentence and place, its word, its clip), hex."""
    digest = hashlib.sha256()
    for column in columns:
        digest.update(json.dumps(list(column), ensure_ascii=False).encode())
    return digest.hexdigest()


def _remove_abandoned(folder: Path) -> None:
    """Hidden folders of processes that are no more: they were killed at their work."""
    for path in folder.glob(".*.part"):
        process = path.name.removesuffix(".part").rpartition(".")[2]
        if process.isdigit() and not is_alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


# ---- files -------------------------------------------------------------------------------


def _open_array(path: Path, shape: tuple[int, int], dtype) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if array.shape != shape or array.dtype != dtype:
        raise _damaged(path, f"wanted {np.dtype(dtype)} {shape}, found {array.dtype} {array.shape}")
    return array


def _read_table(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        names = pq.read_schema(path).names
        kept = None if columns is None else [name for name in columns if name in names]
        return pq.ParquetFile(path).read(columns=kept)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, str(error)) from error


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _damaged(path: Path, what: str) -> CacheError:
    return CacheError(f"Damaged: {path}: {what}. Delete the folder, then: python -m core project")


def _layer_order(layer: str) -> tuple[bool, int]:
    """The joint space first, then the hidden layers in order."""
    return layer != "joint", int(layer) if layer.lstrip("-").isdigit() else 0
