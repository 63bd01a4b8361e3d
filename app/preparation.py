"""The way from an imported library to one that can be searched: features, then embeddings."""

from __future__ import annotations

import streamlit as st

from app import jobs
from app.wording import escape
from core.models.run_folder import RunFolder, list_runs


def commands_for(library: str, run_name: str | None = None) -> list[list[str]]:
    """Arguments of the commands that make a library searchable for a run, or for all runs.

    The features are those that the run's teacher was trained on; without any run, the default.
    """
    extract = ["extract", "--library", library]
    teachers = [
        run.name for run in list_runs() if run.kind == "teacher" and run.state == "finished"
    ]
    name = _teacher(run_name) if run_name else (teachers[-1] if teachers else None)
    if name is None:
        return [extract]
    settings = RunFolder.open(name).settings
    extract += ["--frame", settings.frame_features, "--temporal", settings.temporal_features]
    embed = ["embed", "--library", library]
    if run_name:
        embed += [f"--run={run}" for run in dict.fromkeys((name, run_name))]
    return [extract, embed]


def offer(library: str, run_name: str | None = None, label: str = "Compute it now") -> None:
    """A button that starts the commands in the background, and the job's progress."""
    job = jobs.find(library)
    if job is None or job.state != "running":
        st.button(
            label,
            icon=":material/play_circle:",
            key=f"prepare-{run_name}",
            on_click=lambda: jobs.start(
                library, "Preparing for search", commands_for(library, run_name)
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
        if st.button("Stop", icon=":material/stop_circle:", key="stop-job", type="tertiary"):
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
