"""Computing a map: a command in the background, with its progress and a way to stop it."""

from __future__ import annotations

import streamlit as st

from app import jobs, preparation, resources
from core.models.run_folder import RunInfo

KINDS = {
    "words": "Words",  # averaged over their sentences
    "tokens": "Words in context",
    "clips": "Clips",
    "seconds": "Seconds of video",
}
METHODS = ("pca", "umap", "tsne")
LIMITS = (5_000, 20_000, 50_000, 200_000)
JOB = "projections"  # one at a time: each takes all cores it gets


def command(source: str, kind: str, runs: list[str], layer: str, methods: list[str], limit: int):
    """Arguments of `python -m core`."""
    return [
        "project", "--source", source, "--kind", kind, "--layer", layer,
        "--method", ",".join(methods), "--limit", str(limit),
        *(part for run in runs for part in ("--run", run)),
    ]  # fmt: skip


def shown_command() -> str:
    """What an empty page names: the models of the workspace, on its first library."""
    runs = default_runs(resources.trained_runs())
    source = next(iter(resources.library_names()), "demo")
    return "python -m core " + " ".join(
        command(source, "words", runs, "joint", ["pca", "umap"], 20_000)
    )


def default_runs(able: list[RunInfo]) -> list[str]:
    """A control, its student and the teacher, in the order in which points are to move."""
    teachers = [run.name for run in able if run.kind == "teacher"][:1]
    students = [run.name for run in able if run.kind == "student"]
    control = [name for name in students if "text-only" in name][:1]
    student = [name for name in students if name not in control][:1]
    return [*teachers, *student, *control]


def show_form() -> None:
    """Choose what to map; the command runs beside the app."""
    able = resources.trained_runs()
    if not able or not resources.library_names():
        st.info("A map needs a trained model and a library: `python -m core demo`")
        return
    names = [run.name for run in able]
    with st.form("project", border=False):
        left, middle, right = st.columns(3)
        source = left.selectbox(
            "Text or library",
            resources.library_names(),
            accept_new_options=True,
            help="A library's captions and clips. Or type the path of a text file on this computer.",
        )
        kind = middle.selectbox("Points", list(KINDS), format_func=KINDS.get)
        layer = right.selectbox(
            "Layer", ["joint"], accept_new_options=True,
            help="The joint space of text and video, or the number of a hidden layer.",
        )  # fmt: skip
        runs = st.multiselect("Models", names, default=default_runs(able))
        left, right = st.columns(2)
        methods = left.multiselect("Methods", METHODS, default=["pca", "umap"])
        limit = right.select_slider(
            "At most this many points", LIMITS, value=20_000, format_func=lambda n: f"{n:,}"
        )
        if st.form_submit_button("Compute the maps", type="primary", icon=":material/play_circle:"):
            start(source, kind, runs, layer, methods, limit)


def start(source, kind, runs, layer, methods, limit) -> None:
    if not runs or not methods:
        st.error("Choose a model and a method first.")
        return
    jobs.start(JOB, "Computing maps", [command(source, kind, runs, str(layer), methods, limit)])
    st.rerun()


def show_running() -> None:
    """The job's progress, or how it ended."""
    job = jobs.find(JOB)
    if job is None:
        return
    if job.state == "finished":
        jobs.forget(JOB)
        st.toast("The maps are ready.")
        return
    preparation.show_job(JOB, job.state)
