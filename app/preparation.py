"""The way from an imported library to one that can be searched: features, then embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import jobs
from app.wording import escape
from core.models.run_folder import RunFolder, list_runs


def commands_for(library: str, runs: Sequence[str] = ()) -> list[list[str]]:
    """Arguments of the commands that make a library searchable for these runs, or for all.

    The features are those that the runs' teachers were trained on; without any, the default.
    """
    finished = [
        run.name for run in list_runs() if run.kind == "teacher" and run.state == "finished"
    ]
    teachers = list(dict.fromkeys(_teacher(run) for run in runs)) or finished[-1:]
    extract = [_extract(library, RunFolder.open(teacher).settings) for teacher in teachers]
    if not teachers:
        return [["extract", "--library", library]]
    wanted = [f"--run={run}" for run in dict.fromkeys([*teachers, *runs])] if runs else []
    different = [list(command) for command in dict.fromkeys(map(tuple, extract))]
    return [*different, ["embed", "--library", library, *wanted]]


def _extract(library: str, teacher) -> list[str]:
    streams = ["--frame", teacher.frame_features, "--temporal", teacher.temporal_features]
    return ["extract", "--library", library, *streams]


def offer(library: str, runs: Sequence[str] = (), label: str = "Compute it now") -> None:
    """A button that starts the commands in the background, and the job's progress."""
    job = jobs.find(library)
    if job is None or job.state != "running":
        st.button(
            label,
            icon=":material/play_circle:",
            key="prepare",
            on_click=lambda: jobs.start(
                library, "Preparing for search", commands_for(library, runs)
            ),
        )
    if job:
        show_job(library, job.state)


@st.fragment(run_every=1.5)
def show_job(library: str, state_before: str) -> None:
    """Progress of the library's job; the page is drawn anew when it ends."""
    job = jobs.find(library)
    if job is None:
        return
    if job.state == "running":
        done, line = job.progress()
        st.progress(min(1.0, done), escape(line))
        if st.button("Stop", icon=":material/stop_circle:", key=f"stop-{library}", type="tertiary"):
            job.stop()
    elif job.state == "failed":
        st.error(f"{escape(job.title)} failed. {escape(job.last_words())}")
    elif job.state == "stopped":
        st.info("Stopped. What was done is kept; started again, it goes on from there.")
    if job.state != state_before and state_before == "running":
        st.rerun()


def _teacher(run_name: str) -> str:
    run = RunFolder.open(run_name)
    return run.name if run.kind == "teacher" else run.settings.teacher
