"""What must be known of a model before its picture is believed."""

from __future__ import annotations

import streamlit as st

from app import resources
from app.problems import explained
from app.resources import Alignment, Reading
from app.wording import escape
from core.models.run_folder import RunFolder

WAYS = {
    "regression head": "through its regression head and the teacher's projection",
    "crd head": "through its CRD head and a ridge map fitted on text that is not shown here",
    "ridge": "through a ridge map fitted on text that is not shown here: its training never "
    "aligned it",
}


def show_model_notes(readings: list[Reading]) -> None:
    """For each student a line on how its words came into the joint space, and how well."""
    for reading in readings:
        with explained():
            found = resources.alignment(reading.run)
            if found.how != "trained":
                st.caption(student_note(reading.run, found), help=_HELP)


def student_note(run_name: str, found: Alignment) -> str:
    teacher = RunFolder.open(run_name).settings.teacher
    return (
        f"**{escape(run_name)}** is a student: it has read text only and seen no video. Its words "
        f"come into the space of **{escape(teacher)}** {WAYS[found.how]}. "
        f"Held-out R²: **{found.sentences_r2:.2f}** on new sentences, "
        f"**{found.new_words_r2:.2f}** on words that the map never saw."
    )


_HELP = (
    "R² is the share of the teacher's word vectors that the student's explain, on text left out "
    "of the fit: 1 is all, 0 no more than their mean. The figure on unseen words is the stricter "
    "one: a map can learn known words by heart."
)
