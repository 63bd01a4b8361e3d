"""What is probed: task, models, method and norm; and the run that makes missing scores."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import streamlit as st

from app import jobs, resources, viewstate
from app.problems import is_expected, message_of
from app.wording import count, escape
from core import demo
from core.data import probe_tasks
from core.models.run_folder import RunInfo
from core.scoring import METHODS, NORMS

LIVE_SEC = 1.5
FOLDER = "probe-data"  # of the data sets, where it was typed
LIMITS = (0, 100, 500, 1000)
NORM_NAMES = {"sum": "sum", "token": "per token", "char": "per character"}
METHOD_HELP = (
    "PLL hides each piece in turn. PLL-word-l2r also hides the later pieces of its word, which "
    "would betray it: plain PLL finds long words too likely."
)
NORM_HELP = (
    "What the sum of a text's log probabilities is divided by. By the sum alone long texts lose."
)


@dataclass(frozen=True)
class Wish:
    """What the reader of the page asks for."""

    task: str
    models: tuple[str, ...]
    method: str
    norm: str
    limit: int  # 0: all items
    data: str  # folder of the data sets; "" for the default

    @property
    def job(self) -> str:
        """Name of its run: the same for whoever asks for the same scores."""
        what = [self.task, *self.models, self.method, self.limit, self.data]
        return f"probe-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}"

    def command(self) -> list[str]:
        """Arguments of `python -m core`. One word each: a name may begin with a hyphen."""
        words = ["probe", f"--task={self.task}", *(f"--models={name}" for name in self.models)]
        words += [f"--method={self.method}", f"--norm={self.norm}"]
        words += [f"--limit={self.limit}"] if self.limit else []
        return words + ([f"--data={self.data}"] if self.data else [])

    def query(self) -> dict:
        """All that a link to it must say. Where the data lie is not the reader's business."""
        return {
            "task": self.task,
            "models": list(self.models),
            "method": self.method,
            "norm": self.norm,
            "limit": self.limit or None,
        }


# ---- choosing ----------------------------------------------------------------------------------


def task_names() -> list[str]:
    """Tasks that a model answers without training on them, those of the demo first."""
    names = [name for name in probe_tasks.task_names() if probe_tasks.load_task(name).zero_shot]
    return sorted(names, key=lambda name: (name not in demo.PROBES, name))


def choose(runs: list[RunInfo]) -> Wish:
    """Task, models, method and norm, each kept in the URL."""
    first, second = st.columns([3, 7], vertical_alignment="bottom")
    with first:
        task = st.selectbox(
            "Task",
            format_func=lambda name: probe_tasks.load_task(name).title,
            **viewstate.kept("task", task_names(), demo.PROBES[0], forget_item),
        )
    with second:
        models = st.multiselect(
            "Models",
            [run.name for run in runs],
            default=default_models(runs),
            key="models",
            bind="query-params",
            accept_new_options=True,
            wrap=True,
            placeholder="A run; or type a folder or a hub name",
            help="Runs of this workspace. A masked language model of the transformers library "
            "can be typed in: its folder, or its name on the hub.",
        )
    columns = st.columns([4, 4, 2])
    with columns[0]:
        method = st.segmented_control(
            "Method", METHODS, default=METHODS[-1], required=True, key="method",
            bind="query-params", help=METHOD_HELP,
        )  # fmt: skip
    with columns[1]:
        norm = st.segmented_control(
            "Norm", required=True, format_func=NORM_NAMES.get, help=NORM_HELP,
            **viewstate.kept("norm", NORMS, NORMS[0]),
        )  # fmt: skip
    with columns[2]:
        limit = st.selectbox(
            "Items", format_func=lambda n: f"{n:,} by chance" if n else "all",
            **viewstate.kept("limit", LIMITS, 0, forget_item),
        )  # fmt: skip
    data = st.session_state.get(FOLDER, "")
    return Wish(task, tuple(dict.fromkeys(models)), method, norm, limit, data)


def forget_item() -> None:
    """Other items: what was open among the old ones means nothing."""
    viewstate.put(**dict.fromkeys(("item", "context", "choices", "token", "of")))
    st.session_state.pop("of", None)


def default_models(runs: list[RunInfo]) -> list[str]:
    """Teacher, best student and text-only control of one family, as far as they are there."""
    teacher = next((run.name for run in runs if run.kind == "teacher"), None)
    pupils = [run for run in runs if run.kind == "student" and run.teacher == teacher]
    taught = [run for run in pupils if run.objectives]
    controls = [run.name for run in pupils if not run.objectives]
    best = max(taught, key=lambda run: grounding_of(run.name), default=None)
    found = [teacher, best.name if best else None, next(iter(controls), None)]
    return list(filter(None, found)) or [run.name for run in runs[:2]]


def grounding_of(run_name: str) -> float:
    """How often the run's words point at the right clip, where it was measured; else 0."""
    from app.run_views import grounding_reports

    figures = [f for report in grounding_reports(run_name) for f in report["figures"]]
    name = "R@1 things and actions"
    return max((f["value"] for f in figures if f["name"] == name), default=0.0)


# ---- reading and running -------------------------------------------------------------------------


def read_items(wish: Wish) -> resources.ProbeSet | None:
    """The task's items; without its files, what is wanted and a field to name the folder."""
    try:
        found = resources.probe_set(wish.task, wish.limit, wish.data)
        if wish.data and wish.task not in demo.PROBES:
            show_folder(wish.data)
        return found
    except Exception as error:
        if not is_expected(error):
            raise
        st.info(message_of(error), icon=":material/folder_open:")
    st.text_input(
        "Folder of the data sets",
        key="data-folder",
        placeholder="/path/to/data",
        on_change=lambda: keep_folder(st.session_state["data-folder"]),
    )
    st.caption(
        "It holds PIQA/, TRACIE/ and the like. To set it for good, start the app with VIDLANKD_DATA "
        f"in the environment. Without the app: `python -m core probe --task={wish.task} "
        "--models=RUN --data=FOLDER`"
    )
    return None


def keep_folder(folder: str) -> None:
    """Of this session alone: a widget's own value is gone when it is no longer on the page."""
    st.session_state[FOLDER] = folder.strip()


def show_folder(folder: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Files from {escape(folder)}", width="content")
        st.button(
            "Another folder", key="other-folder", type="tertiary", on_click=keep_folder, args=("",)
        )


def read_scores(wish: Wish, probe: resources.ProbeSet) -> resources.Probed | None:
    """What is kept of the scores; None, with a message, for a model that cannot be asked."""
    try:
        return resources.probed(probe, wish.models, wish.method, wish.norm)
    except Exception as error:
        if not is_expected(error):
            raise
        st.error(message_of(error), icon=":material/error:")
        return None


def show_run(wish: Wish, found: resources.Probed) -> bool:
    """The button that makes missing scores, or the progress of its run; whether one is going on."""
    job = jobs.find(wish.job)
    if is_running(wish):
        show_progress(job)
        return True
    if not found.missing:
        return False
    if job is None and is_demo(wish):
        start(wish)  # seconds of work: the demo is there without a click
        return True
    _tell_end(job)
    total = len(found.probe.items) * len(wish.models)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Run" if found.missing == total else "Go on",
            icon=":material/play_circle:",
            key="run-probe",
            type="primary",
            on_click=start,
            args=(wish,),
        )
        st.caption(
            f"{found.missing:,} of {count(total, 'score')} to make, in the background; what is "
            "done is kept and never made again."
        )
    return False


def is_demo(wish: Wish) -> bool:
    """Whether this is what the demo's build keeps scores of; an older build did not."""
    usual = wish.task in demo.PROBES and wish.method == METHODS[-1]
    return usual and all(map(resources.is_run, wish.models))


def is_running(wish: Wish) -> bool:
    job = jobs.find(wish.job)
    return job is not None and job.state == "running"


def start(wish: Wish) -> None:
    jobs.start(wish.job, "Scoring", [wish.command()])


def show_progress(job: jobs.Job) -> None:
    done, line = job.progress()
    left, right = st.columns([8, 2], vertical_alignment="center")
    with left:
        st.progress(min(1.0, done), escape(line))
    with right:
        if st.button("Cancel", icon=":material/stop_circle:", key="cancel-probe"):
            job.stop()


def _tell_end(job: jobs.Job | None) -> None:
    if job and job.state == "failed":
        st.error(f"Scoring failed. {escape(job.last_words())}", icon=":material/error:")
    elif job and job.state == "stopped":
        st.info("Stopped. What was scored is kept; a new run goes on from there.")
