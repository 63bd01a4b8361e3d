"""The official figures of the downstream tasks, from answers alone. Numbers and text in, no model.

Shares lie in [0, 1]. Figures of classes are made from a confusion matrix [..., K, K] (rows are
the truth, columns the answer), so that a bootstrap can make thousands of them at once.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

# ---- classes -----------------------------------------------------------------------------------


def confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """How often each class [row] was answered by each class [column], int64 [K, K].

    Raises ValueError for lists that do not fit or a number that is no class.
    """
    labels, predictions = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    if labels.shape != predictions.shape or not labels.size:
        raise ValueError(f"Wanted an answer per item, found {predictions.size} for {labels.size}.")
    both = np.concatenate([labels, predictions])
    if both.min() < 0 or both.max() >= num_classes:
        raise ValueError(
            f"Wanted classes 0 to {num_classes - 1}, found {both.min()} to {both.max()}."
        )
    flat = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def accuracy(table: np.ndarray) -> np.ndarray:
    """Share of right answers [...] of confusion matrices [..., K, K]."""
    table = np.asarray(table, np.float64)
    return np.trace(table, axis1=-2, axis2=-1) / table.sum(axis=(-2, -1))


def f1(table: np.ndarray, positive: int = 1) -> np.ndarray:
    """F1 of one class [...], as GLUE gives for QQP and MRPC; 0 where nothing was found."""
    table = np.asarray(table, np.float64)
    hits = table[..., positive, positive]
    named = table[..., :, positive].sum(axis=-1) + table[..., positive, :].sum(axis=-1)
    return _ratio(2 * hits, named)


def matthews(table: np.ndarray) -> np.ndarray:
    """Matthews correlation [...] for two classes, R_K for more (Gorodkin 2004).

    GLUE's diagnostics call the three-class form R3. 0 where one class alone was answered.
    """
    table = np.asarray(table, np.float64)
    total = table.sum(axis=(-2, -1))
    right = np.trace(table, axis1=-2, axis2=-1)
    true, answered = table.sum(axis=-1), table.sum(axis=-2)  # [..., K]
    covariance = right * total - (true * answered).sum(axis=-1)
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (answered**2).sum(axis=-1))
    return _ratio(covariance, np.sqrt(spread))


def _ratio(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    value, by = np.asarray(value, np.float64), np.asarray(by, np.float64)
    return np.divide(value, by, out=np.zeros_like(value), where=by > 0)


# ---- answers that hang together ---------------------------------------------------------------------


def whole_groups(right: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    """Which groups are right in every one of their items, bool [groups in order of first sight].

    With stories it is TRACIE's story-wide exact match; with the two forms of one hypothesis,
    before and after, it is pairwise accuracy.
    """
    right = np.asarray(right, bool)
    if len(right) != len(groups):
        raise ValueError(f"Wanted a group per item, found {len(groups)} for {len(right)}.")
    all_right: dict[Hashable, bool] = {}
    for answer, group in zip(right, groups):
        all_right[group] = all_right.get(group, True) and bool(answer)
    return np.array([*all_right.values()], bool)


@dataclass(frozen=True)
class TracieScores:
    """The four official shares, and the share of before/after pairs with both forms right."""

    overall: float
    start: float
    end: float
    story: float  # every hypothesis of the story right
    pair: float


def tracie(
    right: np.ndarray, points: Sequence[str], stories: Sequence, pairs: Sequence
) -> TracieScores:
    """TRACIE's scores (Zhou et al. 2021); `points` says "start" or "end" of each item.

    A point that no item asks for is nan.
    """
    right, points = np.asarray(right, bool), np.asarray(points, str)
    start, end = (right[points == point] for point in ("start", "end"))
    return TracieScores(
        overall=float(right.mean()),
        start=float(start.mean()) if start.size else float("nan"),
        end=float(end.mean()) if end.size else float("nan"),
        story=float(whole_groups(right, stories).mean()),
        pair=float(whole_groups(right, pairs).mean()),
    )


@dataclass(frozen=True)
class CategoryScore:
    """One category of the diagnostics: its items, share right, and correlation."""

    category: str
    items: int
    accuracy: float
    matthews: float  # R3 with three classes, plain Matthews with two


def by_category(
    labels: np.ndarray,
    predictions: np.ndarray,
    categories: Sequence[Sequence[str]],
    num_classes: int,
) -> list[CategoryScore]:
    """GLUE's diagnostics by category; an item may stand in several. In order of the names."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    found = []
    for name in sorted({name for row in categories for name in row}):
        rows = np.array([name in row for row in categories])
        table = confusion(labels[rows], predictions[rows], num_classes)
        found.append(
            CategoryScore(name, int(rows.sum()), float(accuracy(table)), float(matthews(table)))
        )
    return found


def diagnostics_note(num_classes: int) -> str:
    """What the diagnostics' correlation means for this many classes, for a reader."""
    if num_classes == 3:
        return "R3: Matthews correlation over entailment, neutral and contradiction, as published."
    return (
        "These items have two classes (neutral and contradiction are both not_entailment), so the "
        "published R3 cannot be computed: shown are accuracy and the two-class Matthews correlation."
    )


# ---- spans ------------------------------------------------------------------------------------------

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised_answer(text: str) -> str:
    """As SQuAD compares answers: lower case, no ASCII punctuation, no articles, single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def answer_f1(prediction: str, gold: str) -> float:
    """Overlap of the words of two answers; of two empty ones 1, of an empty and a full one 0."""
    found, wanted = normalised_answer(prediction).split(), normalised_answer(gold).split()
    if not found or not wanted:
        return float(found == wanted)
    same = sum((Counter(found) & Counter(wanted)).values())
    return 2 * same / (len(found) + len(wanted))


@dataclass(frozen=True)
class SquadScores:
    """SQuAD's shares at a threshold of no-answer, and the best that any threshold gives.

    The parts are nan where no question is of that kind.
    """

    items: int
    exact: float
    f1: float
    has_answer_exact: float
    has_answer_f1: float
    no_answer_exact: float  # equal to its F1: an answer to these is right or wrong
    best_exact: float
    best_exact_threshold: float
    best_f1: float
    best_f1_threshold: float


def raw_squad(
    predictions: Sequence[str], answers: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Exact match and F1 of each question f64 [N] before any threshold: the best over its golds.

    `answers` is empty for a question without one; then "" alone is right. The v1.1 script differs
    only for answers of which nothing is left after normalisation.
    """
    if len(predictions) != len(answers):
        raise ValueError(f"Wanted answers per question, found {len(answers)} of {len(predictions)}")
    exact, overlap = np.zeros(len(answers)), np.zeros(len(answers))
    for row, (prediction, golds) in enumerate(zip(predictions, answers)):
        golds = [gold for gold in golds if normalised_answer(gold)] or [""]
        own = normalised_answer(prediction)
        exact[row] = max(own == normalised_answer(gold) for gold in golds)
        overlap[row] = max(answer_f1(prediction, gold) for gold in golds)
    return exact, overlap


def with_no_answer(
    raw: np.ndarray, no_answer: np.ndarray, answerable: np.ndarray, threshold: float
) -> np.ndarray:
    """Scores where questions with a no-answer score above the threshold count as left empty."""
    return np.where(no_answer > threshold, (~answerable).astype(np.float64), raw)


def squad(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    no_answer: np.ndarray | None = None,
    threshold: float = 0.0,
) -> SquadScores:
    """The figures of SQuAD's evaluation script v2.0 (Rajpurkar et al. 2018), as shares.

    `no_answer` [N] rises with the belief that there is none; without it predictions count as
    they are.
    """
    raw_exact, raw_f1 = raw_squad(predictions, answers)
    answerable = np.array([len(golds) > 0 for golds in answers])
    scores = np.zeros(len(answers)) if no_answer is None else np.asarray(no_answer, np.float64)
    limit = np.inf if no_answer is None else threshold
    exact = with_no_answer(raw_exact, scores, answerable, limit)
    overlap = with_no_answer(raw_f1, scores, answerable, limit)
    filled = np.array([bool(p) for p in predictions])
    best_exact, exact_threshold = best_threshold(raw_exact, scores, answerable, filled)
    best_f1, f1_threshold = best_threshold(raw_f1, scores, answerable, filled)
    return SquadScores(
        len(answers),
        float(exact.mean()),
        float(overlap.mean()),
        _mean(exact[answerable]),
        _mean(overlap[answerable]),
        _mean(exact[~answerable]),
        best_exact,
        exact_threshold,
        best_f1,
        f1_threshold,
    )


def best_threshold(
    raw: np.ndarray, no_answer: np.ndarray, answerable: np.ndarray, filled: np.ndarray
) -> tuple[float, float]:
    """The best mean score over all thresholds of no-answer, and the lowest threshold giving it.

    As the script does: begin with every question left empty, then let in the answers from the
    surest on. Questions of one score are let in one by one there, and so they are here.
    """
    order = np.argsort(no_answer, kind="stable")
    gains = np.where(answerable, raw, -filled.astype(np.float64))[order]
    empty = float((~answerable).sum())
    totals = empty + np.cumsum(gains)
    best = int(totals.argmax())
    if totals[best] <= empty:
        return empty / len(raw), 0.0
    return float(totals[best] / len(raw)), float(no_answer[order][best])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
