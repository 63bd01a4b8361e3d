"""Mounts the browser components of app/frontend/ (streamlit.components.v2, no build step)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st

FRONTEND = Path(__file__).resolve().parent / "frontend"


def mount(name: str, key: str, data: dict, **callbacks):
    """Show the component `name` with JSON data; callbacks are `on_<trigger>_change`.

    Everything of a user's (captions, file names, sentences) travels in `data` and is set as
    text by the component, never as HTML.
    """
    # Registered on every mount: registration is a dictionary entry, and each runtime (each
    # test has its own) keeps a registry of its own.
    js, css = source(name)
    return st.components.v2.component(f"vidlankd_{name}", css=css, js=js)(
        key=key, data=data, **callbacks
    )


@cache
def source(name: str) -> tuple[str, str]:
    """A component's script after its parts, and its style sheet after the one that all share.

    Parts are the files `<name>_….js`: scripts arrive as text, where an import finds no file.
    """
    base, own = (FRONTEND / f"{sheet}.css" for sheet in ("base", name))
    scripts = [*sorted(FRONTEND.glob(f"{name}_*.js"), reverse=True), FRONTEND / f"{name}.js"]
    script = "\n".join(each.read_text() for each in scripts)
    return script, base.read_text() + own.read_text()
