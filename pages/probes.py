"""The probing lab: what models know without being trained on a task, and where they differ."""

from __future__ import annotations

import streamlit as st

from app import resources, viewstate
from app.links import show_permalink
from app.probe_gains import show_gains, show_norms
from app.probe_item import START, show_item
from app.probe_items import open_item, show_items, take_words
from app.probe_lab import LIVE_SEC, Wish, choose, is_running, read_items, read_scores, show_run
from app.probe_scores import show_scores
from app.probe_tuned import show_tuned
from app.problems import explained
from app.wording import escape
from core.data import probe_tasks

VIEWS = {
    "items": "Where they differ",
    "concreteness": "Gains and concreteness",
    "norms": "The norm",
    "own": "Write an item",
    "tuned": "Fine-tuned",
}
IN_LINK = ("view", "first", "second", "outcome", "length", "concrete", "margin", "find", "library")
IN_LINK = (*IN_LINK, "of", "label", "tuned")


def main() -> None:
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.title("Probing lab")
    runs = resources.trained_runs()
    if not runs:
        st.info(
            "No trained model yet. Build the demo, which trains five: `python -m core demo`",
            icon=":material/model_training:",
        )
        return
    take_words()
    wish = choose(runs)
    edits = show(wish)
    with right:
        show_permalink(view_of(wish, edits))


def show(wish: Wish) -> dict:
    """All below the choices; the edits of the opened item, for the link."""
    task = probe_tasks.load_task(wish.task)
    source = "" if task.files.get("root") == "demo" else task.source
    st.caption(" ".join(map(escape, filter(None, (task.about, source)))))
    if not wish.models:
        st.info("Choose a model, or two to compare them.", icon=":material/model_training:")
        return {}
    probe = read_items(wish)
    if probe is None:
        return {}
    live = is_running(wish)
    found = read_scores(wish, probe)
    if found is None:
        return {}
    st.fragment(show_results, run_every=LIVE_SEC if live else None)(wish, probe, live)
    with explained():
        return show_views(wish, found)
    return {}


def show_results(wish: Wish, probe: resources.ProbeSet, was_live: bool) -> None:
    """The run and its scores so far; drawn anew by itself while the run goes on."""
    found = read_scores(wish, probe)
    if found is None:
        return
    live = show_run(wish, found)
    show_scores(found)
    if live != was_live:
        st.rerun()


def show_views(wish: Wish, found: resources.Probed) -> dict:
    view = st.segmented_control(
        "View", required=True, format_func=VIEWS.get, label_visibility="collapsed",
        **viewstate.kept("view", list(VIEWS), "items"),
    )  # fmt: skip
    if view == "tuned":
        show_tuned()
        return {}
    if view == "own":
        return show_item(wish, START)
    if not found.answers:
        st.caption("This opens when all models have scored the same items.")
        return {}
    if view == "items":
        return show_opened(wish, found, show_items(wish, found))
    (show_gains if view == "concreteness" else show_norms)(found)
    return {}


def show_opened(wish: Wish, found: resources.Probed, row: int | None) -> dict:
    """The item that was opened, with the way to its neighbours."""
    if row is None:
        return {}
    items = found.items
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(f"Item {row + 1:,} of {len(items):,}", width="content")
        for step, name, icon in ((-1, "Previous", "chevron_left"), (1, "Next", "chevron_right")):
            place = row + step
            st.button(
                name, icon=f":material/{icon}:", key=f"go-{name}", disabled=not 0 <= place < len(items),
                on_click=lambda place=place: open_item(items[place].item_id), type="tertiary",
            )  # fmt: skip
    return show_item(wish, items[row])


def view_of(wish: Wish, edits: dict) -> dict:
    """All that a link to this view must say."""
    chosen = {name: st.session_state.get(name) for name in IN_LINK}
    places = {name: viewstate.text(name) for name in ("item", "token")}
    return wish.query() | chosen | places | edits


main()
