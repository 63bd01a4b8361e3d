"""One item opened: what each model makes of every piece, and what an edit changes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import streamlit as st

from app import moments, resources, viewstate
from app.bars import ModelBars, letter, show_bars
from app.chips import show_chips
from app.links import grounding_link
from app.probe_lab import Wish
from app.problems import explained, is_expected, message_of
from app.resources import Reading
from app.wording import escape, opening_token
from core.analysis import probes
from core.records import ProbeItem

MAX_CHARACTERS = 2000
ONE_LINE = 60  # characters; longer texts get a field of several lines
OWN = "own"  # the id of an item that was written here
START = ProbeItem(OWN, "", "If you drop the glass cup, it will", ("shatter.", "bounce."), 0)
MAX_CHANGES = 12  # words listed whose grounding changed


@dataclass(frozen=True)
class Opened:
    """An item as it stands in the fields, and the one that it was made from."""

    item: ProbeItem
    parent: ProbeItem

    @property
    def edited(self) -> bool:
        return (self.item.context, self.item.choices) != (self.parent.context, self.parent.choices)


def show_item(wish: Wish, parent: ProbeItem) -> dict:
    """The item with its bars, edits and groundings; what a link to it must say besides its id."""
    opened = edit(parent)
    if not all(text.strip() for text in opened.item.choices):
        st.info("Write a text into each choice.", icon=":material/edit:")
        return edits_query(opened)
    models = score(wish, opened)
    if models:
        show_answers(opened, models)
        show_bars("item-bars", opened.item.choices, opened.item.label, models)
        with explained():
            show_grounding(wish, opened)
    return edits_query(opened)


# ---- editing -----------------------------------------------------------------------------------


def edit(parent: ProbeItem) -> Opened:
    """Fields for the context and every choice, as they stand in the URL or else in the parent."""
    names = [_key(parent, part) for part in ("context", *range(len(parent.choices)))]
    for name, text in zip(names, texts_in_url(parent)):
        st.session_state.setdefault(name, text)
    context = ask("Context", names[0], parent.context)
    choices = []
    for number, column in enumerate(st.columns(len(parent.choices))):
        with column:
            mark = " (right)" if number == parent.label and parent.item_id != OWN else ""
            label = f"{letter(number)}{mark}"
            choices.append(ask(label, names[number + 1], parent.choices[number]))
    label = parent.label
    if parent.item_id == OWN:
        label = st.radio(
            "Which is right?", format_func=letter, horizontal=True,
            **viewstate.kept("label", range(len(choices)), 0),
        )  # fmt: skip
    item = replace(parent, context=_one_line(context), choices=tuple(map(_one_line, choices)))
    opened = Opened(replace(item, label=label), parent)
    viewstate.put(**edits_query(opened))
    if opened.edited and parent.item_id != OWN:
        left, right = st.columns([8, 3], vertical_alignment="center")
        left.caption(
            f"Originally: {original_text(parent)} What counts as right is the original's: an edit "
            "may have changed it."
        )
        right.button(
            "Back to the original", icon=":material/undo:", key="restore",
            on_click=restore, args=(parent,),
        )  # fmt: skip
    return opened


def ask(label: str, key: str, original: str) -> str:
    """A field for one text of the item, as large as the original needs."""
    options = {"max_chars": MAX_CHARACTERS, "on_change": lambda: viewstate.put(token=None)}
    if len(original) > ONE_LINE:
        return st.text_area(label, key=key, height="content", **options)
    return st.text_input(label, key=key, **options)


def texts_in_url(parent: ProbeItem) -> list[str]:
    """Context and choices: as a link says, where it does so whole, else the parent's."""
    try:
        choices = json.loads(viewstate.text("choices") or "null")
    except ValueError:
        choices = None
    fits = isinstance(choices, list) and len(choices) == len(parent.choices)
    if not fits or not all(isinstance(text, str) for text in choices):
        choices = list(parent.choices)
    context = viewstate.text("context")
    texts = [parent.context if context is None else context, *choices]
    return [text[:MAX_CHARACTERS] for text in texts]


def edits_query(opened: Opened) -> dict:
    """The edits for the URL; None where nothing was edited."""
    item = opened.item
    if not opened.edited:
        return {"context": None, "choices": None}
    return {"context": item.context, "choices": json.dumps(item.choices, ensure_ascii=False)}


def restore(parent: ProbeItem) -> None:
    for part, text in zip(
        ("context", *range(len(parent.choices))), (parent.context, *parent.choices)
    ):
        st.session_state[_key(parent, part)] = text
    viewstate.put(context=None, choices=None, token=None)


def original_text(parent: ProbeItem) -> str:
    choices = " / ".join(f"{letter(n)}: {text}" for n, text in enumerate(parent.choices))
    return f"“{escape(parent.context)}” {escape(choices)}"


def _key(parent: ProbeItem, part) -> str:
    return f"text-{parent.task}-{parent.item_id}-{part}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


# ---- scores ------------------------------------------------------------------------------------


def score(wish: Wish, opened: Opened) -> list[ModelBars]:
    """Each model's scores of the item, and of its parent where it was edited."""
    found = []
    for model in wish.models:
        try:
            texts = live(wish, model, opened.item)
            before = None
            if opened.edited and opened.parent.item_id != OWN:
                kept = live(wish, model, opened.parent)
                before = probes.normed_scores(opened.parent, kept, wish.norm)
        except Exception as error:
            if not is_expected(error):
                raise
            st.error(f"{escape(model)}: {message_of(error)}", icon=":material/error:")
            continue
        scores = probes.normed_scores(opened.item, texts, wish.norm)
        found.append(ModelBars(model, texts, scores, before))
    return found


def live(wish: Wish, model: str, item: ProbeItem):
    return resources.live_scores(model, wish.method, item.context, item.choices)


def show_answers(opened: Opened, models: list[ModelBars]) -> None:
    """Who is right, and whose answer the edit has changed, in a line for each model."""
    lines = []
    for model in models:
        now = margin(model.scores, opened.item.label)
        state = (
            ":green-badge[:material/check: right]"
            if now > 0
            else ":red-badge[:material/close: wrong]"
        )
        line = f"{state} **{escape(model.name)}** chooses {letter(int(np.argmax(model.scores)))}, "
        line += f"margin {signed(now)}"
        if model.before is not None:
            before = margin(model.before, opened.parent.label)
            flipped = (before > 0) != (now > 0)
            line += f"; it was {signed(before)}"
            line += " :orange-badge[the edit turned its answer]" if flipped else ""
        lines.append(line)
    st.markdown("  \n".join(lines))


def margin(scores: np.ndarray, label: int) -> float:
    """Score of the right choice minus the best of the others."""
    return float(scores[label] - max(np.delete(scores, label)))


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


# ---- grounding -----------------------------------------------------------------------------------


def show_grounding(wish: Wish, opened: Opened) -> None:
    """Where the words of the item point in a library, and what the edit moved."""
    st.markdown("#### Where its words point")
    runs = [name for name in wish.models if resources.is_run(name)][:2]
    names = resources.library_names()
    if not names or not runs:
        st.info(
            "Groundings need a run of this workspace and a library of videos: "
            "`python -m core demo`",
            icon=":material/video_library:",
        )
        return
    left, right = st.columns([3, 3], vertical_alignment="bottom")
    with left:
        library = st.selectbox("Library", names, key="library", bind="query-params")
    with right:
        places = range(len(opened.item.choices))
        place = st.segmented_control(
            "Words of", required=True, format_func=lambda n: f"context and {letter(n)}",
            **viewstate.kept("of", places, opened.item.label, lambda: viewstate.put(token=None)),
        )  # fmt: skip
    sentence, before = text_of(opened.item, place), text_of(opened.parent, place)
    readings = resources.in_common(
        [resources.reading(library, run, sentence, True) for run in runs]
    )
    if not readings[0].text.tokens:
        st.info("There is no word in this text.", icon=":material/edit:")
        return
    token = chosen_token(readings[0])
    show_chips(
        "item-chips",
        sentence,
        readings[0].text.tokens,
        token,
        [reading.strengths for reading in readings],
        [reading.run for reading in readings],
        on_pick=lambda index: viewstate.put(token=index),
    )
    if opened.edited and opened.parent.item_id != OWN and before != sentence:
        show_changes(library, readings[0], resources.reading(library, runs[0], before, True))
    grounding_link(library, sentence, label="Open on the grounding page", model=runs[0])
    moments.show_best(library, readings, token, look_inside=False)


def text_of(item: ProbeItem, place: int) -> str:
    return f"{item.context} {item.choices[min(place, len(item.choices) - 1)]}".strip()


def chosen_token(reading: Reading) -> int:
    wanted = viewstate.number("token")
    if wanted is not None and 0 <= wanted < len(reading.text.tokens):
        return int(wanted)
    return opening_token([token.text for token in reading.text.tokens], reading.strengths)


def show_changes(library: str, now: Reading, before: Reading) -> None:
    """The words whose grounding the edit changed most."""
    rows = changed_words(words_of(library, now), words_of(library, before))
    if not rows:
        return
    st.caption(f"What the edit changed for {escape(now.run)}, new words first:")
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config=dict.fromkeys(
            ("strength before", "strength now"),
            st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0),
        ),
    )


def words_of(library: str, reading: Reading) -> list[tuple[str, float, str]]:
    """Each word with its groundedness and the caption of its best moment."""
    found = []
    for row, token in enumerate(reading.text.tokens):
        best = moments.find_best(library, reading, row, 1)
        caption = best[0].clip.caption or best[0].clip.video_id if best else ""
        found.append((token.text, float(reading.strengths[row]), caption))
    return found


def changed_words(now: list[tuple], before: list[tuple]) -> list[dict]:
    """Rows of words that are new, gone, or point otherwise, at most MAX_CHANGES."""
    old = {word.lower(): (strength, caption) for word, strength, caption in before}
    new = {word.lower() for word, _, _ in now}
    rows = []
    for word, strength, caption in now:
        was = old.get(word.lower())
        if was is None or abs(was[0] - strength) >= 0.02 or was[1] != caption:
            rows.append(_row(word, was, (strength, caption)))
    rows += [_row(w, (s, c), None) for w, s, c in before if w.lower() not in new]
    return sorted(rows, key=_order)[:MAX_CHANGES]


def _row(word: str, before: tuple | None, now: tuple | None) -> dict:
    return {
        "word": word,
        "strength before": before[0] if before else None,
        "strength now": now[0] if now else None,
        "pointed at": before[1] if before else "",
        "points at": now[1] if now else "",
    }


def _order(row: dict) -> tuple:
    old, new = row["strength before"], row["strength now"]
    if old is None or new is None:
        return (0, 0.0)
    return (1, -abs(new - old))
