"""Named views, and the files that a map leaves behind."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import streamlit as st

from app import point_resources, projection_map, projection_view
from app.problems import explained
from app.projection_map import Shown
from app.scatter import Picture, with_flags
from app.scatter_page import html_page
from app.wording import count, escape
from core.data import saved_views

PAGE = "projections"


def show_saved(present: Mapping[str, str]) -> None:
    """The views saved in this workspace, and the field that saves the present one."""
    views = {view.name: view for view in saved_views.list_views(PAGE)}
    with st.popover("Saved views", icon=":material/bookmark:", width="stretch"):
        with st.form("save-view", border=False, clear_on_submit=True):
            name = st.text_input(
                "Name of this view", max_chars=saved_views.MOST_CHARACTERS, key="view-name"
            )
            if st.form_submit_button("Save this view", icon=":material/bookmark_add:"):
                with explained():
                    saved_views.save_view(PAGE, name, present)
                    st.rerun()
        for name, view in views.items():
            left, right = st.columns([5, 1], vertical_alignment="center")
            left.button(
                escape(name),
                key=f"open-{name}",
                type="tertiary",
                icon=":material/bookmark:",
                on_click=open_view,
                args=(view,),
            )
            right.button(
                "",
                key=f"delete-{name}",
                type="tertiary",
                icon=":material/delete:",
                help=f"Delete {escape(name)}",
                on_click=saved_views.delete_view,
                args=(PAGE, name),
            )


def open_view(view: saved_views.SavedView) -> None:
    known = {name: value for name, value in view.query.items() if name in projection_view.NAMES}
    projection_view.put(**dict.fromkeys(projection_view.NAMES, "") | known)


# ---- files -----------------------------------------------------------------------------------


def show_export(shown: Shown, mask: np.ndarray | None) -> None:
    """Points with their columns as CSV and Parquet, the map as one HTML file."""
    chosen = len(shown.points) if mask is None else int(mask.sum())
    what = "all points" if mask is None else count(chosen, "selected point")
    with st.expander(f"Export {what}", icon=":material/download:"):
        st.write(
            "Points come with their columns and their place on the map. The page is the whole map "
            "in one file, which opens without this app. The map's own toolbar saves PNG and SVG."
        )
        with st.container(horizontal=True):
            name = projection_map.file_name(shown)
            for suffix, write in {"csv": csv_file, "parquet": parquet_file}.items():
                st.download_button(
                    suffix.upper() if suffix == "csv" else "Parquet",
                    data=lambda write=write: write(shown, mask),
                    file_name=f"{name}.{suffix}",
                    key=f"export-{suffix}",
                )
            st.download_button(
                "HTML page",
                data=lambda: html_file(shown, mask),
                file_name=f"{name}.html",
                mime="text/html",
                key="export-html",
            )


def csv_file(shown: Shown, mask: np.ndarray | None) -> bytes:
    return _frame(shown, mask).to_csv(index=False).encode()


def parquet_file(shown: Shown, mask: np.ndarray | None) -> bytes:
    out = io.BytesIO()
    _frame(shown, mask).to_parquet(out, index=False)
    return out.getvalue()


def _frame(shown: Shown, mask: np.ndarray | None):
    """The points' columns, their row in the set and their place on the map."""
    rows = np.arange(len(shown.points)) if mask is None else np.flatnonzero(mask)
    frame = point_resources.stored(shown.points, rows)
    places = point_resources.point_map(shown.points, shown.method).coordinates[rows]
    return frame.assign(row=rows, x=places[:, 0], y=places[:, 1], run=shown.run, map=shown.method)


def html_file(shown: Shown, mask: np.ndarray | None) -> bytes:
    layer, extent = projection_map.layer_of("export", shown, labelled=True)
    picture = Picture(
        extent=extent,
        legend=projection_map.legend_of(shown, mask),
        shapes=projection_map.shapes_of(projection_view.selection(), ""),
        names=projection_map.names_of(shown),
        height=680,
        file=projection_map.file_name(shown),
    )
    title = f"{shown.points.kind.capitalize()} of {shown.points.source}, {shown.run}"
    about = f"{len(shown.points):,} points by {shown.method}. {projection_map.quality(shown)}"
    flagged = with_flags(layer, mask, projection_map.matched(shown))
    return html_page(title, about, picture, flagged, len(shown.points)).encode()
