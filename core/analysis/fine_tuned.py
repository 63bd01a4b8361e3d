"""What fine-tuned runs answered: figures with intervals, and the seeds of one experiment together.

Reads the answers that training kept, item by item; needs no torch and no task files.

An experiment is runs that differ in their seed alone (`sst2-minilm-s0`, `sst2-minilm-s1`, …). A
seed has collapsed when it gives one and the same answer to 99 % of the items or more: then
nothing of the task was learned, whatever the accuracy. Apart from that, a seed may be no better
than always giving the commonest answer: the lower end of its interval does not pass that line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.analysis import task_metrics
from core.analysis.statistics import cluster_bootstrap

if TYPE_CHECKING:
    import pandas as pd

COLLAPSED_SHARE = 0.99
SAMPLES = 2000


class NoAnswers(LookupError):
    """A run or task without kept answers."""


@dataclass(frozen=True)
class Figure:
    """A share in [0, 1] (a correlation in [-1, 1]) with its 95 % interval over the items."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TaskAnswers:
    """One run's answers to one split of a task."""

    run: str
    encoder: str
    seed: int
    task: str
    split: str
    kind: str  # "classification" | "choice" | "span"
    labels: tuple[str, ...]
    template_prior: float | None  # share right by answering what the template says, where known
    table: pd.DataFrame  # item_id, label, prediction, scores, group, metadata
    sampled: bool = False  # only a part of the split was asked: no story is whole


def predictions_path(run_path: Path, task: str, split: str) -> Path:
    return run_path / "predictions" / f"{task}-{split}.parquet"


def load_predictions(run_name: str, task: str = "", split: str = "") -> TaskAnswers:
    """A run's answers; without a task those of the task that it was trained for.

    Raises RunError for no such run, NoAnswers when it has not answered that.
    """
    from core.models.run_folder import RunFolder

    run = RunFolder.open(run_name)
    task = task or getattr(run.settings, "task", "")
    pattern = f"{task}-{split or '*'}.parquet"
    found = sorted((run.path / "predictions").glob(pattern))
    found = [path for path in found if _about(path).get("task") == task]
    if not found:
        raise NoAnswers(
            f"Run '{run.name}' has no answers to '{task}' {split} in {run.path / 'predictions'}. "
            f"Run: python -m core fine-tune --task {task} --model NAME"
        )
    return _loaded(run, found[0])


def all_predictions(run_name: str) -> list[TaskAnswers]:
    """Everything that a run has answered, [] for a run of another kind."""
    from core.models.run_folder import RunFolder

    run = RunFolder.open(run_name)
    return [_loaded(run, path) for path in sorted((run.path / "predictions").glob("*.parquet"))]


def _loaded(run, path: Path) -> TaskAnswers:
    import pandas as pd

    about = _about(path)
    return TaskAnswers(
        run=run.name,
        encoder=run.settings.model,
        seed=run.settings.training.seed,
        task=about["task"],
        split=about["split"],
        kind=about["kind"],
        labels=tuple(about["labels"]),
        template_prior=about.get("template_prior"),
        sampled=about.get("sampled", False),
        table=pd.read_parquet(path),
    )


def _about(path: Path) -> dict:
    return json.loads(path.with_suffix(".json").read_text())


# ---- one run ---------------------------------------------------------------------------------------


def figures(answers: TaskAnswers, samples: int = SAMPLES) -> dict[str, Figure]:
    """Everything the task is judged by, the headline first. Unlabelled items do not count.

    Intervals resample whole groups: items of one story or context hang together.
    """
    table = labelled(answers)
    if answers.kind == "span":
        return _span_figures(table, samples)
    right = (table["label"] == table["prediction"]).to_numpy()
    groups = table["group"].to_numpy()
    found = {"accuracy": _mean(right, groups, samples)}
    if answers.kind == "classification":
        found |= _class_figures(table, len(answers.labels), samples)
    metadata = [json.loads(text) for text in table["metadata"]]
    if metadata and "point" in metadata[0]:
        found |= _point_figures(right, metadata, groups, samples)
        if not answers.sampled:
            found |= _whole_figures(right, metadata, groups, samples)
    return found


def labelled(answers: TaskAnswers) -> pd.DataFrame:
    """The items whose answer is known."""
    if answers.kind == "span":
        return answers.table
    kept = answers.table[answers.table["label"] >= 0]
    if kept.empty:
        raise NoAnswers(f"No item of '{answers.task}' {answers.split} has a published label.")
    return kept


def _mean(values: np.ndarray, groups: np.ndarray, samples: int) -> Figure:
    values = np.asarray(values, np.float64)
    interval = cluster_bootstrap(values, groups, samples)
    return Figure(float(values.mean()), interval.low, interval.high)


def _class_figures(table, num_classes: int, samples: int) -> dict[str, Figure]:
    arrays = [table[name].to_numpy() for name in ("label", "prediction", "group")]
    found = {"Matthews": class_figure(task_metrics.matthews, *arrays, num_classes, samples)}
    if num_classes == 2:
        found["F1"] = class_figure(task_metrics.f1, *arrays, num_classes, samples)
    return found


def class_figure(
    figure: Callable, labels, predictions, groups, num_classes: int, samples: int = SAMPLES
) -> Figure:
    """A figure of confusion matrices with its percentile interval over resampled groups."""
    _, membership = np.unique(np.asarray(groups, str), return_inverse=True)
    cells = np.asarray(labels) * num_classes + np.asarray(predictions)
    count, size = int(membership.max()) + 1, num_classes**2
    flat = np.bincount(membership * size + cells, minlength=count * size)
    # Groups with like matrices are drawn together: there are few kinds of them.
    kinds, number = np.unique(flat.reshape(count, size), axis=0, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(count, number / count, size=samples)
    shape = (-1, num_classes, num_classes)
    low, high = np.quantile(figure((drawn @ kinds).reshape(shape)), [0.025, 0.975])
    whole = task_metrics.confusion(labels, predictions, num_classes)
    return Figure(float(figure(whole)), float(low), float(high))


def _point_figures(right, metadata: list[dict], groups, samples: int) -> dict[str, Figure]:
    points = np.array([m["point"] for m in metadata])
    return {
        point: _mean(right[points == point], groups[points == point], samples)
        for point in ("start", "end")
        if (points == point).any()
    }


def _whole_figures(right, metadata: list[dict], groups, samples: int) -> dict[str, Figure]:
    """Stories and before/after pairs with every item right."""
    stories = [m["story"] for m in metadata]
    whole = task_metrics.whole_groups(right, stories)
    found = {"story": _mean(whole, np.arange(len(whole)), samples)}
    pairs = [m["pair"] for m in metadata]
    story_of = {pair: group for pair, group in zip(pairs, groups)}  # a pair lies in one story
    found["pair"] = _mean(
        task_metrics.whole_groups(right, pairs), np.array([*story_of.values()]), samples
    )
    return found


def _span_figures(table, samples: int) -> dict[str, Figure]:
    predictions, answers, no_answer = _spans(table)
    groups = table["group"].to_numpy()
    scores = task_metrics.squad(predictions, answers, no_answer)
    exact, overlap = task_metrics.raw_squad(predictions, answers)
    has = np.array([len(golds) > 0 for golds in answers])
    if no_answer is not None:
        exact = task_metrics.with_no_answer(exact, no_answer, has, 0.0)
        overlap = task_metrics.with_no_answer(overlap, no_answer, has, 0.0)
    found = {"F1": _mean(overlap, groups, samples), "exact match": _mean(exact, groups, samples)}
    if no_answer is None:
        return found
    for name, kept in (("answerable F1", has), ("unanswerable", ~has)):
        if kept.any():
            found[name] = _mean(overlap[kept], groups[kept], samples)
    # Chosen on these very items, as the official script does: no interval is honest.
    for name, value in (("best F1", scores.best_f1), ("best exact", scores.best_exact)):
        found[name] = Figure(value, float("nan"), float("nan"))
    return found


def _spans(table) -> tuple[list[str], list[list[str]], np.ndarray | None]:
    """Predicted texts, accepted texts, and the no-answer score where a question has no answer."""
    answers = [list(golds) for golds in table["label"]]
    scores = np.stack(table["scores"].to_numpy())
    asked = any(not golds for golds in answers)
    # Above 0 "no answer" beats the best span.
    return list(table["prediction"]), answers, scores[:, 1] - scores[:, 0] if asked else None


def category_scores(answers: TaskAnswers) -> list[task_metrics.CategoryScore]:
    """GLUE's diagnostics by category; [] for items without categories."""
    table = labelled(answers)
    metadata = [json.loads(text) for text in table["metadata"]]
    categories = [m.get("categories", ()) for m in metadata]
    if answers.kind != "classification" or not any(categories):
        return []
    labels, found = table["label"].to_numpy(), table["prediction"].to_numpy()
    return task_metrics.by_category(labels, found, categories, len(answers.labels))


def right_answers(answers: TaskAnswers) -> np.ndarray:
    """Each labelled item's share right f64 [N]: 0 or 1; of a span its F1 at threshold 0."""
    table = labelled(answers)
    if answers.kind != "span":
        return (table["label"] == table["prediction"]).to_numpy(np.float64)
    predictions, golds, no_answer = _spans(table)
    _, overlap = task_metrics.raw_squad(predictions, golds)
    if no_answer is None:
        return overlap
    has = np.array([len(g) > 0 for g in golds])
    return task_metrics.with_no_answer(overlap, no_answer, has, 0.0)


def given_answers(answers: TaskAnswers) -> np.ndarray:
    """What was answered to each labelled item; of a span its text, "" for no answer."""
    table = labelled(answers)
    if answers.kind != "span":
        return table["prediction"].to_numpy()
    predictions, _, no_answer = _spans(table)
    if no_answer is None:
        return np.array(predictions, dtype=object)
    return np.where(no_answer > 0, "", np.array(predictions, dtype=object))


def has_collapsed(given: Sequence) -> bool:
    """Whether one and the same answer was given to 99 % of the items or more."""
    _, counts = np.unique(np.asarray(given, str), return_counts=True)
    return bool(counts.max() >= COLLAPSED_SHARE * counts.sum())


def commonest_share(answers: TaskAnswers) -> float:
    """What always giving the commonest right answer would score; of spans, leaving all empty."""
    table = labelled(answers)
    if answers.kind == "span":
        return float(np.mean([len(golds) == 0 for golds in table["label"]]))
    return float(table["label"].value_counts(normalize=True).max())


# ---- the seeds of an experiment -------------------------------------------------------------------


@dataclass(frozen=True)
class SeedsSummary:
    """One experiment's headline over its seeds; shares in [0, 1]."""

    experiment: str
    encoder: str
    task: str
    split: str
    figure: str
    seeds: tuple[int, ...]
    median: float
    lowest: float
    highest: float
    low: float  # 95 % interval over items of the seed in the middle
    high: float
    collapsed: int  # seeds that give one answer to everything
    no_better: int  # seeds whose interval does not pass the commonest answer's share
    commonest: float
    items: int
    template_prior: float | None


def seeds_summary(
    task: str, runs: Sequence[str] = (), samples: int = SAMPLES
) -> list[SeedsSummary]:
    """Each experiment on a task, in order of the runs; all finished ones without `runs`."""
    found = by_experiment(runs or fine_tuned_runs())
    return [
        summary(group, [figures(answers, samples) for answers in group])
        for group in found
        if group[0].task == task
    ]


def fine_tuned_runs() -> list[str]:
    from core.models.run_folder import list_runs

    return [run.name for run in list_runs() if run.kind == "fine-tuned"]


def by_experiment(runs: Sequence[str]) -> list[list[TaskAnswers]]:
    """All that the runs answered: a list for each experiment, task and split, seed by seed."""
    found: dict[tuple, list[TaskAnswers]] = {}
    for name in runs:
        for answers in all_predictions(name):
            key = (experiment_of(name), answers.task, answers.split)
            found.setdefault(key, []).append(answers)
    return [sorted(group, key=lambda answers: answers.seed) for group in found.values()]


def experiment_of(run_name: str) -> str:
    """The run's name without its seed."""
    base, dash, seed = run_name.rpartition("-s")
    return base if dash and seed.isdigit() else run_name


def summary(group: Sequence[TaskAnswers], found: Sequence[dict[str, Figure]]) -> SeedsSummary:
    """One experiment's headline; `found` are its seeds' figures."""
    headline = next(iter(found[0]))
    values = [each[headline] for each in found]
    middle = sorted(values, key=lambda v: v.value)[(len(values) - 1) // 2]
    first, commonest = group[0], commonest_share(group[0])
    return SeedsSummary(
        experiment=experiment_of(first.run),
        encoder=first.encoder,
        task=first.task,
        split=first.split,
        figure=headline,
        seeds=tuple(answers.seed for answers in group),
        median=float(np.median([v.value for v in values])),
        lowest=min(v.value for v in values),
        highest=max(v.value for v in values),
        low=middle.low,
        high=middle.high,
        collapsed=sum(has_collapsed(given_answers(answers)) for answers in group),
        no_better=sum(v.low <= commonest for v in values),
        commonest=commonest,
        items=len(labelled(first)),
        template_prior=first.template_prior,
    )


def median_figures(found: Sequence[dict[str, Figure]]) -> dict[str, Figure]:
    """Every figure's median over seeds, with the lowest and highest seed for its ends."""
    values = {name: [each[name].value for each in found] for name in found[0]}
    return {name: Figure(float(np.median(own)), min(own), max(own)) for name, own in values.items()}


# ---- for screens and files --------------------------------------------------------------------------

COLUMNS = ("experiment", "task", "median", "95 %", "seeds", "collapsed", "no better", "commonest")


def report(runs: Sequence[str], samples: int = SAMPLES) -> dict:
    """Everything about these runs as plain values: experiments, figures, categories, notes."""
    groups = by_experiment(runs)
    found = {"experiments": [], "figures": [], "categories": [], "notes": []}
    for group in groups:
        seeds = [figures(answers, samples) for answers in group]
        headline = asdict(summary(group, seeds))
        found["experiments"].append({**headline, "seeds": list(headline["seeds"])})
        about = {key: headline[key] for key in ("experiment", "task", "split")}
        for name, figure in median_figures(seeds).items():
            values = {"median": figure.value, "lowest": figure.low, "highest": figure.high}
            found["figures"].append({**about, "figure": name, **values})
        if rows := median_categories(group):
            found["categories"] += [{**about, **row} for row in rows]
            found["notes"].append(task_metrics.diagnostics_note(len(group[0].labels)))
    found["notes"] = list(dict.fromkeys(found["notes"]))
    return found


def median_categories(group: Sequence[TaskAnswers]) -> list[dict]:
    """Each category's medians over seeds."""
    seeds = [category_scores(answers) for answers in group]
    return [
        {
            "category": row[0].category,
            "items": row[0].items,
            "accuracy": float(np.median([score.accuracy for score in row])),
            "matthews": float(np.median([score.matthews for score in row])),
        }
        for row in zip(*seeds)
    ]


def tables(found: dict) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Title, columns and rows of each table of a report, in per cent, as a person reads them."""
    shown = [("Headline over the seeds", COLUMNS, [_headline(e) for e in found["experiments"]])]
    columns = ("experiment", "task", "figure", "median", "seeds' range")
    rows = [
        (f["experiment"], f["task"], f["figure"], _percent(f["median"]), _range(f))
        for f in found["figures"]
    ]
    shown.append(("All figures", columns, rows))
    if found["categories"]:
        columns = ("experiment", "category", "items", "accuracy", "Matthews")
        rows = [
            (
                c["experiment"],
                c["category"],
                str(c["items"]),
                _percent(c["accuracy"]),
                _percent(c["matthews"]),
            )
            for c in found["categories"]
        ]
        shown.append(("By category", columns, rows))
    return shown


def _headline(e: dict) -> tuple[str, ...]:
    template = (
        "" if e["template_prior"] is None else f", by template {_percent(e['template_prior'])}"
    )
    count = len(e["seeds"])
    return (
        e["experiment"],
        f"{e['task']} {e['split']}, n = {e['items']:,}, {e['figure']}",
        _percent(e["median"]),
        f"{_percent(e['low'])}–{_percent(e['high'])}",
        f"{_percent(e['lowest'])}–{_percent(e['highest'])}",
        f"{e['collapsed']} of {count}",
        f"{e['no_better']} of {count}",
        _percent(e["commonest"]) + template,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _range(figure: dict) -> str:
    return f"{_percent(figure['lowest'])}–{_percent(figure['highest'])}"
