"""The choices that several pages ask for. Each is kept in the URL under its key."""

from __future__ import annotations

import streamlit as st

from app import resources, viewstate
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
    viewstate.begin("library", names[0], names)
    chosen = st.selectbox(
        "Library",
        names,
        index=None,
        required=True,
        key="library",
        bind="query-params",
        on_change=on_change or "rerun",
    )
    return chosen or names[0]


def choose_model(library: str, models: list[RunInfo]) -> str:
    names = [run.name for run in models]
    first = default_model(library, models)
    viewstate.begin("model", first, names)
    chosen = st.selectbox(
        "Model",
        names,
        index=None,
        required=True,
        key="model",
        bind="query-params",
        help="A teacher has seen videos. A student has read text only, guided by its teacher.",
    )
    return chosen or first


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
    teachers = [run for run in models if run.kind == "teacher"] or models
    own = [run for run in teachers if run.library == library]
    return (own or teachers)[0].name
