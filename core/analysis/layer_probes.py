"""Linear probes on the frozen states of every layer: what of a task can be read off where?

Three figures a layer. Accuracy of a logistic regression on held-out items says what a line can
read, but a good reader may have learned rather than read. The control task (Hewitt and Liang
2019) says how much it can learn by heart: each first word of a text is dealt a class at random,
and the probe is asked for that; selectivity is accuracy minus the control's. Description length
(Voita and Titov 2020) says how cheaply the labels can be told to somebody who has the states:
by online code, each block of items is told with a probe that learned from the blocks before it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.analysis.statistics import Interval, cluster_bootstrap

# Voita and Titov's blocks: the shares of the items after which a new probe is trained.
BLOCKS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
SMALLEST_BLOCK = 8  # items of the first block, which is told without a probe
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class LayerProbe:
    """One layer's probe. Shares in [0, 1], lengths in bits."""

    layer: int  # 0 the embeddings
    accuracy: float
    interval: Interval
    control: float  # accuracy on the control task
    control_seen: float  # share of the control's items whose first word was learned from
    code_length: float  # online code of the training labels
    uniform_length: float  # the same without any probe: log2 of the classes each
    control_code_length: float

    @property
    def selectivity(self) -> float:
        return self.accuracy - self.control

    @property
    def compression(self) -> float:
        """How many times shorter the labels are told with the states; 1 when they do not help."""
        return self.uniform_length / self.code_length


def probe_layers(
    states: np.ndarray,
    labels: np.ndarray,
    words: Sequence[str],
    asked_states: np.ndarray,
    asked_labels: np.ndarray,
    asked_words: Sequence[str],
    groups: Sequence,
    strength: float = 0.1,
    seed: int = 0,
) -> list[LayerProbe]:
    """A probe for each layer of states [layers, N, H], judged on asked_states [layers, M, H].

    `words` and `asked_words` are the texts' control words, `groups` [M] what is resampled for the
    interval. Raises ValueError for training labels of a single class.
    """
    labels, asked_labels = np.asarray(labels), np.asarray(asked_labels)
    if len(np.unique(labels)) < 2:
        raise ValueError("Wanted items of two classes or more to learn from, found one.")
    control, asked_control = control_labels(labels, words, asked_words, seed)
    seen = float(np.isin(asked_words, words).mean())
    found = []
    for layer, (x, asked) in enumerate(zip(states, asked_states)):
        right = Probe(x, labels, strength).predict(asked) == asked_labels
        by_heart = Probe(x, control, strength).predict(asked) == asked_control
        found.append(
            LayerProbe(
                layer=layer,
                accuracy=float(right.mean()),
                interval=cluster_bootstrap(right, groups),
                control=float(by_heart.mean()),
                control_seen=seen,
                code_length=online_code(x, labels, strength, seed),
                uniform_length=len(labels) * float(np.log2(len(np.unique(labels)))),
                control_code_length=online_code(x, control, strength, seed),
            )
        )
    return found


class Probe:
    """L2-regularised logistic regression on standardised states."""

    def __init__(self, states: np.ndarray, labels: np.ndarray, strength: float):
        from sklearn.linear_model import LogisticRegression

        states = np.asarray(states, np.float64)
        self.mean, self.spread = states.mean(axis=0), states.std(axis=0) + 1e-6
        self.only = labels[0] if len(np.unique(labels)) == 1 else None
        if self.only is None:
            self.model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS)
            self.model.fit(self._scaled(states), labels)

    def predict(self, states: np.ndarray) -> np.ndarray:
        if self.only is not None:
            return np.full(len(states), self.only)
        return self.model.predict(self._scaled(states))

    def probabilities(self, states: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """f64 [N, classes]; a class that was never learned keeps a share of the smallest items."""
        found = np.zeros((len(states), len(classes)))
        known = [self.only] if self.only is not None else self.model.classes_
        columns = np.searchsorted(classes, known)
        found[:, columns] = 1.0 if self.only is not None else self._own(states)
        # A probe that has not met a class must still leave room for it, or its code never ends.
        return (found + 1e-3) / (1 + 1e-3 * len(classes))

    def _own(self, states: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(self._scaled(states))

    def _scaled(self, states: np.ndarray) -> np.ndarray:
        return (np.asarray(states, np.float64) - self.mean) / self.spread


def online_code(states: np.ndarray, labels: np.ndarray, strength: float, seed: int = 0) -> float:
    """Bits to tell the labels [N] to who has the states [N, H] (Voita and Titov 2020, eq. 3).

    The first block is told at log2 of the classes an item, each later one by a probe trained on
    all before it. Items come in a random order.
    """
    classes = np.unique(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    states, labels = states[order], labels[order]
    ends = block_ends(len(labels))
    bits = ends[0] * float(np.log2(len(classes)))
    for start, end in zip(ends, ends[1:]):
        probe = Probe(states[:start], labels[:start], strength)
        shares = probe.probabilities(states[start:end], classes)
        truth = np.searchsorted(classes, labels[start:end])
        bits -= float(np.log2(shares[np.arange(end - start), truth]).sum())
    return bits


def block_ends(count: int) -> list[int]:
    """Numbers of items after which a new probe is trained, the last one `count`."""
    ends = sorted({max(SMALLEST_BLOCK, int(np.ceil(share * count))) for share in BLOCKS})
    return [end for end in ends if end < count] + [count]


# ---- the control task -----------------------------------------------------------------------------


def first_word(text: str) -> str:
    """The control word of a text: its first, in lower case."""
    found = re.search(r"\w+", text.lower())
    return found[0] if found else ""


def control_labels(
    labels: np.ndarray, words: Sequence[str], asked_words: Sequence[str], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A class for each control word, dealt in the shares that the labels have, for both sets.

    Hewitt and Liang deal labels to words of tagged text; a class of a whole text has no word of
    its own, so that its first one stands for it. The commonest words are dealt first, each to
    the class that lacks most: "the" and "a" on one side would make the control too easy. A word
    never learned from can only be guessed.
    """
    rng = np.random.default_rng(seed)
    counts = Counter([*words, *asked_words])
    classes, sizes = np.unique(labels, return_counts=True)
    lacking = sizes / sizes.sum() * counts.total()
    names = sorted(counts)
    order = np.lexsort((rng.random(len(names)), [-counts[name] for name in names]))
    dealt = {}
    for place in order:
        name = names[place]
        chosen = int(np.argmax(lacking + 1e-9 * rng.random(len(classes))))
        lacking[chosen] -= counts[name]
        dealt[name] = classes[chosen]
    return np.array([dealt[w] for w in words]), np.array([dealt[w] for w in asked_words])


def as_rows(probes: Sequence[LayerProbe]) -> list[dict]:
    """Plain rows for a table, CSV or JSON."""
    return [
        {
            "layer": p.layer,
            "accuracy": p.accuracy,
            "low": p.interval.low,
            "high": p.interval.high,
            "control": p.control,
            "selectivity": p.selectivity,
            "code_bits": p.code_length,
            "uniform_bits": p.uniform_length,
            "compression": p.compression,
            "control_code_bits": p.control_code_length,
        }
        for p in probes
    ]


COLUMNS = ("layer", "accuracy", "95 %", "control", "selectivity", "code", "compression")


def title(content: dict) -> str:
    return (
        f"{content['model']} on {content['task']}, {content['split']}: {content['train_items']:,} "
        f"items to learn from, {content['items']:,} asked, majority {100 * content['majority']:.1f}"
    )


def table_rows(content: dict) -> list[tuple[str, ...]]:
    """Rows of COLUMNS for what `probe_model` kept: shares in per cent, code in bits."""
    return [
        (
            str(row["layer"]) if row["layer"] else "0 (embeddings)",
            f"{100 * row['accuracy']:.1f}",
            f"{100 * row['low']:.1f}–{100 * row['high']:.1f}",
            f"{100 * row['control']:.1f}",
            f"{100 * row['selectivity']:.1f}",
            f"{row['code_bits']:,.0f} of {row['uniform_bits']:,.0f}",
            f"{row['compression']:.2f}",
        )
        for row in content["layers"]
    ]
