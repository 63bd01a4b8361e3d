"""Links from one page into a certain view of another."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.components import mount
from app.wording import escape

PAGES = Path(__file__).resolve().parent.parent / "pages"


def grounding_link(library: str, sentence: str, video: str = "", label: str = "", **more) -> None:
    """A link to the grounding page with this sentence, and this video looked into."""
    query = {
        "library": library,
        "sentence": sentence,
        **({"video": video} if video else {}),
        **more,
    }
    st.page_link(
        PAGES / "grounding.py",
        label=escape(label or "Ground it"),
        icon=":material/my_location:",
        query_params=query,
    )


def show_permalink(query: dict) -> None:
    """A button that copies a link to this view; `query` has all that makes it, defaults too.

    A list stands for a parameter that comes several times.
    """
    pairs = [
        [name, str(one)]
        for name, value in query.items()
        for one in (value if isinstance(value, (list, tuple)) else [value])
        if one is not None and one is not False
    ]
    data = {
        "query": pairs,
        "label": "Copy link to this view",
        "done": "Copied",
        "refused": "Copy it from the address bar",
    }
    mount("permalink", "permalink", data)
