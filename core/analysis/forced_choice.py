"""Forced choice: how often the right text of an item gets the highest score.

Chance is one over the number of choices. Items come in blocks that share what decides them, so
intervals resample whole blocks. A masked LM's taste for single words ("bounce" is commoner than
"shatter") hides what it knows: the calibrated rate takes off the mean difference that the two
texts have over all items with the same template and the same choices, without looking at which
is right (contextual calibration; Zhao et al. 2021). Chance stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.analysis.statistics import Interval, cluster_bootstrap
from core.records import ProbeItem


@dataclass(frozen=True)
class Rate:
    """A share of items with its bootstrap interval and what guessing gives."""

    value: float
    interval: Interval
    chance: float
    count: int


@dataclass(frozen=True)
class ForcedChoice:
    """One run's answers to one task."""

    accuracy: Rate
    calibrated: Rate
    families: dict[str, tuple[float, float]]  # accuracy and calibrated rate of each family
    item_ids: tuple[str, ...]
    blocks: tuple[str, ...]
    margins: np.ndarray  # f64 [items]: score of the right text minus the best wrong one
    calibrated_margins: np.ndarray  # f64 [items]


def judge(
    items: Sequence[ProbeItem], scores: Sequence[Sequence[float]], bootstrap: int = 2000, seed=0
) -> ForcedChoice:
    """The answers that the scores of each item's choices give; a tie counts as a guess.

    Raises ValueError without items or with scores that do not fit them.
    """
    if not items or [len(s) for s in scores] != [len(i.choices) for i in items]:
        raise ValueError(f"Wanted scores for {len(items)} items, one per choice.")
    blocks = tuple(str(item.metadata.get("block", item.item_id)) for item in items)
    chance = float(np.mean([1 / len(item.choices) for item in items]))
    plain = margins(items, scores)
    fair = margins(items, calibrated(items, scores))

    def rate(values: np.ndarray) -> Rate:
        hits = hit(values)
        interval = cluster_bootstrap(hits, blocks, bootstrap, seed)
        return Rate(float(hits.mean()), interval, chance, len(items))

    return ForcedChoice(
        accuracy=rate(plain),
        calibrated=rate(fair),
        families=_by_family(items, hit(plain), hit(fair)),
        item_ids=tuple(item.item_id for item in items),
        blocks=blocks,
        margins=plain,
        calibrated_margins=fair,
    )


def margins(items: Sequence[ProbeItem], scores: Sequence[Sequence[float]]) -> np.ndarray:
    """Score of the right choice minus the best of the others, f64 [items]."""
    return np.array(
        [row[i.label] - max(np.delete(row, i.label)) for i, row in zip(items, scores)], float
    )


def hit(values: np.ndarray) -> np.ndarray:
    """1 where a margin is above 0, ½ for a tie, else 0."""
    return 0.5 * (1 + np.sign(values))


def calibrated(items: Sequence[ProbeItem], scores: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Scores less each text's mean over the items that ask the same with the same template."""
    groups: dict[tuple, list[int]] = {}
    for number, item in enumerate(items):
        key = (item.metadata.get("template", item.context), *sorted(item.choices))
        groups.setdefault(key, []).append(number)
    found = [np.array(row, float) for row in scores]
    for members in groups.values():
        for text in set(items[members[0]].choices):
            places = [(m, items[m].choices.index(text)) for m in members]
            mean = np.mean([scores[m][place] for m, place in places])
            for m, place in places:
                found[m][place] -= mean
    return found


def _by_family(items, plain: np.ndarray, fair: np.ndarray) -> dict[str, tuple[float, float]]:
    names = np.array([item.metadata.get("family", "") for item in items])
    return {
        str(name): (float(plain[names == name].mean()), float(fair[names == name].mean()))
        for name in np.unique(names)
        if name
    }
