"""The grounding-survival map: each word as kept, lost or gained from teacher to student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from app import charts, point_resources, projection_map, projection_view
from app.point_resources import FATE
from app.projection_map import Shown
from app.wording import count, escape, percent
from core.analysis import survival

TITLES = {"kept": "Kept", "lost": "Lost", "gained": "Gained", "never": "Never grounded"}
MOST_ROWS = 3000  # of the table: the greatest losses and the greatest gains


def show_survival(shown: Shown, others: Sequence[Shown]) -> None:
    """Counts, the map, the plot against concreteness, the table of words."""
    teacher, students = parted(shown, others)
    if teacher is None or not students:
        st.info(
            "This needs words, or words in context, of a teacher and a student in the joint space. "
            "Compute both in one command: `python -m core project --kind words`",
            icon=":material/compare_arrows:",
        )
        return
    names = [student.run for student in students]
    default = (
        shown.run
        if shown.run in names
        else next((name for name in names if not point_resources.is_control(name)), names[0])
    )
    chosen = projection_view.choose("other", "Student", names, default=default, width=420)
    student = students[names.index(chosen)]
    table = point_resources.survival_table(teacher.points, student.points)
    show_counts(words_of(table, teacher), teacher, student)
    fate = replace(teacher, color=f"{FATE}{student.run}", size=shown.size, search=shown.search)
    mask = projection_map.selected(fate)
    projection_map.show_map(
        "projections-survival", fate, mask, projection_map.matched(fate), height=480
    )
    st.caption(projection_map.quality(teacher))
    if mask is not None:
        table = table[mask[table.index.to_numpy()]]
    words = words_of(table, teacher)
    show_against_concreteness(words, student)
    show_words(words)


def words_of(table: pd.DataFrame, teacher: Shown) -> pd.DataFrame:
    """A row for each word, whatever the points are."""
    return table if teacher.points.kind == "words" else survival.by_word(table)


def parted(shown: Shown, others: Sequence[Shown]) -> tuple[Shown | None, list[Shown]]:
    """The teacher and its students among the models that have these points."""
    kinds = point_resources.run_kinds()
    able = [each for each in (shown, *others) if each.points.kind in ("tokens", "words")]
    able = [each for each in able if each.points.layer == "joint"]
    teachers = [each for each in able if kinds.get(each.run) == "teacher"]
    students = [each for each in able if kinds.get(each.run) == "student"]
    return (teachers[0] if teachers else None), students


def show_counts(table: pd.DataFrame, teacher: Shown, student: Shown) -> None:
    counts = survival.fate_counts(table)
    averaged = "" if teacher.points.kind == "words" else ", each averaged over its contexts"
    with st.container(horizontal=True, gap="large"):
        for fate, number in counts.items():
            st.metric(TITLES[fate], f"{number:,}", width="content")
    grounded = counts["kept"] + counts["lost"]
    share = percent(counts["kept"] / grounded) if grounded else "none"
    st.caption(
        f"Of {count(len(table), 'word')}{averaged}, {grounded:,} are grounded in {escape(teacher.run)}; "
        f"{escape(student.run)} keeps {share} of them. Grounded means: it points at its clips more "
        f"sharply than {percent(survival.THRESHOLD)} of caption words do, both models held to the "
        "teacher's measure."
    )


def show_against_concreteness(table: pd.DataFrame, student: Shown) -> None:
    """Does what can be seen and touched keep its grounding? The change against the norm."""
    found = survival.concreteness_correlation(table)
    known = table.dropna(subset=["concreteness"])
    if found is None:
        st.caption("Too few of these words have a concreteness norm to hold the change against it.")
        return
    st.plotly_chart(
        charts.survival_chart(known, {fate: TITLES[fate] for fate in survival.FATES}),
        key="survival-chart",
        config={"displaylogo": False},
    )
    low, high = found.interval.low, found.interval.high
    st.caption(
        f"Rank correlation of concreteness and change {signed(found.rho)} ({signed(low)} to "
        f"{signed(high)}) "
        f"over {count(found.count, 'word')}: {_reading(low, high)}. Above 0 a word is sharper in "
        f"{escape(student.run)} than in its teacher."
    )


def signed(value: float) -> str:
    """+0.12 or −0.12, with a minus that is as wide as the plus."""
    return f"{value:+.2f}".replace("-", "−")


def _reading(low: float, high: float) -> str:
    if low <= 0 <= high:
        return "no clear sign that concreteness matters"
    return "concrete words " + ("keep more of their grounding" if low > 0 else "lose more of it")


def show_words(table: pd.DataFrame) -> None:
    """The words as a table that can be sorted; a selection on the map has narrowed it."""
    fates = [fate for fate in survival.FATES if (table["fate"] == fate).any()]
    wanted = st.pills(
        "Show", fates, format_func=TITLES.get, selection_mode="multi", key="survival-fates"
    )
    if wanted:
        table = table[table["fate"].isin(wanted)]
    if len(table) > MOST_ROWS:
        st.caption(
            f"The {MOST_ROWS // 2:,} greatest losses and as many gains of {len(table):,} rows."
        )
        table = pd.concat([table.head(MOST_ROWS // 2), table.tail(MOST_ROWS // 2)])
    columns = {
        "word": "Word", "fate": "Grounding", "teacher": "Teacher", "student": "Student",
        "change": "Change", "concreteness": "Concreteness", "zipf": "Frequency (Zipf)",
        "pos": "Part of speech", "count": "Occurrences",
    }  # fmt: skip
    said = table.assign(fate=table["fate"].map(TITLES))[[c for c in columns if c in table]]
    st.dataframe(
        said.dropna(axis=1, how="all").rename(columns=columns),
        hide_index=True,
        height=min(460, 38 + 35 * max(1, len(said))),
        column_config={
            title: st.column_config.NumberColumn(format="%.2f")
            for title in ("Teacher", "Student", "Change", "Concreteness", "Frequency (Zipf)")
        },
    )
