"""Is one model better than another? Paired tests over seeds and over items.

Seeds and items are two samples: the test over seeds asks whether training again would show the
same, with these items; the test over items asks whether other items would, with these runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from core.analysis.statistics import Interval


@dataclass(frozen=True)
class Comparison:
    """The mean of paired differences, its interval, and the two-sided p that it is 0."""

    difference: float
    interval: Interval
    p: float


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values [n]; without width for equal ones.

    Raises ValueError for fewer than two.
    """
    from scipy import stats

    values = _values(values)
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * values.std(ddof=1)
    half /= np.sqrt(len(values))
    return Interval(float(values.mean() - half), float(values.mean() + half), confidence)


def paired_t(one: np.ndarray, other: np.ndarray) -> Comparison:
    """Paired t-test of `one` against `other`, values of the same seeds [n], n ≥ 2.

    Differences that are all the same have no spread to judge by: p is 1 when they are 0, else 0.
    """
    from scipy import stats

    differences = _values(one) - _values(other)
    if np.ptp(differences) == 0:
        p = float(differences[0] == 0)
    else:
        p = float(stats.ttest_1samp(differences, 0).pvalue)
    return Comparison(float(differences.mean()), mean_interval(differences), p)


def mcnemar_exact(one: np.ndarray, other: np.ndarray) -> float:
    """McNemar's exact two-sided p for right or wrong answers bool [items] of two models."""
    from statsmodels.stats.contingency_tables import mcnemar

    one, other = np.asarray(one, bool), np.asarray(other, bool)
    table = [[(one & other).sum(), (one & ~other).sum()], [(~one & other).sum(), 0]]
    return float(mcnemar(table, exact=True).pvalue)


def cluster_bootstrap_test(
    differences: np.ndarray, clusters: Sequence[Hashable], samples: int = 10_000, seed: int = 0
) -> Comparison:
    """Mean of paired differences [items] with clusters resampled whole, and its two-sided p.

    p is twice the share of resampled means on the other side of 0, as usual with one added to
    both counts: 10,000 samples cannot tell less than 2 in 10,001.
    """
    differences = np.asarray(differences, np.float64)
    _, membership = np.unique(np.asarray(clusters, str), return_inverse=True)
    sums = np.bincount(membership, weights=differences)
    counts = np.bincount(membership).astype(np.float64)
    drawn = np.random.default_rng(seed).multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), size=samples
    )
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (samples + 1))
    return Comparison(float(differences.mean()), Interval(float(low), float(high)), float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    if not len(p_values):
        return []
    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def _values(values) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.size < 2:
        raise ValueError(f"Wanted at least two values, found {values.size}.")
    return values
