"""What the projections page shows, kept in the URL and, across page switches, in the session."""

from __future__ import annotations

import streamlit as st

from core.analysis import point_selection
from core.analysis.point_selection import Part

NAMES = (
    "source", "kind", "run", "layer", "method", "other", "mode",
    "color", "size", "search", "select", "point", "panel",
)  # fmt: skip
KEPT = "projections-kept"
# What means nothing on other points: a row, a place on a map.
OF_THE_MAP = ("select",)
OF_THE_POINTS = ("select", "point")
MOST_URL = 6000  # characters of a selection; a longer one would not travel in a link


def restore() -> None:
    """Coming back without a link: the view is as this session left it. A link always wins."""
    if not any(name in st.query_params for name in NAMES):
        for name, value in st.session_state.get(KEPT, {}).items():
            st.query_params[name] = value


def keep() -> None:
    """Remember the view for this session; a page switch empties the URL."""
    st.session_state[KEPT] = {n: st.query_params[n] for n in NAMES if n in st.query_params}


def get(name: str) -> str:
    return st.query_params.get(name, "")


def put(**values: str) -> None:
    """Set parts of the view; an empty value takes one out."""
    for name, value in values.items():
        if value in ("", None):
            st.query_params.pop(name, None)
        else:
            st.query_params[name] = str(value)
    keep()


def forget(*names: str) -> None:
    put(**dict.fromkeys(names, ""))


# ---- the selection ---------------------------------------------------------------------------


def selection() -> tuple[Part, ...]:
    return point_selection.parse(get("select"))


def select(part: Part) -> None:
    """Go on from the present selection by one step."""
    text = point_selection.write(point_selection.then(selection(), part))
    put(select=text if len(text) <= MOST_URL else str(part))


def enclose(gesture: dict, run: str) -> None:
    """A box or lasso that was drawn on the map of `run`, as the browser sends it."""
    points = tuple(float(value) for value in gesture["points"])
    part = Part(gesture["kind"], gesture["how"], run, points)
    if point_selection.parse(str(part)):
        select(part)


# ---- widgets that show a part of the view ---------------------------------------------------


def choose(name: str, label: str, options: list[str], default: str = "", forgets=(), **how) -> str:
    """A select box over a part of the view; what the URL asks for and is not there is passed over."""
    chosen = get(name) if get(name) in options else default or options[0]
    key = f"projections-{name}"
    st.session_state[key] = chosen

    def changed() -> None:
        put(**{name: st.session_state[key], **dict.fromkeys(forgets, "")})

    st.selectbox(label, options, key=key, on_change=changed, **how)
    return chosen


def segment(name: str, label: str, options: dict[str, str]) -> str:
    """Buttons over a part of the view; the first is the default."""
    chosen = get(name) if get(name) in options else next(iter(options))
    key = f"projections-{name}"
    st.session_state[key] = chosen
    st.segmented_control(
        label,
        list(options),
        format_func=options.get,
        key=key,
        required=True,
        label_visibility="collapsed",
        on_change=lambda: put(**{name: st.session_state[key]}),
    )
    return chosen


def ask(name: str, label: str, **how) -> str:
    """A text field over a part of the view."""
    key = f"projections-{name}"
    st.session_state[key] = get(name)
    st.text_input(
        label,
        key=key,
        on_change=lambda: put(**{name: (st.session_state[key] or "").strip()}),
        **how,
    )
    return get(name)


def row(limit: int) -> int | None:
    """The point that was picked; None without one."""
    wanted = get("point")
    return int(wanted) if wanted.isdecimal() and int(wanted) < limit else None
