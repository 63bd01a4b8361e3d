"""A trained TaskModel's answers to items, and the table they are kept in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from core.config import SettingsError
from core.data.task_rows import NOT_LABELLED, SpanRows, group_of, length_batches
from core.models.run_folder import write_bytes, write_json
from core.models.task_heads import TaskModel


@dataclass(frozen=True)
class Answer:
    """One item's: a class or choice by number with all scores, or a span's text.

    A span's scores are the best span's and that of no answer, each a sum of two logits.
    """

    prediction: int | str
    scores: np.ndarray  # f32


def answered(model: TaskModel, rows, max_pieces: int = 30, progress=None) -> list[Answer]:
    """The model's answer to each of the rows' items, in order. Leaves it in evaluation mode."""
    model.eval()
    scores: list[np.ndarray | None] = [None] * len(rows)
    progress = progress or (lambda *_: None)
    done = 0
    for chosen in length_batches(rows.lengths()):
        with torch.inference_mode():
            found = model(rows.batch(chosen).to(_device(model))).cpu().numpy()
        for row, values in zip(chosen, found):
            scores[row] = values
        done += len(chosen)
        progress(done, len(rows), "answers")
    if isinstance(rows, SpanRows):
        return span_answers(rows, scores, max_pieces)
    return [Answer(int(values.argmax()), values[np.isfinite(values)]) for values in scores]


def span_answers(rows: SpanRows, scores: Sequence[np.ndarray], max_pieces: int) -> list[Answer]:
    """One answer an item: the best span over its windows.

    The score of no answer is the lowest of the windows' (a window that is sure that it holds the
    answer speaks for the item), as in BERT's script.
    """
    best: dict[int, tuple[float, str]] = {}
    empty: dict[int, float] = {}
    for window, values in zip(rows.windows, scores):
        none = float(values[0, 0] + values[1, 0])
        empty[window.item] = min(none, empty.get(window.item, np.inf))
        score, first, last = best_span(values, max_pieces)
        if score > best.get(window.item, (-np.inf, ""))[0]:
            best[window.item] = score, rows.text(window, first, last)
    return [_span_answer(*best.get(i, (-np.inf, "")), empty[i]) for i in range(len(rows.items))]


def _span_answer(score: float, text: str, none: float) -> Answer:
    """The text as it is: whether it is better than none is a threshold's choice, made later."""
    return Answer(text, np.array([score, none], np.float32))


def best_span(values: np.ndarray, max_pieces: int) -> tuple[float, int, int]:
    """Score and positions of the best span but the first position, of scores [2, L]."""
    start, end = values[0, :, None].copy(), values[1, None, :].copy()
    start[0], end[:, 0] = -np.inf, -np.inf  # the first position says "no answer"
    length = np.arange(values.shape[1])[None, :] - np.arange(values.shape[1])[:, None]
    sums = np.where((length >= 0) & (length < max_pieces), start + end, -np.inf)
    first, last = np.unravel_index(int(sums.argmax()), sums.shape)
    return float(sums[first, last]), int(first), int(last)


# ---- the table -------------------------------------------------------------------------------------


def write_answers(
    path: Path, items: Sequence, found: Sequence[Answer], model_labels: list[str], about: dict
) -> None:
    """The items' answers as Parquet, and what they are answers to as JSON beside it.

    Columns: item_id, label, prediction, scores, group, metadata (JSON). Of spans, `label` is a
    list of the accepted texts. The table goes last: with it the answers are whole.
    """
    import io

    import pandas as pd

    spans = about["kind"] == "span"
    to_task = None if spans else class_map(model_labels, about["labels"], about["kind"])
    table = pd.DataFrame(
        {
            "item_id": [item.item_id for item in items],
            "label": [_gold(item, spans) for item in items],
            "prediction": [a.prediction if spans else to_task(a.prediction) for a in found],
            "scores": [answer.scores.astype(np.float32) for answer in found],
            "group": [_short(group_of(item)) for item in items],
            "metadata": [json.dumps(item.metadata, default=str) for item in items],
        }
    )
    path.parent.mkdir(exist_ok=True)
    write_json(path.with_suffix(".json"), about)
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_bytes(path, buffer.getvalue())


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _gold(item, span: bool):
    if span:
        return [text for text, _ in item.answers]
    return NOT_LABELLED if item.label is None else int(item.label)


def class_map(model_labels: list[str], task_labels: list[str], kind: str):
    """A function from the model's class numbers to the task's, by the classes' names.

    Three-way entailment answers a two-way task: neutral and contradiction are not_entailment.
    Choices are places, and stay what they are. Raises SettingsError for classes without a name
    in the other task.
    """
    if kind == "choice" or model_labels == task_labels:
        return int
    merged = {"neutral": "not_entailment", "contradiction": "not_entailment"}
    names = [n if n in task_labels else merged.get(n, n) for n in model_labels]
    unknown = [name for name in names if name not in task_labels]
    if unknown:
        raise SettingsError(
            f"The model answers {', '.join(model_labels)}; the task has {', '.join(task_labels)}. "
            "Give a task with the same classes: --also glue-diagnostics after mnli or qnli"
        )
    return lambda number: task_labels.index(names[number])


def _device(model: TaskModel) -> torch.device:
    return next(model.parameters()).device
