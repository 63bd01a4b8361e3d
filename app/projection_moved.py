"""What distillation moved: two maps side by side, and points on their way from map to map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import streamlit as st

from app import point_resources, projection_view
from app.projection_map import Shown, show_map
from app.wording import escape, percent
from core.data import point_store


def choose_other(others: Sequence[Shown]) -> Shown:
    """The second model of a pair."""
    names = [other.run for other in others]
    chosen = projection_view.choose("other", "Beside it", names, width=420)
    return others[names.index(chosen)]


def show_pair(shown: Shown, other: Shown, mask, found) -> None:
    """The same points in two models; what is selected on one map is marked on both."""
    columns = st.columns(2, gap="small")
    for column, each, place in zip(columns, (shown, other), ("", other.run)):
        with column:
            show_map(
                f"projections-pair-{'b' if place else 'a'}",
                each,
                mask,
                found,
                title=each.run,
                group="projections-pair",
                height=460,
                place=place,
            )
    st.caption(
        "Select on either map: the same points are marked on the other. A student's map was only "
        "turned, shifted and scaled as a whole to lie on its teacher's."
    )


def show_movement(shown: Shown, others: Sequence[Shown], mask, found) -> None:
    """Points moving from map to map; arrows for what is selected, or found by the search."""
    stages = stages_of(shown, others)
    first = replace(stages[0], color=shown.color, size=shown.size, search=shown.search)
    show_map(
        "projections-moving",
        first,
        mask,
        found,
        stages=[stage.points for stage in stages[1:]],
        at=float(len(stages) - 1),
        place=None,
    )
    st.caption(f"{moved_how_far(stages, mask)} {whose_places(shown.method)}")


def stages_of(shown: Shown, others: Sequence[Shown]) -> list[Shown]:
    """A control, a student, the teacher: in the order in which a student comes to be."""
    models = [shown, *others]
    controls, students, teachers = ([m for m in models if order(m.run) == n] for n in range(3))
    if len(students) > 1:
        names = [each.run for each in students]
        own = shown.run if shown.run in names else names[0]
        chosen = projection_view.choose("other", "Student", names, default=own, width=420)
        students = [students[names.index(chosen)]]
    found = [*controls[:1], *students, *teachers[:1]]
    return found if len(found) > 1 else models[:2]


def whose_places(method: str) -> str:
    """What a place on these maps means."""
    if method.endswith(point_store.SHARED):
        return "All models' points are placed on the teacher's map, so that a move is a move."
    return (
        "Each model has its own map, turned and scaled as a whole to lie on the teacher's: a move "
        "says that neighbours changed, not by how much."
    )


def order(run: str) -> int:
    """0 for a control, 1 for a student, 2 for a teacher."""
    if point_resources.run_kinds().get(run) == "teacher":
        return 2
    return 0 if point_resources.is_control(run) else 1


def moved_how_far(stages: Sequence[Shown], mask: np.ndarray | None) -> str:
    """A sentence on how far points move from the first map to the last."""
    moved = point_resources.distances(stages[0].points, stages[-1].points, stages[0].method)
    said = (
        f"From {escape(stages[0].run)} to {escape(stages[-1].run)} a point moves by "
        f"{percent(float(np.median(moved)))} of the map's width (median)"
    )
    if mask is not None and mask.any():
        said += f", a selected one by {percent(float(np.median(moved[mask])))}"
    return said + ". Select points, or search, to see their arrows."
