"""Opens point sets and their maps once for all sessions; beside app/resources.py the only caches.

Each is bounded and keyed by the entry's own hash, so that a set computed anew is opened anew.
Nothing here belongs to one session: a selection is kept by what was enclosed, whoever did it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import streamlit as st

from app import projection_labels, resources, scatter
from app.scatter import Bounds
from core import config
from core.analysis import neighbours as nearest
from core.analysis import point_columns, point_selection, projections, survival
from core.analysis.point_columns import Colors, Column
from core.data import point_store
from core.data.point_store import SHARED
from core.data.video_library import thumbnail_path
from core.feature_cache import settings_hash
from core.records import PointSet, Projection

FATE = "fate@"  # before a student's name: the column of what became of its words' grounding
MOST_DRAWN = 250_000  # of a larger set a sample; a window's own points when it is zoomed into
GRID = 64  # cells each way, over which a sample is spread
SEED = 0  # of the order of drawing and of samples


def point_sets() -> list[PointSet]:
    """Every finished set of the workspace that has a map."""
    return _point_sets(str(config.home()), point_store.stamp())


@st.cache_resource(max_entries=2, show_spinner=False)
def _point_sets(home: str, stamp: tuple) -> list[PointSet]:
    return [each for each in point_store.list_point_sets() if point_store.list_methods(each)]


def methods(points: PointSet) -> list[str]:
    """Methods of the set's own maps, and those of its students' maps that are laid on one of them.

    A student's "umap-shared" has its points on the teacher's map: the teacher's own "umap".
    """
    own = point_store.list_methods(points)
    if any(method.endswith(SHARED) for method in own):
        return own
    lent = {m for each in partners(points) for m in point_store.list_methods(each)}
    return own + [method + SHARED for method in own if method + SHARED in lent]


def point_map(points: PointSet, method: str) -> Projection:
    """Mapped into memory, not read: cheap on every rerun. Raises CacheError where it is absent."""
    if method not in point_store.list_methods(points):
        method = method.removesuffix(SHARED)
    return point_store.load_projection(points, method)


def partners(points: PointSet) -> list[PointSet]:
    """Other runs' sets with the same points in the same order, in the same kind of layer first."""
    same = [e for e in point_sets() if e.rows_hash == points.rows_hash and e.run != points.run]
    return sorted(same, key=lambda each: each.layer != points.layer)


def run_kinds() -> dict[str, str]:
    """Kind ("teacher", "student") of each run of the workspace."""
    return {run.name: run.kind for run in resources.runs()}


def is_control(run: str) -> bool:
    """A student that learned from text alone, without any objective of its teacher's."""
    return any(r.name == run and r.kind == "student" and not r.objectives for r in resources.runs())


def distances(one: PointSet, other: PointSet, method: str) -> np.ndarray:
    """How far each point is from its place on the other's map, f32 [N], in widths of the first."""
    key, beside = (_map_key(each, method) for each in (one, other))
    return _distances(key, beside, one, other, method)


@st.cache_resource(max_entries=8, show_spinner=False)
def _distances(key: tuple, beside: tuple, _one, _other, _method: str) -> np.ndarray:
    start, end = (point_map(each, _method).coordinates for each in (_one, _other))
    width = float(np.ptp(start, axis=0).max()) or 1.0
    return np.linalg.norm(np.asarray(end) - start, axis=1) / width


def _set_key(points: PointSet) -> tuple:
    return str(points.path), points.hash


def _map_key(points: PointSet, method: str) -> tuple:
    return (*_set_key(points), method, settings_hash(point_map(points, method).parameters))


# ---- columns -----------------------------------------------------------------------------------


def column_names(points: PointSet) -> list[str]:
    """Columns that hold anything, in the order of the table."""
    return _column_names(_set_key(points), points)


@st.cache_resource(max_entries=64, show_spinner=False)
def _column_names(key: tuple, _points: PointSet) -> list[str]:
    table = point_store.read_points(_points)
    return [name for name in table.column_names if _says_anything(column(_points, name))]


def _says_anything(found: Column) -> bool:
    """More than one value, or none and one: a column of one value colours nothing."""
    if found.is_category:
        return len(np.unique(found.codes)) > 1
    known = found.numbers[np.isfinite(found.numbers)]
    return len(known) > 0 and float(known.min()) < float(known.max())


def column(points: PointSet, name: str) -> Column:
    """A column of the table; one after FATE is worked out from the student's set."""
    if name.startswith(FATE):
        student = next((e for e in partners(points) if e.run == name[len(FATE) :]), None)
        if student is not None and student.layer == points.layer:
            return _fates(_set_key(points), _set_key(student), points, student)
    return _column(_set_key(points), name, points)


def survival_table(teacher: PointSet, student: PointSet) -> pd.DataFrame:
    """core's table of words with their fate. Raises core's SurvivalError."""
    return _survival_table(_set_key(teacher), _set_key(student), teacher, student)


@st.cache_resource(max_entries=6, show_spinner=False)
def _survival_table(key: tuple, other_key: tuple, _teacher, _student) -> pd.DataFrame:
    return survival.survival_of(_teacher, _student)


@st.cache_resource(max_entries=6, show_spinner=False)
def _fates(key: tuple, other_key: tuple, _teacher, _student) -> Column:
    table = survival_table(_teacher, _student)
    grounded = survival.FATES[:3]  # what never was grounded is no colour of its own
    codes = np.full(len(_teacher), -1, np.int32)
    places = {fate: place for place, fate in enumerate(grounded)}
    codes[table.index.to_numpy()] = table["fate"].map(places).fillna(-1).to_numpy()
    return Column(FATE + _student.run, codes, grounded, ordered=True, missing="never grounded")


@st.cache_resource(max_entries=96, show_spinner=False)
def _column(key: tuple, name: str, _points: PointSet) -> Column:
    table = point_store.read_points(_points, [name])
    if name not in table.column_names:
        return Column(name, codes=np.full(len(_points), -1, np.int32))
    return point_columns.column_of(name, table[name])


def numbers(points: PointSet, name: str) -> np.ndarray:
    """Whole numbers of a column as they are stored, int64 [N]."""
    return _numbers(_set_key(points), name, points)


@st.cache_resource(max_entries=24, show_spinner=False)
def _numbers(key: tuple, name: str, _points: PointSet) -> np.ndarray:
    found = point_store.read_points(_points, [name])[name]
    return found.fill_null(-1).to_numpy().astype(np.int64)


def colors(points: PointSet, name: str) -> Colors:
    return _colors(_set_key(points), name, points)


@st.cache_resource(max_entries=48, show_spinner=False)
def _colors(key: tuple, name: str, _points: PointSet) -> Colors:
    return point_columns.colors_of(column(_points, name))


def sentences(points: PointSet) -> pa.Array:
    """The sentences by sentence_id; empty for clips and seconds."""
    return _sentences(_set_key(points), points)


@st.cache_resource(max_entries=4, show_spinner=False)
def _sentences(key: tuple, _points: PointSet) -> pa.Array:
    found = point_store.read_sentences(_points)["text"]
    found = found.cast(pa.string()) if pa.types.is_dictionary(found.type) else found
    return pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], pa.string())


def spans(points: PointSet) -> np.ndarray:
    """Start and end in seconds of the video, f64 [N, 2], of clips and seconds."""
    return _spans(_set_key(points), points)


@st.cache_resource(max_entries=8, show_spinner=False)
def _spans(key: tuple, _points: PointSet) -> np.ndarray:
    found = point_store.read_points(_points, ["second", "clip_id"])
    start = found["second"].fill_null(0).to_numpy().astype(np.float64)
    end = start + 1.0
    if _points.kind == "clips" and _points.source in resources.library_names():
        library = resources.shelf(_points.source).library
        ends = {clip.clip_id: clip.end_sec for clip in library.clips}
        ids = found["clip_id"].to_pylist()
        end = np.array([ends.get(name, after) for name, after in zip(ids, end)])
    return np.stack([start, end], axis=1)


def table(points: PointSet, rows: np.ndarray) -> pd.DataFrame:
    """The rows with all columns that say anything, for showing; the files have them as stored."""
    found = {name: column(points, name) for name in column_names(points)}
    shown = {}
    for name, each in found.items():
        if each.is_category:
            values = np.array([*each.values, None], object)
            shown[name] = values[each.codes[rows]]
        else:
            shown[name] = each.numbers[rows]
    return pd.DataFrame(shown)


def stored(points: PointSet, rows: np.ndarray) -> pd.DataFrame:
    """The rows with every column as it is stored, and the sentence they stand in."""
    frame = point_store.read_points(points).take(rows).to_pandas()
    texts = frame.select_dtypes("category").columns
    frame[texts] = frame[texts].astype(object)  # a few rows need not carry all the set's texts
    if len(sentences(points)) and "sentence_id" in frame:
        ids = frame["sentence_id"].fillna(-1).astype(int)
        known = sentences(points).take(pa.array(ids.clip(lower=0))).to_pylist()
        frame["sentence"] = [text if i >= 0 else "" for i, text in zip(ids, known)]
    return frame


# ---- what is selected ---------------------------------------------------------------------------


def one_point(points: PointSet, row: int) -> np.ndarray:
    """bool [N] with this row alone."""
    chosen = np.zeros(len(points), bool)
    chosen[row] = True
    return chosen


def mask(points: PointSet, method: str, selection: str) -> np.ndarray | None:
    """bool [N] of a selection's text, worked out on all points; None for an empty text."""
    if not selection:
        return None
    others = {e.run: e for e in partners(points)} if "@" in selection else {}
    keys = tuple(_set_key(each) for each in others.values())
    return _mask(_map_key(points, method), keys, selection, points, method, others)


@st.cache_resource(max_entries=32, show_spinner=False)
def _mask(key, keys, selection: str, _points: PointSet, _method: str, _others: dict):
    def places(run: str) -> np.ndarray | None:
        owner = _others.get(run) if run else _points
        if owner is None or _method not in methods(owner):
            return None
        return point_map(owner, _method).coordinates

    return point_selection.selected(
        point_selection.parse(selection),
        len(_points),
        places,
        lambda name, value: point_columns.equal(column(_points, name), value),
        lambda words: point_columns.matching(column(_points, "text"), words),
    )


# ---- what the browser gets ----------------------------------------------------------------------


@dataclass(frozen=True)
class MapFiles:
    """A map as it is drawn: the drawn rows in their order, and the files of their places."""

    bounds: Bounds
    rows: np.ndarray  # int64
    points: bytes
    ends: tuple[bytes, ...] = ()  # the same rows on further maps
    inside: int | None = None  # of a window: how many points it has


def map_files(points: PointSet, method: str, further: Sequence[PointSet] = ()) -> MapFiles:
    keys = tuple(_map_key(each, method) for each in further)
    return _map_files(_map_key(points, method), keys, points, method, tuple(further))


@st.cache_resource(max_entries=12, show_spinner=False)
def _map_files(key: tuple, keys: tuple, _points, _method: str, _further) -> MapFiles:
    places = point_map(_points, _method).coordinates
    ends = [point_map(each, _method).coordinates for each in _further]
    bounds = scatter.bounds_of(places, *ends)
    rows = drawn_rows(places)
    files = [scatter.points_pack(each, rows, bounds) for each in (places, *ends)]
    return MapFiles(bounds, rows, files[0], tuple(files[1:]))


def drawn_rows(places: np.ndarray, most: int = MOST_DRAWN) -> np.ndarray:
    """All rows, or a sample spread over the map, in an order that hides no category."""
    rows = np.arange(len(places))
    if len(places) > most:
        x0, x1, y0, y1 = scatter.bounds_of(places)
        cells = np.floor((places - [x0, y0]) / [x1 - x0, y1 - y0] * GRID).astype(np.int64)
        rows = projections.sample_stratified(cells[:, 0] * GRID + cells[:, 1], most, SEED)
    return np.random.default_rng(SEED).permutation(rows)


def window_files(points: PointSet, method: str, window: Bounds) -> MapFiles:
    """The points of a window of the map, in steps as fine as the window is small."""
    return _window_files(_map_key(points, method), window, points, method)


@st.cache_resource(max_entries=4, show_spinner=False)
def _window_files(key: tuple, window: Bounds, _points: PointSet, _method: str) -> MapFiles:
    places = point_map(_points, _method).coordinates
    inside = projections.select_box(places, *window)
    rows = np.random.default_rng(SEED).permutation(inside)[:MOST_DRAWN]
    return MapFiles(window, rows, scatter.points_pack(places, rows, window), (), len(inside))


def shade_file(points: PointSet, method: str, name: str) -> bytes:
    """Colour codes of the drawn rows."""
    return _shade_file(_map_key(points, method), name, points, method)


@st.cache_resource(max_entries=24, show_spinner=False)
def _shade_file(key: tuple, name: str, _points: PointSet, _method: str) -> bytes:
    return scatter.pack({}, codes=colors(_points, name).codes[map_files(_points, _method).rows])


def size_file(points: PointSet, method: str, name: str) -> bytes:
    """Sizes of the drawn rows."""
    return _size_file(_map_key(points, method), name, points, method)


@st.cache_resource(max_entries=12, show_spinner=False)
def _size_file(key: tuple, name: str, _points: PointSet, _method: str) -> bytes:
    sizes = point_columns.sizes_of(column(_points, name))
    return scatter.pack({}, sizes=sizes[map_files(_points, _method).rows])


def label_file(points: PointSet, method: str) -> bytes:
    """What the drawn points say when they are pointed at."""
    return _label_file(_map_key(points, method), points, method)


@st.cache_resource(max_entries=4, show_spinner=False)
def _label_file(key: tuple, _points: PointSet, _method: str) -> bytes:
    return labels_of(_points, map_files(_points, _method).rows)


def labels_of(points: PointSet, rows: np.ndarray) -> bytes:
    text = column(points, "text")
    if points.kind in ("clips", "seconds"):
        videos = column(points, "video_id")
        shown = np.minimum(videos.codes, projection_labels.MOST_TILES - 1)
        return projection_labels.labels_pack(rows, text, pictures=shown)
    ids, starts, ends = (numbers(points, name) for name in ("sentence_id", "start", "end"))
    return projection_labels.labels_pack(rows, text, ids, sentences(points), starts, ends)


def sheet(points: PointSet) -> bytes:
    """One picture of all the videos' thumbnails; b"" for points that are of no video."""
    if points.kind not in ("clips", "seconds") or points.source not in resources.library_names():
        return b""
    return _sheet(_set_key(points), points)


@st.cache_resource(max_entries=2, show_spinner=False)
def _sheet(key: tuple, _points: PointSet) -> bytes:
    videos = resources.shelf(_points.source).videos
    ids = column(_points, "video_id").values
    files = [thumbnail_path(_points.source, videos[i]) if i in videos else None for i in ids]
    return projection_labels.thumbnail_sheet(files)


def cluster_places(points: PointSet, method: str) -> list[dict]:
    """Each cluster's name at the middle of its points, the largest first."""
    return _cluster_places(_map_key(points, method), points, method)


@st.cache_resource(max_entries=24, show_spinner=False)
def _cluster_places(key: tuple, _points: PointSet, _method: str) -> list[dict]:
    places, found = point_map(_points, _method).coordinates, column(_points, "cluster_name")
    order = np.argsort(found.codes, kind="stable")
    first = np.searchsorted(found.codes[order], np.arange(len(found.values) + 1))
    names = []
    for code in np.argsort(-np.diff(first), kind="stable"):
        rows = order[first[code] : first[code + 1]]
        if len(rows):
            x, y = np.median(places[rows], axis=0)
            names.append({"text": found.values[code], "x": float(x), "y": float(y)})
    return names


# ---- the full space -----------------------------------------------------------------------------


def neighbours(points: PointSet, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """A point's k nearest others: cosines f32 [k] falling, rows int64 [k]."""
    return _neighbours(_set_key(points), row, k, points)


@st.cache_resource(max_entries=256, show_spinner="Searching the full space …")
def _neighbours(key: tuple, row: int, k: int, _points: PointSet):
    return nearest.neighbours(_points.vectors, row, k)


def overlap(one: PointSet, other: PointSet, rows: tuple[int, ...], k: int) -> float:
    """Mean share of the rows' k nearest others that two sets of the same points have in common."""
    return _overlap(_set_key(one), _set_key(other), rows, k, one, other)


@st.cache_resource(max_entries=256, show_spinner="Comparing neighbours …")
def _overlap(key: tuple, other_key: tuple, rows, k: int, _one: PointSet, _other: PointSet) -> float:
    return float(np.nanmean(nearest.overlap_at_k(_one.vectors, _other.vectors, np.array(rows), k)))
