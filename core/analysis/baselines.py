"""What a score has to beat: guessing, the commonest answer, and the answer by template."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from core.records import ProbeItem, TextItem

GUESS = -1  # the template tells nothing


def chance(items: Sequence[ProbeItem | TextItem], num_labels: int = 2) -> float:
    """Share right of an even guess: over an item's choices, or over the task's labels."""
    sizes = [len(item.choices) if isinstance(item, ProbeItem) else num_labels for item in items]
    return float(np.mean([1 / size for size in sizes]))


def majority(labels: Sequence[int]) -> float:
    """Share of the commonest label. Raises ValueError without labels."""
    if not len(labels):
        raise ValueError("Wanted at least one label, found none.")
    return float(np.unique(np.asarray(labels), return_counts=True)[1].max() / len(labels))


def template_prior(
    train: Sequence[ProbeItem | TextItem], items: Sequence[ProbeItem | TextItem]
) -> np.ndarray:
    """The label that the item's template has most often in training, int [N].

    A model that reads nothing but the template answers so; in TRACIE's iid split that is right
    more often than not. GUESS where labels tie or the template is new, as in the uniform-prior
    split. Raises ValueError for items without a template.
    """
    counts: dict[str, Counter] = defaultdict(Counter)
    for item in train:
        counts[_template(item)][item.label] += 1
    return np.array([_commonest(counts[_template(item)]) for item in items], dtype=int)


def template_hits(
    train: Sequence[ProbeItem | TextItem],
    items: Sequence[ProbeItem | TextItem],
    num_labels: int = 2,
) -> np.ndarray:
    """How right the answer by template is on each item, f64 [N]; chance where it is a guess."""
    answers = template_prior(train, items)
    hits = answers == np.array([item.label for item in items])
    return np.where(answers == GUESS, chance(items, num_labels), hits)


def prior_rate(
    train: Sequence[ProbeItem | TextItem],
    items: Sequence[ProbeItem | TextItem],
    num_labels: int = 2,
) -> float:
    """Share right of the answer by template; a guess counts as one over the choices."""
    return float(template_hits(train, items, num_labels).mean())


def _commonest(counts: Counter) -> int:
    first, *second = counts.most_common(2) or [(GUESS, 0)]
    return GUESS if second and second[0][1] == first[1] else first[0]


def _template(item: ProbeItem | TextItem) -> str:
    if "template" not in item.metadata:
        raise ValueError(f"The item '{item.item_id}' has no template.")
    return item.metadata["template"]
