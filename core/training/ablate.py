"""A grid of teachers and students over seeds: `python -m core ablate PLAN.yaml`.

A plan names teacher variants, student variants and seeds; a cell is one of each. Every cell and
seed is a run with a name of its own, trained and probed by the same functions as any run, so
that the same command goes on after Ctrl-C or a crash and does nothing twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from core import config
from core.config import DistillSettings, SettingsError, TeacherSettings
from core.models.run_folder import RunError, RunFolder, checked_name
from core.orphans import end_with_parent, leave_if_orphaned
from core.training.distill_student import distill, objective_weights
from core.training.loop import TrainingStopped
from core.training.train_teacher import contrast_of, train_teacher

Progress = Callable[[int, int, str], None]
PLANS = Path(__file__).parent / "plans"
TEXT_ONLY = "text-only"  # the cell that all others are compared with, unless the plan says other


@dataclass(frozen=True)
class Plan:
    """A plan as written, checked. Settings are `field: value`, as with --set."""

    name: str
    title: str = ""
    preset: str = "demo"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    baseline: str = TEXT_ONLY  # a student
    teacher: dict = field(default_factory=dict)  # settings of all teachers
    student: dict = field(default_factory=dict)  # settings of all students
    teachers: dict = field(default_factory=lambda: {"teacher": {}})  # name -> settings of its own
    students: dict = field(default_factory=dict)
    teacher_seeds: str = "each"  # "each" seed has its own teacher | "first": all have the first


@dataclass(frozen=True)
class Job:
    """One run of the grid. A student's `after` is its teacher's run."""

    settings: TeacherSettings | DistillSettings
    cell: str
    seed: int
    after: str = ""

    @property
    def name(self) -> str:
        return self.settings.name


class AblationFailed(RuntimeError):
    """Runs of the grid that failed; the others are finished."""


# ---- the plan ------------------------------------------------------------------------------


def load_plan(path: str | Path, assignments: Sequence[str] = (), preset: str = "") -> Plan:
    """A plan from a YAML file, or of those that come with the project by name.

    `assignments` are `teacher.FIELD=VALUE`, `student.FIELD=VALUE` or a field of the plan as
    `seeds=0,1`. Raises SettingsError for a plan that is missing or says what nobody knows.
    """
    import yaml

    file = _plan_file(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as fault:
        raise SettingsError(f"Plan {file} is no YAML: {fault}") from fault
    if not isinstance(content, dict):
        raise SettingsError(f"Wanted a plan with 'students:' in {file}, found no mapping.")
    content.setdefault("name", file.stem)
    if preset:
        content["preset"] = preset
    for assignment in assignments:
        _assign(content, assignment)
    if "seeds" in content:
        content["seeds"] = [int(seed) for seed in content["seeds"]]
    plan = config.from_dict(Plan, content)
    jobs(plan)  # every setting is tried before anything is trained
    return plan


def _plan_file(path: str | Path) -> Path:
    shipped = PLANS / f"{path}.yaml"
    for file in (Path(path), shipped):
        if file.is_file():
            return file
    known = ", ".join(sorted(p.stem for p in PLANS.glob("*.yaml")))
    raise SettingsError(f"No plan '{path}'. Give a YAML file, or one of: {known}.")


def _assign(content: dict, assignment: str) -> None:
    key, equals, value = assignment.partition("=")
    if not equals:
        raise SettingsError(f"Wanted key=value, found '{assignment}'.")
    group, dot, setting = key.strip().partition(".")
    if dot and group in ("teacher", "student"):
        content[group] = {**(content.get(group) or {}), setting: value.strip()}
    elif group == "seeds":
        content["seeds"] = value.split(",")
    else:
        content[key.strip()] = value.strip()


def jobs(plan: Plan) -> list[Job]:
    """All runs of a plan, teachers first. Raises SettingsError for settings that do not exist."""
    checked_name(plan.name)
    if not plan.students or not plan.seeds:
        raise SettingsError(f"Plan '{plan.name}' wants students and seeds.")
    if plan.baseline not in plan.students:
        raise SettingsError(
            f"Plan '{plan.name}' compares with '{plan.baseline}', which is not among its "
            f"students: {', '.join(plan.students)}."
        )
    if plan.teacher_seeds not in ("each", "first"):
        raise SettingsError(f"Wanted teacher_seeds each or first, found '{plan.teacher_seeds}'.")
    found: dict[str, Job] = {}
    for teacher, own in plan.teachers.items():
        for seed in plan.seeds:
            taught_by = _teacher_job(plan, teacher, own or {}, seed)
            if isinstance(taught_by, Job):
                _add(found, taught_by)
            for student, values in plan.students.items():
                _add(found, _student_job(plan, teacher, taught_by, student, values or {}, seed))
    return sorted(found.values(), key=lambda job: (bool(job.after), job.seed))


def _add(found: dict[str, Job], job: Job) -> None:
    """Keep a job; a run that several cells share is one job."""
    same = found.setdefault(job.name, job)
    if same.cell != job.cell:
        raise SettingsError(
            f"The cells '{same.cell}' and '{job.cell}' both want the run '{job.name}'. Rename one."
        )


def _teacher_job(plan: Plan, teacher: str, own: dict, seed: int) -> Job | str:
    """The job of a teacher variant at a seed; the name where the plan takes an existing run."""
    if "run" in own:
        return str(own["run"])
    seed = seed if plan.teacher_seeds == "each" else plan.seeds[0]
    values = {**plan.teacher, **own}
    name = run_name(plan.name, teacher, seed)
    settings = _settings(TeacherSettings, plan, values, name, seed)
    contrast_of(settings)  # fields that do not go together are told now, not in an hour
    return Job(settings, teacher, seed)


def _student_job(
    plan: Plan, teacher: str, taught_by: Job | str, student: str, own: dict, seed: int
) -> Job:
    values = {"corpus": "demo", **plan.student, **own}
    needs_none = values.get("objectives") in (None, "", "none", [])
    # A text-only student is the same under every teacher: one run a seed serves them all.
    several = len(plan.teachers) > 1 and not needs_none
    cell = f"{teacher}.{student}" if several else student
    name = run_name(plan.name, cell, seed)
    run = taught_by.name if isinstance(taught_by, Job) else taught_by
    settings = _settings(DistillSettings, plan, {**values, "teacher": run}, name, seed)
    objective_weights(settings)
    # It still waits for the teacher: it takes its tokenizer.
    return Job(settings, cell, seed, after=run)


def run_name(plan: str, cell: str, seed: int) -> str:
    """The run of a cell and seed: `run_name("objectives", "nst+crd", 0) == "objectives.nst-crd.s0"`.

    Raises SettingsError for a cell that gives no name of a folder.
    """
    return checked_name(f"{plan}.{cell.replace('+', '-')}.s{seed}")


def _settings(settings_class, plan: Plan, values: dict, name: str, seed: int):
    assignments = [f"{key}={_as_text(value)}" for key, value in values.items()]
    settings = config.apply_overrides(config.preset(settings_class, plan.preset), assignments)
    training = dataclasses.replace(settings.training, seed=seed, num_threads=1)
    return dataclasses.replace(settings, name=name, training=training)


def _as_text(value) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value in (None, "none") else str(value)


# ---- running it ----------------------------------------------------------------------------


def ablate(plan: Plan, workers: int = 2, progress: Progress | None = None) -> Path:
    """Train and probe what is missing of the grid, then write its tables; returns their folder.

    Runs are trained `workers` at a time with one torch thread each, or one after another in
    this process when `workers` is 0. Raises AblationFailed when some of them failed (the others
    are finished first) and TrainingStopped on Ctrl-C.
    """
    from core.analysis import ablation

    progress = progress or (lambda done, total, message: None)
    todo = jobs(plan)
    _run_all(todo, max(0, workers), progress)
    folder = ablation.ablation_folder(plan.name)
    folder.mkdir(parents=True, exist_ok=True)
    runs = [_as_row(job) for job in todo if isinstance(job.settings, DistillSettings)]
    teachers = [_as_row(job) for job in todo if isinstance(job.settings, TeacherSettings)]
    ablation.write_ablation(json.loads(json.dumps(dataclasses.asdict(plan))), runs, teachers)
    return folder


def _as_row(job: Job) -> dict:
    return {
        "run": job.name,
        "cell": job.cell,
        "seed": job.seed,
        "objectives": "+".join(getattr(job.settings, "objectives", ())),
        "teacher": job.after,
        "steps": job.settings.training.steps,
    }


def _run_all(todo: list[Job], workers: int, progress: Progress) -> None:
    state = _State({job.name: job for job in todo if not is_done(job)}, len(todo))
    progress(state.done, state.total, f"{state.done} runs are there" if state.done else "begins")
    # Workers inherit it: numpy in several of them would fight for the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with _pool(workers) as pool, _TermIsInterrupt():
        try:
            while state.waiting or state.running:
                _submit(state, pool, max(1, workers))
                _collect(state, progress)
        except KeyboardInterrupt:
            _stop(state)
            raise TrainingStopped(
                f"Stopped with {state.done} of {state.total} runs finished; those under way kept "
                "their checkpoints. Give the same command again to go on."
            ) from None
    if state.failed:
        name, reason = next(iter(state.failed.items()))
        raise AblationFailed(
            f"{len(state.failed)} of {state.total} runs failed, the others are finished. First "
            f"'{name}': {reason}"
        )


class _State:
    """Where a grid stands."""

    def __init__(self, waiting: dict[str, Job], total: int):
        self.waiting, self.total, self.done = waiting, total, total - len(waiting)
        self.running: dict[Future, str] = {}
        self.failed: dict[str, str] = {}  # run -> why


def _submit(state: _State, pool: Executor, workers: int) -> None:
    """Give the idle workers what can begin: a student waits for its teacher."""
    for job in list(state.waiting.values()):
        # No more than there are workers: what a pool holds in reserve cannot be called back.
        if len(state.running) == workers:
            return
        if job.after in state.waiting or job.after in state.running.values():
            continue
        del state.waiting[job.name]
        if job.after in state.failed:
            state.failed[job.name] = f"its teacher '{job.after}' failed"
        else:
            state.running[pool.submit(_run_job, job)] = job.name


def _collect(state: _State, progress: Progress) -> None:
    """Wait for a run to end. Raises KeyboardInterrupt for one that was told to stop."""
    if not state.running:
        return
    for future in wait(state.running, return_when=FIRST_COMPLETED).done:
        name = state.running.pop(future)
        fault = future.exception()
        if isinstance(fault, TrainingStopped):
            raise KeyboardInterrupt
        if fault is not None:
            state.failed[name] = f"{type(fault).__name__}: {fault}"
        state.done += fault is None
        progress(state.done, state.total, name)


def _stop(state: _State) -> None:
    """Have every run under way save its checkpoint; one that only probes ends in seconds."""
    while any(not future.done() for future in state.running):
        for child in multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
                os.kill(child.pid, signal.SIGINT)
        # Again, because one that has not begun to train does not listen yet.
        wait(state.running, timeout=1)


def _pool(workers: int) -> Executor:
    if not workers:
        return _SameProcess()
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, spawn, initializer=_leave_signals_to_training)


class _SameProcess(Executor):
    """Runs each job when it is submitted."""

    def submit(self, function, /, *arguments) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as fault:  # the caller asks the future, as of any pool
            future.set_exception(fault)
        return future


def is_done(job: Job) -> bool:
    """Whether the run is finished with these settings and this teacher, and has its probes."""
    from core.analysis import probing

    try:
        run = RunFolder.open(job.name)
    except RunError:
        return False
    same = _comparable(run.settings) == _comparable(job.settings)
    if not same or run.status["state"] != "finished":
        return False
    if getattr(job.settings, "objectives", ()):
        try:
            teacher = RunFolder.open(job.after).weights_hash()
        except RunError:
            return False
        if run.provenance["inputs"].get("teacher") != teacher:
            return False
    return all(probing.is_fresh(run, task) for task in probing.TASKS) and _is_grounded(job.name)


def _comparable(settings) -> dict:
    training = dataclasses.replace(settings.training, num_threads=0)
    return config.as_dict(dataclasses.replace(settings, training=training))


def _run_job(job: Job) -> str:
    """Train and probe one run, in a process of the pool."""
    from core.analysis.probing import probe_run

    train = train_teacher if isinstance(job.settings, TeacherSettings) else distill
    try:
        train(job.settings)
        probe_run(job.name)
        _ground(job.name)
    finally:
        leave_if_orphaned()
    gc.collect()  # models hang in cycles; a worker that trains dozens would keep gigabytes
    return job.name


def _ground(run_name: str) -> None:
    """Measure the run's grounding where it is known what the words name, unless it was."""
    from core.analysis import evaluation
    from core.config import EmbedSettings, GroundSettings
    from core.extraction.embeddings import embed

    library = _library(run_name)
    if not library or _is_grounded(run_name):
        return
    embed(EmbedSettings(library=library, runs=(run_name,)))
    evaluation.evaluate_runs(GroundSettings(library=library, evaluate=True), [run_name])


def _is_grounded(run_name: str) -> bool:
    """Whether the run's grounding is measured with its present weights, or cannot be."""
    from core.analysis import evaluation

    library = _library(run_name)
    if not library:
        return True
    run = RunFolder.open(run_name)
    report = evaluation.report_path(run.path, library)
    weights = run.weights_file("model.safetensors")
    return report.is_file() and report.stat().st_mtime_ns >= weights.stat().st_mtime_ns


def _library(run_name: str) -> str:
    """The teacher's library, when there is a truth of it; else ""."""
    from core.analysis.evaluation import has_truth
    from core.inference import teacher_of

    try:
        library = RunFolder.open(teacher_of(RunFolder.open(run_name))).settings.library
    except RunError:  # a text-only student needs no teacher, and then has no joint space
        return ""
    return library if has_truth(library) else ""


def _leave_signals_to_training() -> None:
    """The training loop answers Ctrl-C with a checkpoint; outside of it a worker goes on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


class _TermIsInterrupt:
    """SIGTERM stops as Ctrl-C does, while the grid runs in the main thread."""

    def __enter__(self) -> None:
        self._before = None
        try:
            self._before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        except ValueError:  # not the main thread: its owner decides
            return

    def __exit__(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
