"""Where two models differ: the items, filtered, with the slice's own statistics."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import streamlit as st

from app import resources, viewstate
from app.probe_lab import Wish
from app.probe_scores import PERCENT, verdict
from app.wording import count
from core.analysis import probes
from core.analysis.probes import Answers

THIRDS = ("any", "low", "middle", "high")
THIRD_NAMES = {
    "length": {"any": "any length", "low": "short", "middle": "middle", "high": "long"},
    "concrete": {
        "any": "any concreteness",
        "low": "least concrete",
        "middle": "middle",
        "high": "most concrete",
    },
    "margin": {
        "any": "any margin",
        "low": "close calls",
        "middle": "middling",
        "high": "clear calls",
    },
}
OUTCOMES = ("any", "first", "second", "both", "neither")
MAX_SEARCH = 200
KEPT_WORDS = 3  # that two texts may begin with in common before they are cut


def show_items(wish: Wish, found: resources.Probed) -> int | None:
    """The filters, the slice's statistics and its items; the row of the opened one, if any."""
    one, other = choose_pair(found)
    mask, by_outcome = choose_slice(found, one, other)
    rows = np.flatnonzero(mask)
    if not len(rows):
        st.info("No item passes these filters.", icon=":material/filter_alt:")
    else:
        show_slice(found, mask, by_outcome)
        show_table(found, one, other, rows)
        show_exports(wish, found, rows)
    return opened_row(found, rows)


def choose_pair(found: resources.Probed) -> tuple[Answers, Answers]:
    """The two models that the outcomes speak of."""
    names = [each.model for each in found.answers]
    if len(names) < 3:
        return found.answers[0], found.answers[-1]
    left, right = st.columns(2)
    with left:
        first = st.selectbox("First", names, key="first", bind="query-params")
    with right:
        second = st.selectbox("Second", names, index=1, key="second", bind="query-params")
    return found.answers[names.index(first)], found.answers[names.index(second)]


def choose_slice(found: resources.Probed, one: Answers, other: Answers) -> tuple[np.ndarray, bool]:
    """The filters; bool [N] of the items that pass them all, and whether answers chose them."""
    labels = {
        "any": "all items",
        "first": f"only {one.model} is right",
        "second": f"only {other.model} is right",
        "both": "both are right",
        "neither": "both are wrong",
    }
    columns = st.columns([4, 2, 2, 2, 3], vertical_alignment="bottom")
    with columns[0]:
        wanted = st.selectbox(
            "Who is right", format_func=labels.get, **viewstate.kept("outcome", OUTCOMES, "any")
        )
    chosen = {}
    for column, (name, names) in zip(columns[1:], THIRD_NAMES.items()):
        with column:
            chosen[name] = st.selectbox(
                name.capitalize().replace("Concrete", "Concreteness"),
                format_func=names.get,
                **viewstate.kept(name, THIRDS, "any"),
            )
    with columns[4]:
        text = st.text_input(
            "Text", max_chars=MAX_SEARCH, placeholder="words of the item", key="find",
            bind="query-params",
        )  # fmt: skip
    mask = outcome_mask(one, other, wanted) & text_mask(found.items, text or "")
    values = values_of(found, one, other)
    mask = np.logical_and.reduce([mask, *(third(values[n], chosen[n]) for n in chosen)])
    return mask, wanted != "any"


def outcome_mask(one: Answers, other: Answers, wanted: str) -> np.ndarray:
    """bool [N] of the items with this outcome; OUTCOMES after "any" are in core's order."""
    found = probes.outcome(one, other)
    return np.ones(len(found), bool) if wanted == "any" else found == OUTCOMES.index(wanted) - 1


def text_mask(items, text: str) -> np.ndarray:
    """Items that hold all of the words, as words begin; commas part alternatives."""
    wanted = [part.lower().split() for part in text.split(",") if part.strip()]
    if not wanted:
        return np.ones(len(items), bool)
    texts = [" ".join([item.context, *item.choices]).lower() for item in items]
    return np.array(
        [any(all(_holds(t, w) for w in words) for words in wanted) for t in texts], bool
    )


def _holds(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}", text) is not None


def take_words() -> None:
    """Words that another page asks for: any of them."""
    words = viewstate.text("words")
    if words:
        st.session_state["find"] = ", ".join(words.split(","))[:MAX_SEARCH]
        viewstate.put(words=None)


def values_of(found: resources.Probed, one: Answers, other: Answers) -> dict[str, np.ndarray]:
    """What the filters by thirds look at; the margin is that of the less certain model."""
    return {
        "length": np.array(probes.lengths(found.items), float),
        "concrete": found.probe.concreteness[found.common],
        "margin": np.minimum(np.abs(one.margin), np.abs(other.margin)),
    }


def third(values: np.ndarray, wanted: str) -> np.ndarray:
    """bool [N]: in the wanted third of the known values."""
    if wanted == "any" or not np.isfinite(values).any():
        return np.ones(len(values), bool)
    lower, upper = np.nanquantile(values, [1 / 3, 2 / 3])
    inside = {"low": values <= lower, "high": values > upper}
    return inside.get(wanted, (values > lower) & (values <= upper))


def show_slice(found: resources.Probed, mask: np.ndarray, by_outcome: bool) -> None:
    """What the slice's own statistics are, when it is a slice."""
    if mask.all():
        return
    table, pairs = resources.probe_tables(found, mask)
    size = f"This slice: {count(int(mask.sum()), 'item')} of {len(mask):,}."
    if by_outcome:
        size += " It was chosen by who is right, so that it says nothing of who is better."
    st.caption(size)
    left, right = st.columns(2, gap="medium", vertical_alignment="center")
    with left:
        shown = {"model": table["model"], "right, %": 100 * table["accuracy"]}
        shown |= {"from": 100 * table["low"], "to": 100 * table["high"]}
        st.dataframe(
            pd.DataFrame(shown),
            hide_index=True,
            column_config=dict.fromkeys(("right, %", "from", "to"), PERCENT),
        )
    with right:
        if len(pairs) and not by_outcome:
            st.markdown(verdict(pairs))


def show_table(found: resources.Probed, one: Answers, other: Answers, rows: np.ndarray) -> None:
    """The slice's items; a click on a row opens one."""
    names = [each.model for each in found.answers]
    table = resources.probe_item_table(found).iloc[rows]
    shown = table[["context"]].copy()
    texts = [parted(*pair) for pair in zip(table["right text"], table["wrong text"])]
    shown["right text"], shown["wrong text"] = [[pair[n] for pair in texts] for n in (0, 1)]
    for name in names:
        shown[name] = np.where(table[f"right: {name}"], "✓", "✗")
    for each in dict.fromkeys((one.model, other.model)):
        shown[f"margin, {each}"] = table[f"margin: {each}"]
    shown["length"], shown["concreteness"] = table["length"], table["concreteness"]
    numbers = [f"margin, {name}" for name in (one.model, other.model)]
    # The key changes with what is listed: a selection is of row numbers, not of items.
    key = f"items-{hash((found.key, rows.tobytes()))}"
    st.dataframe(
        shown,
        hide_index=True,
        height=min(420, 40 + 35 * len(shown)),
        key=key,
        on_select=lambda: _picked(key, table["item"].tolist()),
        selection_mode="single-row",
        column_config={
            "context": st.column_config.TextColumn(width=310),
            "right text": st.column_config.TextColumn(width=165),
            "wrong text": st.column_config.TextColumn(width=165),
            **dict.fromkeys(numbers, st.column_config.NumberColumn(format="%.2f")),
            "concreteness": st.column_config.NumberColumn(
                format="%.2f", help="Mean over the item's words, 1 to 5"
            ),
        },
    )


def parted(right: str, wrong: str) -> tuple[str, str]:
    """Both texts from a word before they part: in a narrow column their ends would be cut."""
    words = right.split(), wrong.split()
    same = next((n for n, (a, b) in enumerate(zip(*words)) if a != b), 0)
    if same <= KEPT_WORDS:
        return right, wrong
    return tuple("… " + " ".join(text[same - 1 :]) for text in words)


def _picked(key: str, item_ids: list[str]) -> None:
    selected = st.session_state[key]["selection"]["rows"]
    if selected and selected[0] < len(item_ids):
        open_item(item_ids[selected[0]])


def open_item(item_id: str) -> None:
    viewstate.put(item=item_id, context=None, choices=None, token=None, of=None)
    st.session_state.pop("of", None)  # each item begins with its right choice


def opened_row(found: resources.Probed, rows: np.ndarray) -> int | None:
    """The row of the URL's item, also where the filters hide it; else the slice's first."""
    wanted = viewstate.text("item")
    ids = [item.item_id for item in found.items]
    if wanted in ids:
        return ids.index(wanted)
    return int(rows[0]) if len(rows) else None


# ---- taking it along -----------------------------------------------------------------------------


def show_exports(wish: Wish, found: resources.Probed, rows: np.ndarray) -> None:
    name = f"{wish.task}-{wish.method}-{wish.norm}"
    table = resources.probe_item_table(found).iloc[rows]
    with st.container(horizontal=True):
        st.download_button(
            "Items as CSV",
            lambda: table.to_csv(index=False).encode(),
            f"{name}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="save-csv",
        )
        st.download_button(
            "Everything as JSON",
            lambda: export_json(wish, found, rows),
            f"{name}.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
            key="save-json",
        )


def export_json(wish: Wish, found: resources.Probed, rows: np.ndarray) -> bytes:
    """Settings, models' hashes, scores, tests and items of the slice."""
    mask = np.zeros(len(found.common), bool)
    mask[rows] = True
    table, pairs = resources.probe_tables(found, None if mask.all() else mask)
    items = resources.probe_item_table(found).iloc[rows]
    content = {
        "settings": wish.query(),
        "models": {name: resources.model_hash(name) for name in wish.models},
        "scores": json.loads(table.to_json(orient="records")),
        "pairs": json.loads(pairs.to_json(orient="records")),
        "items": json.loads(items.to_json(orient="records")),
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
