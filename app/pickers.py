"""The choices that several pages ask for. Each is kept in the URL under its key."""

from __future__ import annotations

import streamlit as st

from app import resources
from core.models.run_folder import RunInfo


def choose_library(on_change=None) -> str | None:
    """The chosen library's name; None, with a message, when there is none."""
    names = resources.library_names()
    if not names:
        st.info(
            "No library of videos yet. Import your own on the Library page, or build the demo: "
            "`python -m core demo`",
            icon=":material/video_library:",
        )
        return None
    return st.selectbox(
        "Library", names, key="library", bind="query-params", on_change=on_change or "rerun"
    )


def choose_model(library: str, models: list[RunInfo]) -> str:
    names = [run.name for run in models]
    return st.selectbox(
        "Model",
        names,
        index=names.index(default_model(library, models)),
        key="model",
        bind="query-params",
        help="A teacher has seen videos. A student has read text only, guided by its teacher.",
    )


def choose_second_model(models: list[RunInfo]) -> str | None:
    return st.selectbox(
        "Compare with",
        [run.name for run in models],
        index=None,
        placeholder="nothing",
        key="compare",
        bind="query-params",
    )


def default_model(library: str, models: list[RunInfo]) -> str:
    """The newest teacher that learned from this library, else the newest teacher."""
    return own_teacher(library, models) or _teachers(models)[0].name


def own_teacher(library: str, models: list[RunInfo]) -> str | None:
    """The newest teacher that learned from this library."""
    return next((run.name for run in _teachers(models) if run.library == library), None)


def _teachers(models: list[RunInfo]) -> list[RunInfo]:
    return [run for run in models if run.kind == "teacher"] or models
