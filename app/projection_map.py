"""The map of a point set: what is drawn of it, its legend, its gestures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from app import point_resources, projection_view, scatter
from app.scatter import Bounds, Layer, Picture, show_scatter, with_flags
from app.wording import count, number
from core.analysis import point_columns, point_selection
from core.analysis.point_columns import Colors, Column
from core.analysis.point_selection import Part
from core.records import PointSet

PLAIN = "-"
NAMES = {
    PLAIN: "nothing",
    "cluster_name": "Cluster",
    "pos": "Part of speech",
    "zipf": "Frequency (Zipf)",
    "concreteness": "Concreteness",
    "pieces": "Word pieces",
    "groundedness": "Groundedness",
    "dataset": "Data set",
    "video_id": "Video",
    "position": "Place in the sentence",
    "second": "Second of the video",
    "count": "Occurrences",
    "survival": "Grounding kept",
}
# Columns that say which point it is, not what it is like.
IDENTITY = ("text", "sentence_id", "start", "end", "clip_id", "cluster", "row", "caption")
MOST_NAMES = 40  # of clusters, written on the map; those that would overlap are left out


@dataclass(frozen=True)
class Shown:
    """Which points are shown, and how."""

    points: PointSet
    method: str
    color: str = ""  # a column's name, "" for one colour
    size: str = ""
    search: str = ""

    @property
    def run(self) -> str:
        return self.points.run


def column_names(points: PointSet) -> list[str]:
    return [name for name in point_resources.column_names(points) if name not in IDENTITY]


def title_of(column: str) -> str:
    if column.startswith(point_resources.FATE):
        return f"Grounding in {column[len(point_resources.FATE) :]}"
    return NAMES.get(column, column.replace("_", " ").capitalize())


# ---- what is selected ------------------------------------------------------------------------


def selected(shown: Shown) -> np.ndarray | None:
    """bool [all points], worked out on the full set; None where nothing is selected."""
    selection = point_selection.write(projection_view.selection())
    return point_resources.mask(shown.points, shown.method, selection)


def matched(shown: Shown) -> np.ndarray | None:
    """bool [all points]: what the search finds; None without a search."""
    if not shown.search:
        return None
    return point_resources.mask(shown.points, shown.method, str(Part("match", value=shown.search)))


# ---- the map ---------------------------------------------------------------------------------


def show_map(
    key: str,
    shown: Shown,
    mask: np.ndarray | None,
    found: np.ndarray | None,
    stages: Sequence[PointSet] = (),
    title: str = "",
    group: str = "",
    height: int = 560,
    at: float = 0.0,
    place: str | None = "",
) -> None:
    """Show the map of `shown`; with `stages` its points move on to each of these sets' maps.

    `place` is the run whose map shapes drawn here belong to, "" for the page's own, None where
    nothing can be enclosed.
    """
    layer, extent = layer_of(key, shown, stages)
    picture = Picture(
        extent=extent,
        title=title,
        legend=legend_of(shown, mask),
        shapes=shapes_of(projection_view.selection(), place),
        names=() if stages else names_of(shown),
        stages=[each.run for each in (shown.points, *stages)] if stages else (),
        arrows=bool(stages),
        at=at,
        group=group,
        height=height,
        file=file_name(shown),
    )
    sampled = len(layer.rows) < len(shown.points)
    on = gestures(key, shown, place)
    if sampled and not stages:
        on["window"] = lambda window: st.session_state.update({f"{key}-window": tuple(window)})
    detail = detail_of(key, shown) if "window" in on else None
    show_scatter(
        key,
        picture,
        with_flags(layer, mask, found),
        len(shown.points),
        with_flags(detail, mask, found) if detail else None,
        on,
    )


def file_name(shown: Shown) -> str:
    return f"{shown.points.source}-{shown.points.kind}-{shown.run}-{shown.method}"


def layer_of(
    key: str, shown: Shown, stages: Sequence[PointSet] = (), labelled: bool = False
) -> tuple[Layer, Bounds]:
    """The files of the drawn points; labels only once somebody has pointed at the map."""
    points, method = shown.points, shown.method
    files = point_resources.map_files(points, method, stages)
    labelled = labelled or st.session_state.get(f"{key}-labels", False)
    layer = Layer(
        files.points,
        files.rows,
        files.ends,
        shade=point_resources.shade_file(points, method, shown.color) if shown.color else b"",
        sizes=point_resources.size_file(points, method, shown.size) if shown.size else b"",
        labels=point_resources.label_file(points, method) if labelled else b"",
        sheet=point_resources.sheet(points) if labelled else b"",
    )
    return layer, files.bounds


def gestures(key: str, shown: Shown, place: str | None) -> dict:
    """What the map's gestures do to the view."""

    def category(choice: dict) -> None:
        projection_view.select(Part("is", column=choice["column"], value=choice["value"]))

    return {
        "enclosed": lambda gesture: projection_view.enclose(gesture, place),
        "cleared": lambda _: projection_view.forget("select", "point"),
        "picked": lambda row: pick(shown, int(row)),
        "category": category,
        "asked": lambda _: st.session_state.update({f"{key}-labels": True}),
    }


def pick(shown: Shown, row: int) -> None:
    """Open one point: what is known of it stands in the panel of its neighbours."""
    if 0 <= row < len(shown.points):
        projection_view.put(point=row, panel="neighbours")


def detail_of(key: str, shown: Shown) -> Layer | None:
    """The points of the window that is looked at closely, where the map is a sample."""
    window = st.session_state.get(f"{key}-window")
    if window is None:
        return None
    piece = point_resources.window_files(shown.points, shown.method, window)
    if not len(piece.rows):
        return None
    labelled = st.session_state.get(f"{key}-labels", False)
    return Layer(
        piece.points,
        piece.rows,
        shade=_codes(shown, piece.rows),
        sizes=_sizes(shown, piece.rows),
        labels=point_resources.labels_of(shown.points, piece.rows) if labelled else b"",
        window=piece.bounds,
        inside=piece.inside,
    )


def _codes(shown: Shown, rows: np.ndarray) -> bytes:
    if not shown.color:
        return b""
    return scatter.pack({}, codes=point_resources.colors(shown.points, shown.color).codes[rows])


def _sizes(shown: Shown, rows: np.ndarray) -> bytes:
    if not shown.size:
        return b""
    column = point_resources.column(shown.points, shown.size)
    return scatter.pack({}, sizes=point_columns.sizes_of(column)[rows])


# ---- what stands beside and on it ---------------------------------------------------------------


def legend_of(shown: Shown, mask: np.ndarray | None) -> dict:
    """What the colours mean, with counts of all and of the selected points."""
    if not shown.color:
        return {"kind": "none", "codes": []}
    colors = point_resources.colors(shown.points, shown.color)
    title = title_of(colors.column)
    if not colors.is_category:
        column = point_resources.column(shown.points, shown.color)
        return _continuous_legend(title, colors, mask, column)
    items = [
        {
            "code": row.code,
            "name": row.name,
            "total": row.total,
            "selected": row.selected,
            "choice": {"column": colors.column, "value": row.name}
            if row.code < point_columns.MOST_COLORS
            else None,
        }
        for row in point_columns.counts_of(colors, mask)
    ]
    codes = list(range(len(colors.names)))
    return {"kind": "category", "title": title, "codes": codes, "items": items}


def _continuous_legend(title: str, colors: Colors, mask, column: Column) -> dict:
    steps = np.linspace(colors.low, colors.high, 11)
    known = np.isfinite(column.numbers)
    notes = [f"mean {_figure(column.numbers[known].mean())}"] if known.any() else []
    if mask is not None and (mask & known).any():
        notes.append(f"mean of the selected {_figure(column.numbers[mask & known].mean())}")
    if not known.all():
        notes.append(f"{int((~known).sum()):,} points have no value")
    return {
        "kind": "continuous",
        "title": title,
        "codes": [],
        "low": f"≤ {_figure(colors.low)}",
        "high": f"≥ {_figure(colors.high)}",
        "steps": [_figure(step) for step in steps],
        "notes": notes,
    }


def _figure(value: float) -> str:
    return number(float(f"{value:.3g}"))


def shapes_of(parts: Sequence[Part], place: str | None) -> list[dict]:
    """Outlines of the selection that were drawn on this map."""
    return [
        {"kind": part.kind, "points": list(part.points)}
        for part in parts
        if part.kind in point_selection.GEOMETRY and part.run == place
    ]


def names_of(shown: Shown) -> list[dict]:
    """The clusters' names, each at the middle of its points, the largest first."""
    if shown.color != "cluster_name":
        return []
    return point_resources.cluster_places(shown.points, shown.method)[:MOST_NAMES]


def quality(shown: Shown) -> str:
    """How far the map can be trusted, in a plain sentence."""
    found = point_resources.point_map(shown.points, shown.method)
    if found.neighbour_preservation is None:
        return "How true this map is was not measured."
    k, share = found.quality_neighbours, found.neighbour_preservation
    return (
        f"Of a point's {k} nearest neighbours in the full space, {k * share:.1f} are among its "
        f"{k} nearest on this map. Trustworthiness {found.trustworthiness:.2f} of 1: what stands "
        f"together here {_together(found.trustworthiness)}. Distances between far groups mean "
        f"little. Measured on {count(found.quality_queries, 'point')}."
    )


def _together(trustworthiness: float) -> str:
    """What a trustworthiness says; the borders are those of common use, not of a test."""
    if trustworthiness >= 0.95:
        return "is almost always close in the full space too"
    if trustworthiness >= 0.85:
        return "is mostly close in the full space too"
    return "is often far apart in the full space"
