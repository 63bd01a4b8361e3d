"""What distillation does inside a student: scores that CRD judges, token Grams, and CKA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_BINS = 60


# ---- CRD: does a token know its own teacher vector? ------------------------------------------


@dataclass(frozen=True)
class ScoreHistograms:
    """CRD's log odds ℓ = s·t/τ − b of pairs of a student's and a teacher's token.

    Above 0 the pair is taken for one token. Each row of `shares` sums to 1, or is all zero
    where there was no such pair.
    """

    KINDS = ("the same token", "another word", "the same word elsewhere")

    edges: np.ndarray  # f64 [bins + 1], log odds
    shares: np.ndarray  # f64 [3, bins], in the order of KINDS
    counts: np.ndarray  # int64 [3] pairs
    accepted: np.ndarray  # f64 [3], share of the pairs with ℓ > 0; NaN where there is none
    frozen: bool  # b is that of the first training batch; else each batch gives its own
    ranked: float  # chance that a token's own pair scores above a random other one; 0.5 = no idea


def score_histograms(
    batches: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    temperature: float,
    log_mean: float | None = None,
) -> ScoreHistograms:
    """Histograms over all pairs inside each batch of (student [N, d], teacher [N, d], ids [N]).

    Vectors are unit, row i of both is one token. As in training b = log(N − 1) + log Z, with
    `log_mean` = log Z; None takes each batch's own mean of exp(s·t/τ), as the first batch does.
    """
    odds: list[list[np.ndarray]] = [[], [], []]
    for student, teacher, ids in batches:
        if len(ids) > 1:  # a token alone has nobody to be told from
            for kept, values in zip(odds, _by_kind(student, teacher, ids, temperature, log_mean)):
                kept.append(values)
    pairs = [np.concatenate(values) if values else np.empty(0) for values in odds]
    edges = _edges(pairs)
    shares = np.stack([np.histogram(p, edges)[0] / max(1, len(p)) for p in pairs])
    accepted = np.array([(p > 0).mean() if len(p) else np.nan for p in pairs])
    counts = np.array([len(p) for p in pairs])
    ranked = _ranked_above(pairs[0], np.concatenate(pairs[1:]))
    return ScoreHistograms(edges, shares, counts, accepted, log_mean is not None, ranked)


def _by_kind(student, teacher, ids, temperature, log_mean) -> list[np.ndarray]:
    """Log odds of one batch's pairs, apart by KINDS."""
    scores = student.astype(np.float64) @ teacher.astype(np.float64).T / temperature  # [N, N]
    if log_mean is None:
        log_mean = np.log(np.exp(scores - scores.max()).mean()) + scores.max()
    scores -= log_mean + np.log(len(ids) - 1)
    own = np.eye(len(ids), dtype=bool)
    same_word = (ids[:, None] == ids[None, :]) & ~own
    return [scores[own], scores[~own & ~same_word], scores[same_word]]


def _edges(pairs: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate(pairs)
    if not len(values):
        return np.linspace(-1, 1, NUM_BINS + 1)
    low, high = float(values.min()), float(values.max())
    # Zero, where the judgement turns, is a border between two bins.
    width = max(high - low, 1e-6) / (NUM_BINS - 1)
    first = np.floor(low / width)
    return (first + np.arange(NUM_BINS + 1)) * width


def _ranked_above(positives: np.ndarray, negatives: np.ndarray) -> float:
    """P(positive > negative), ties half: the area under the ROC curve."""
    if not len(positives) or not len(negatives):
        return float("nan")
    negatives = np.sort(negatives)
    below = np.searchsorted(negatives, positives, "left")
    up_to = np.searchsorted(negatives, positives, "right")
    return float((below + up_to).mean() / 2 / len(negatives))


# ---- NST: which tokens do the channels select together? --------------------------------------


@dataclass(frozen=True)
class GramPair:
    """Token Grams as NST compares them; entry (i, j) is the mean over channels of s_i s_j."""

    teacher: np.ndarray  # f64 [L, L]
    student: np.ndarray  # f64 [L, L]

    @property
    def difference(self) -> np.ndarray:
        """Student less teacher, f64 [L, L]."""
        return self.student - self.teacher

    @property
    def nst(self) -> float:
        """NST's value for this sentence: the sum of the squared differences."""
        return float(np.square(self.difference).sum())


def token_gram(states: np.ndarray) -> np.ndarray:
    """Token Gram f64 [L, L] of states [L, D] whose channels are made unit over the tokens.

    Its trace is 1 (less for channels that are zero everywhere). Huang and Wang 2017,
    arXiv 1707.01219, with the polynomial kernel; the same arithmetic as core.losses.nst.
    """
    states = states.astype(np.float64)
    lengths = np.sqrt(np.maximum(np.square(states).sum(axis=0), 1e-24))  # [D]
    unit = states / lengths
    return unit @ unit.T / states.shape[1]


# ---- CKA: which layer resembles which? --------------------------------------------------------


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Debiased linear CKA of two sets of states of the same tokens, [N, D1] and [N, D2].

    1 for states that are equal up to rotation and one scale; 0 is the expected value for
    unrelated ones, so that it may fall slightly below. Kornblith et al. 2019 (arXiv 1905.00414)
    with the unbiased HSIC of Song et al. 2012, written in the space of the features: plain CKA
    of N tokens with D channels rises towards 1 with D / N, whatever the states. Raises
    ValueError for other shapes, or fewer than four tokens.
    """
    return float(cka_table([first], [second])[0, 0])


def cka_table(rows: Sequence[np.ndarray], columns: Sequence[np.ndarray]) -> np.ndarray:
    """`linear_cka` of every pair of layers, f64 [rows, columns]; NaN for constant states."""
    rows, columns = [_Layer(x) for x in rows], [_Layer(x) for x in columns]
    own = np.array([layer.hsic(layer) for layer in rows])
    other = np.array([layer.hsic(layer) for layer in columns])
    both = np.array([[a.hsic(b) for b in columns] for a in rows])
    scale = np.sqrt(np.maximum(own[:, None] * other[None, :], 0))
    return np.divide(both, scale, out=np.full_like(both, np.nan), where=scale > 0)


class _Layer:
    """Centred states of one layer with the sums that the unbiased estimator needs."""

    def __init__(self, states: np.ndarray):
        if states.ndim != 2 or len(states) < 4:
            raise ValueError(f"CKA wants states [4 or more tokens, D], found {states.shape}.")
        centred = states.astype(np.float64) - states.mean(axis=0, dtype=np.float64)
        scale = np.abs(centred).max()
        self.states = centred / (scale if scale > 0 else 1)
        self.squares = np.square(self.states).sum(axis=1)  # [N]

    def hsic(self, other: _Layer) -> float:
        """Unbiased HSIC up to a factor that depends on N alone."""
        n = len(self.states)
        if n != len(other.states):
            raise ValueError(f"CKA wants the same tokens on both sides: {n}, {len(other.states)}.")
        cross = np.square(self.states.T @ other.states).sum()
        together = self.squares @ other.squares
        apart = self.squares.sum() * other.squares.sum()
        return cross - n / (n - 2) * together + apart / ((n - 1) * (n - 2))
