"""The parts of a view that no widget holds (chosen token, video, second), kept in the URL."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import streamlit as st

OWN = ("token", "video", "at")


def number(name: str) -> float | None:
    """The URL's value as a finite number; None when it is absent or something else."""
    try:
        value = float(st.query_params[name])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def text(name: str) -> str | None:
    return st.query_params.get(name)


def put(**values) -> None:
    """Set values in the URL; None takes one out."""
    for name, value in values.items():
        if value is None:
            st.query_params.pop(name, None)
        else:
            st.query_params[name] = f"{value:g}" if isinstance(value, float) else str(value)


def kept(name: str, options: Sequence, default, then: Callable[[], None] | None = None) -> dict:
    """Arguments of a choice that begins with the URL's value, and writes its own there.

    For options that are shown by other names: Streamlit's own binding puts these into the URL,
    where they would be long and change with what they speak of. `then` is called on a change.
    """
    if st.session_state.get(name) not in options:
        st.session_state[name] = next((o for o in options if str(o) == text(name)), default)

    def changed() -> None:
        value = st.session_state[name]
        put(**{name: None if value == default else value})
        if then:
            then()

    return {"options": options, "key": name, "on_change": changed}


def forget() -> None:
    """Another sentence, model or library: what was chosen in the old one means nothing."""
    put(**dict.fromkeys(OWN))
