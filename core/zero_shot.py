"""What models know without being trained for it: a task's items scored, judged and compared.

Items -> kept scores, of which the missing ones are made -> answers -> tables.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from core.analysis import probes, probing
from core.config import ProbeSettings, SettingsError
from core.data import probe_tasks
from core.inference import model_hash, open_encoder
from core.records import ProbeItem
from core.score_cache import ScoreCache, score_items
from core.scoring import check_head, checked_method, checked_norm
from core.training.provenance import code_version

if TYPE_CHECKING:
    import pandas as pd

    from core.analysis.probes import Answers

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ZeroShot:
    """One task asked of one or more models."""

    settings: ProbeSettings
    items: list[ProbeItem]
    hashes: dict[str, str]  # of each model
    found: list[Answers]  # one per model
    scores: pd.DataFrame  # probes.score_table, with the demo's further figures where it has them
    pairs: pd.DataFrame  # probes.paired_table; empty for one model
    computed: int  # texts that were not in the cache
    seconds: float
    code: str  # the commit that judged
    demo: dict[str, dict] = field(default_factory=dict)  # probing.probe_run of each run


def probe(settings: ProbeSettings, progress: Progress | None = None) -> ZeroShot:
    """Score, judge and compare. Computes only what no earlier call has.

    Raises SettingsError, TaskDataMissing and TaskDataError for the task, RunError and
    PretrainedError for a model, ScoringError for a text.
    """
    began = time.monotonic()
    settings = _resolved(settings)
    items = chosen_items(settings)
    hashes = {name: model_hash(name) for name in settings.models}
    computed = _score_missing(settings, items, hashes, progress)
    found = [_answers(settings, items, name, hashes[name]) for name in settings.models]
    template = template_hits(settings, items)
    demo = _demo_figures(settings, items)
    return ZeroShot(
        settings=settings,
        items=items,
        hashes=hashes,
        found=found,
        scores=probes.score_table(items, found, template=template).join(_demo_table(demo)),
        pairs=probes.paired_table(items, found),
        computed=computed,
        seconds=time.monotonic() - began,
        code=code_version(),
        demo={name: figures for name, figures in demo.items() if figures},
    )


def chosen_items(settings: ProbeSettings) -> list[ProbeItem]:
    """The task's labelled items as forced choices, of them those of the slice."""
    task = probe_tasks.load_task(settings.task)
    if not task.zero_shot:
        raise SettingsError(
            f"Task '{task.name}' is no choice between texts, so it cannot be asked without "
            f"training. Run: python -m core fine-tune --task {task.name}"
        )
    items = probe_tasks.load_items(
        settings.task,
        settings.split,
        "choice",
        settings.data or None,
        settings.limit,
        settings.seed,
    )
    if any(item.label is None for item in items):
        raise SettingsError(
            f"The split '{settings.split}' of '{task.name}' is published without answers: nothing "
            f"can be judged. Choose --split {task.evaluation}."
        )
    chosen = [i for i in items if all(_belongs(i, part, items) for part in settings.slice)]
    if not chosen:
        raise SettingsError(
            f"Wanted items of '{task.name}' with {' and '.join(settings.slice)}, found none among "
            f"{len(items)}. Give another --slice."
        )
    return chosen


def _belongs(item: ProbeItem, part: str, items: list[ProbeItem]) -> bool:
    """Whether the item has what a slice "key=value" asks. Raises SettingsError for nonsense."""
    key, equals, wanted = part.partition("=")
    if not equals or key not in item.metadata:
        keys = ", ".join(sorted({key for each in items for key in each.metadata})) or "none"
        raise SettingsError(
            f"A slice wants KEY=VALUE with a key of the items, found '{part}'. Keys: {keys}."
        )
    value = item.metadata[key]
    return wanted in map(str, value) if isinstance(value, list | tuple) else str(value) == wanted


def template_hits(settings: ProbeSettings, items: list[ProbeItem]) -> np.ndarray | None:
    """How right the answer by the training set's templates is on each item, f64 [N].

    Chance where they tell nothing. None where the task has no templates or its training set is
    not there.
    """
    from core.analysis import baselines

    task, data = probe_tasks.load_task(settings.task), settings.data or None
    if "template" not in items[0].metadata or not task.training:
        return None
    if not probe_tasks.available(task.name, task.training, data):
        return None
    training = probe_tasks.load_items(task.name, task.training, "choice", data)
    return baselines.template_hits(training, items)


# ---- scoring ---------------------------------------------------------------------------------


def _resolved(settings: ProbeSettings) -> ProbeSettings:
    """With the models' names, and method and norm as they are spelt."""
    from core.models.run_folder import list_runs

    models = settings.models or tuple(
        run.name
        for run in list_runs()
        if run.state == "finished" and run.kind in ("teacher", "student")
    )
    if not models:
        raise SettingsError(
            "No finished runs to probe yet. Run: python -m core train-teacher, or give --models."
        )
    return dataclasses.replace(
        settings,
        models=tuple(dict.fromkeys(models)),
        method=checked_method(settings.method),
        norm=checked_norm(settings.norm),
        split=settings.split or probe_tasks.load_task(settings.task).evaluation,
    )


def _score_missing(settings, items, hashes: dict[str, str], progress: Progress | None) -> int:
    """Make the missing scores, model after model; how many texts that were."""
    missing = {
        name: len(ScoreCache(own, settings.method).missing(items)) for name, own in hashes.items()
    }
    wanting = [name for name, count in missing.items() if count]
    for name in wanting if len(wanting) > 1 else []:
        check_head(open_encoder(name))  # before an hour goes into the others
    total, done = sum(missing.values()), 0
    for name in wanting:
        inside = _shifted(progress, done, total) if progress else None
        score_items(open_encoder(name), items, settings.method, inside)
        done += missing[name]
    if progress and not total:
        progress(1, 1, "all scores were kept")
    return total


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _, message: progress(before + done, total, message)


def _answers(settings: ProbeSettings, items, name: str, own_hash: str) -> Answers:
    scored = ScoreCache(own_hash, settings.method).lookup(items)
    return probes.answers(name, items, scored, settings.norm, settings.method)


# ---- the demo's further figures ----------------------------------------------------------------


def _demo_figures(settings: ProbeSettings, items) -> dict[str, dict]:
    """Calibrated rate and linear probe of each run on a whole demo task; {} for other models."""
    from core.models.run_folder import NAME, run_path

    whole = settings.task in probing.TASKS and not (settings.limit or settings.slice)
    if not whole:
        return {}
    is_run = {
        name: bool(NAME.fullmatch(name)) and (run_path(name) / "settings.json").is_file()
        for name in settings.models
    }
    return {
        name: probing.probe_run(name, [settings.task], settings.method, settings.norm)[
            settings.task
        ]
        if is_run[name]
        else {}
        for name in settings.models
    }


def _demo_table(figures: dict[str, dict]) -> pd.DataFrame:
    """One row per model: calibrated rate, linear probe and its control; no columns without."""
    import pandas as pd

    rows = [
        {
            "calibrated": figure["forced_choice"]["calibrated"]["value"],
            "linear_probe": figure["linear_probe"]["accuracy"],
            "control": figure["linear_probe"]["control"],
        }
        if figure
        else {}
        for figure in figures.values()
    ]
    return pd.DataFrame(rows)
