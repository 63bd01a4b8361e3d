"""Maps of the embedding space: what is close, what distillation moved, and the way to the video."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app import (
    point_resources,
    projection_jobs,
    projection_map,
    projection_moved,
    projection_panels,
    projection_saved,
    projection_survival,
    projection_view,
    resources,
)
from app.links import show_permalink
from app.problems import explained
from app.projection_map import PLAIN, Shown, title_of
from app.wording import count
from core.analysis.point_selection import Part
from core.data import point_store
from core.data.point_store import SHARED
from core.records import PointSet

METHODS = {
    "pca": "PCA",
    "umap": "UMAP",
    "tsne": "t-SNE",
    "pca-shared": "PCA, on the teacher's map",
    "umap-shared": "UMAP, on the teacher's map",
    "tsne-shared": "t-SNE, on the teacher's map",
}
BEST = ("umap", "tsne", "pca", "umap-shared", "tsne-shared", "pca-shared")
MODES = {
    "map": "One map",
    "pair": "Two models",
    "moved": "What moved",
    "survival": "Grounding kept and lost",
}


def main() -> None:
    projection_view.restore()
    left, middle, right = st.columns([6, 2, 3], vertical_alignment="center")
    left.title("Projections")
    sets = point_resources.point_sets()
    if not sets:
        show_empty()
        return
    with explained():
        shown = choose_points(sets)
        others = same_points(shown)
        mode = choose_mode(others)
        shown = choose_look(shown, colored=mode != "survival")
        with middle:
            projection_saved.show_saved(link_of(shown, mode))
        with right:
            show_permalink(link_of(shown, mode))
        show(mode, shown, others)
    projection_view.keep()
    with st.expander("Compute another map", icon=":material/add_circle:"):
        projection_jobs.show_form()
        projection_jobs.show_running()


def show_empty() -> None:
    st.info(
        "No map yet. A map is computed beside the app, by the button below or by "
        f"`{projection_jobs.shown_command()}`",
        icon=":material/scatter_plot:",
    )
    projection_jobs.show_form()
    projection_jobs.show_running()


# ---- what is shown ---------------------------------------------------------------------------


def choose_points(sets: list[PointSet]) -> Shown:
    """Source, kind of points, model, layer and method: each offers what there is of the last."""
    grid = st.grid(5, min_column_width=160)  # two beside each other on a phone
    left = sets
    labels = {"source": "From", "kind": "Points", "run": "Model", "layer": "Layer"}
    for name, label in labels.items():
        options = list(dict.fromkeys(getattr(each, name) for each in left))
        with grid.container():
            chosen = projection_view.choose(
                name,
                label,
                options,
                default=default_of(name, options),
                forgets=("select", "point") if name in ("source", "kind") else (),
                format_func=projection_jobs.KINDS.get if name == "kind" else str,
            )
        left = [each for each in left if getattr(each, name) == chosen]
    methods = point_resources.methods(left[-1])
    with grid.container():
        method = projection_view.choose(
            "method",
            "Method",
            methods,
            default=default_method(left[-1], methods),
            forgets=("select",),
            format_func=METHODS.get,
        )
    return Shown(left[-1], method)


def default_of(name: str, options: list[str]) -> str:
    """Words before single tokens, a teacher before its students."""
    if name == "kind":
        return next((kind for kind in ("words", "tokens") if kind in options), options[0])
    if name == "run":
        teachers = [run.name for run in resources.trained_runs() if run.kind == "teacher"]
        return next((run for run in options if run in teachers), options[0])
    return options[0]


def default_method(points: PointSet, methods: list[str]) -> str:
    """To see movement, all on the teacher's map, where that is the map that stood here before."""
    best = next(name for name in BEST if name in methods)
    lent = best + SHARED
    moves = projection_view.get("mode") == "moved" and lent not in point_store.list_methods(points)
    return lent if moves and lent in methods else best


def choose_mode(others: list[Shown]) -> str:
    """What is asked of the map; comparing needs the same points in another model."""
    modes = MODES if others else {name: MODES[name] for name in ("map", "survival")}
    return projection_view.segment("mode", "View", modes)


def choose_look(shown: Shown, colored: bool) -> Shown:
    """Colour, size and search; what became of the grounding is a colour of its own."""
    names = projection_map.column_names(shown.points)
    numeric = [n for n in names if not point_resources.column(shown.points, n).is_category]
    grid = st.grid(3 if colored else 2, min_column_width=160)
    color = PLAIN
    if colored:
        with grid.container():
            color = projection_view.choose(
                "color",
                "Colour by",
                [PLAIN, *names],
                default="cluster_name" if "cluster_name" in names else PLAIN,
                format_func=title_of,
            )
    with grid.container():
        size = projection_view.choose(
            "size", "Size by", [PLAIN, *numeric], default=PLAIN, format_func=title_of
        )
    with grid.container():
        search = projection_view.ask(
            "search", "Search the points", placeholder='ball, or "ball" for the whole word'
        )
    plain = {PLAIN: ""}
    return replace(shown, color=plain.get(color, color), size=plain.get(size, size), search=search)


def same_points(shown: Shown) -> list[Shown]:
    """The same points in other models that have a map by this method."""
    return [
        Shown(each, shown.method)
        for each in point_resources.partners(shown.points)
        if each.layer == shown.points.layer and shown.method in point_resources.methods(each)
    ]


def show(mode: str, shown: Shown, others: list[Shown]) -> None:
    if mode == "survival":
        projection_survival.show_survival(shown, others)
        return
    mask = projection_map.selected(shown)
    found = projection_map.matched(shown)
    show_found(shown, found)
    if mode == "pair":
        other = projection_moved.choose_other(others)
        projection_moved.show_pair(shown, replace(other, color=shown.color, size=""), mask, found)
        beside = [other]
    elif mode == "moved":
        projection_moved.show_movement(shown, others, mask, found)
        beside = others[:2]
    else:
        projection_map.show_map("projections-map", shown, mask, found)
        beside = others[:2]
    st.caption(projection_map.quality(shown))
    show_selection(shown, mask, beside)
    projection_saved.show_export(shown, mask)


def show_found(shown: Shown, found) -> None:
    """How much the search found, and the way to select it."""
    if found is None:
        return
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.caption(f"The search marks {int(found.sum()):,} of {count(len(shown.points), 'point')}.")
    if found.any():
        part = Part("match", value=shown.search.strip())
        right.button(
            "Select them", key="select-found", on_click=projection_view.select, args=(part,)
        )


def show_selection(shown: Shown, mask, others: list[Shown]) -> None:
    """How many points are selected, and the panels that they open."""
    if mask is None:
        picked = projection_view.row(len(shown.points))
        if picked is None:
            st.caption(
                "Draw a box or a lasso on the map, click a colour's name, or select what a search "
                "finds. Shift adds to the selection, Alt takes away. A click opens one point."
            )
            return
        mask = point_resources.one_point(shown.points, picked)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.markdown(f"### {count(int(mask.sum()), 'point')} selected", width="content")
        st.button(
            "Clear",
            icon=":material/close:",
            type="tertiary",
            on_click=projection_view.forget,
            args=("select", "point"),
        )
        projection_panels.probe_link(shown, mask)
    if mask.any():
        projection_panels.show_panels(shown, mask, others)


def link_of(shown: Shown, mode: str) -> dict:
    """All that a link to this view must say, defaults too."""
    points = shown.points
    said = {name: getattr(points, name) for name in ("source", "kind", "run", "layer")}
    color = projection_view.get("color") if mode == "survival" else shown.color or PLAIN
    look = {"color": color, "size": shown.size, "search": shown.search}
    rest = {name: projection_view.get(name) for name in ("other", "select", "point", "panel")}
    whole = said | {"method": shown.method, "mode": mode} | look | rest
    return {name: value for name, value in whole.items() if value}


main()
