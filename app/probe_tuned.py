"""What models answer after training on a task: several seeds, with those that collapsed."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import resources, viewstate
from app.probe_scores import PERCENT
from app.wording import escape
from core.data import probe_tasks


def show_tuned() -> None:
    """Each experiment's headline over its seeds, then every figure of one task."""
    report = resources.tuned_report()
    if not report["experiments"]:
        st.info(
            "No fine-tuned run yet. Train one, for several seeds: "
            "`python -m core fine-tune --task tracie-uniform --model demo-teacher`",
            icon=":material/model_training:",
        )
        return
    st.caption(
        "Median over seeds, the range of the seeds, and the 95 % interval over items of the seed "
        "in the middle. A seed has collapsed when it gives one answer to nearly everything; a seed "
        "is no better when its interval does not pass the share of the commonest answer."
    )
    tasks = list(dict.fromkeys(e["task"] for e in report["experiments"]))
    task = st.selectbox(
        "Fine-tuned on", format_func=title_of, **viewstate.kept("tuned", tasks, tasks[0])
    )
    headline = pd.DataFrame([row_of(e) for e in report["experiments"] if e["task"] == task])
    show(headline)
    figures = [f for f in report["figures"] if f["task"] == task]
    with st.expander("Every figure", icon=":material/list:"):
        show(pd.DataFrame([figure_row(f) for f in figures]))
    categories = [row for row in report["categories"] if row["task"] == task]
    if categories:
        with st.expander("By category", icon=":material/category:"):
            show(pd.DataFrame([category_row(row) for row in categories]))
    for note in report["notes"] if categories else []:
        st.caption(escape(note))


def title_of(task: str) -> str:
    return probe_tasks.load_task(task).title if task in probe_tasks.task_names() else task


def row_of(found: dict) -> dict:
    """An experiment as it is shown, in per cent."""
    count, prior = len(found["seeds"]), found["template_prior"]
    return {
        "experiment": found["experiment"],
        "split": found["split"],
        "figure": found["figure"],
        "median, %": 100 * found["median"],
        "from": 100 * found["low"],
        "to": 100 * found["high"],
        "lowest seed": 100 * found["lowest"],
        "highest seed": 100 * found["highest"],
        "collapsed": f"{found['collapsed']} of {count}",
        "no better": f"{found['no_better']} of {count}",
        "commonest answer": 100 * found["commonest"],
        "by template": None if prior is None else 100 * prior,
        "items": found["items"],
    }


def figure_row(found: dict) -> dict:
    return {
        "experiment": found["experiment"],
        "split": found["split"],
        "figure": found["figure"],
        "median, %": 100 * found["median"],
        "lowest seed": 100 * found["lowest"],
        "highest seed": 100 * found["highest"],
    }


def category_row(found: dict) -> dict:
    return {
        "experiment": found["experiment"],
        "category": found["category"],
        "items": found["items"],
        "accuracy, %": 100 * found["accuracy"],
        "Matthews": 100 * found["matthews"],
    }


def show(table: pd.DataFrame) -> None:
    numbers = table.select_dtypes("float").columns
    st.dataframe(
        table.dropna(axis="columns", how="all"),
        hide_index=True,
        column_config={
            **dict.fromkeys(numbers, PERCENT),
            "items": st.column_config.NumberColumn(format="localized"),
        },
    )
