"""What fine-tuned runs got right, on the page of the runs themselves."""

from __future__ import annotations

import math

import streamlit as st

from app.links import PAGES
from app.wording import count, escape
from core.analysis import fine_tuned
from core.analysis.fine_tuned import TaskAnswers
from core.data import probe_tasks


def show_answers(names: list[str]) -> None:
    """A table of each run's figures on every split that it answered."""
    st.subheader("What it answers")
    found = [answers for name in names for answers in fine_tuned.all_predictions(name)]
    if not found:
        st.info("No answers yet: they come when training is done.", icon=":material/quiz:")
        return
    st.caption("In per cent, with the 95 % interval over items. One seed alone may be luck.")
    st.page_link(
        PAGES / "probes.py",
        label="All seeds together",
        icon=":material/stacks:",
        query_params={"view": "tuned", "tuned": found[0].task},
    )
    for answers in found:
        show_split(answers)


def show_split(answers: TaskAnswers) -> None:
    task = probe_tasks.load_task(answers.task)
    items = len(fine_tuned.labelled(answers))
    st.markdown(
        f"**{escape(answers.run)}** · {task.title}, {escape(answers.split)} · {count(items, 'item')}"
    )
    st.dataframe(
        figure_columns(fine_tuned.figures(answers)),
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.1f") for name in ("value", "from", "to")
        },
    )
    st.caption(lines_beside(answers))


def figure_columns(figures: dict[str, fine_tuned.Figure]) -> dict[str, list]:
    """Columns of the table in per cent; ends that no interval can be given for stay empty."""

    def percent(value: float) -> float | None:
        return None if math.isnan(value) else 100 * value

    return {
        "figure": list(figures),
        "value": [percent(figure.value) for figure in figures.values()],
        "from": [percent(figure.low) for figure in figures.values()],
        "to": [percent(figure.high) for figure in figures.values()],
    }


def lines_beside(answers: TaskAnswers) -> str:
    """What a figure has to beat, and whether this seed has collapsed."""
    text = f"The commonest answer alone: {100 * fine_tuned.commonest_share(answers):.1f} %."
    if answers.template_prior is not None:
        text += f" What the template says: {100 * answers.template_prior:.1f} %."
    if fine_tuned.has_collapsed(fine_tuned.given_answers(answers)):
        text += " This seed has collapsed: it gives one answer to 99 % of the items or more."
    return text
