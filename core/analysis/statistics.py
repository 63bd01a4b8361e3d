"""How sure are the figures that are shown, and is one model better than another?

Standard errors, intervals, paired tests over seeds and over items, what a test could have found.
Seeds and items are two samples: the test over seeds asks whether training again would show the
same, with these items; the test over items asks whether other items would, with these runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a mean."""

    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True)
class Comparison:
    """The mean of paired differences, its interval, and the two-sided p that it is 0."""

    difference: float
    interval: Interval
    p: float


# ---- one figure ------------------------------------------------------------------------------


def rate_standard_error(rate: float, count: int) -> float:
    """Closed-form standard error of a share of `count` independent trials: √(p(1−p)/n)."""
    if count < 1:
        raise ValueError(f"Wanted at least one trial, found {count}.")
    return float(np.sqrt(rate * (1.0 - rate) / count))


def rate_interval(hits: int, count: int, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a share of independent trials; it stays within [0, 1] at both ends."""
    from statsmodels.stats.proportion import proportion_confint

    if count < 1:
        raise ValueError(f"Wanted at least one trial, found {count}.")
    low, high = proportion_confint(hits, count, alpha=1.0 - confidence, method="wilson")
    return Interval(float(low), float(high), confidence)


def mean_standard_error(values: np.ndarray) -> float:
    """Closed-form standard error of the mean of independent values [n], n ≥ 2: s/√n."""
    values = np.asarray(values, np.float64)
    if values.size < 2:
        raise ValueError(f"Wanted at least two values, found {values.size}.")
    return float(values.std(ddof=1) / np.sqrt(values.size))


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values [n]; without width for equal ones.

    Raises ValueError for fewer than two.
    """
    from scipy import stats

    values = _values(values)
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * values.std(ddof=1)
    half /= np.sqrt(len(values))
    return Interval(float(values.mean() - half), float(values.mean() + half), confidence)


def cluster_bootstrap(
    values: np.ndarray,
    clusters: Sequence[Hashable],
    samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of the mean of `values` [n], resampling whole clusters.

    Words of one video share its picture, so that resampling words would make the interval too
    narrow; resampling videos does not. The mean stays a mean over values: a video with more
    words weighs more (a ratio estimator; Davison and Hinkley 1997, section 3.8).
    """
    values = np.asarray(values, np.float64)
    if values.size == 0 or values.size != len(clusters):
        raise ValueError(f"Wanted one cluster per value, found {len(clusters)} for {values.size}.")
    _, membership = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.bincount(membership, weights=values)  # [clusters]
    counts = np.bincount(membership).astype(np.float64)
    means = _resampled_means(sums, counts, samples, np.random.default_rng(seed))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(low), float(high), confidence)


def _resampled_means(sums, counts, samples: int, generator) -> np.ndarray:
    """Means of `samples` draws of as many clusters as there are, with replacement."""
    num_clusters = len(sums)
    means = np.empty(samples)
    # In blocks, so that a thousand videos and ten thousand samples need no gigabyte.
    block = max(1, 2_000_000 // num_clusters)
    for start in range(0, samples, block):
        rows = min(block, samples - start)
        drawn = generator.integers(0, num_clusters, size=(rows, num_clusters))
        means[start : start + rows] = sums[drawn].sum(1) / counts[drawn].sum(1)
    return means


# ---- one model against another ---------------------------------------------------------------


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


def paired_bootstrap(
    one: np.ndarray,
    other: np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Difference of two models' shares over the same items, by resampling items with both answers.

    `one` and `other` are bool (or shares) [items]; with `clusters` whole clusters are resampled.
    Raises ValueError for arrays that do not fit.
    """
    differences = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    if not differences.size:
        raise ValueError("Wanted at least one item, found none.")
    clusters = range(differences.size) if clusters is None else clusters
    return cluster_bootstrap_test(differences, clusters, samples, seed)


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
    means = _drawn_means(sums, counts, samples, np.random.default_rng(seed))
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (samples + 1))
    return Comparison(float(differences.mean()), Interval(float(low), float(high)), float(p))


def _drawn_means(sums, counts, samples: int, generator) -> np.ndarray:
    """Means of `samples` draws of as many clusters as there are, with replacement.

    Clusters that are alike are drawn together: items that are right or wrong come in a few
    kinds, and thousands of them cost no more than these.
    """
    kinds, number = np.unique(np.stack([sums, counts]), axis=1, return_counts=True)
    means = np.empty(samples)
    block = max(1, 2_000_000 // len(number))
    for start in range(0, samples, block):
        rows = min(block, samples - start)
        drawn = generator.multinomial(number.sum(), number / number.sum(), size=rows)
        means[start : start + rows] = (drawn @ kinds[0]) / (drawn @ kinds[1])
    return means


def design_effect(values: np.ndarray, clusters: Sequence[Hashable]) -> float:
    """How much larger the variance of the mean of `values` [n] is for clusters that stay whole.

    n over this is the number of independent values that would tell as much (Kish 1965, chapter
    5); 1 without clusters, and for values that are all the same.
    """
    values = np.asarray(values, np.float64)
    residuals = values - values.mean()
    _, membership = np.unique(np.asarray(clusters, str), return_inverse=True)
    alone = (residuals**2).sum()
    return float((np.bincount(membership, residuals) ** 2).sum() / alone) if alone else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    if not len(p_values):
        return []
    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def minimum_detectable_effect(
    count: int, discordant: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The smallest true difference of two shares that McNemar's test finds with this power.

    `count` items, of which the share `discordant` is right by one of the models only. Solves
    √n·δ = z(1−α/2)·√ψ + z(power)·√(ψ − δ²) for δ (Connor 1987); ψ is the discordant share. NaN
    where even δ = ψ, all discordant items going one way, would be missed. It takes items for
    independent: blocks of items that stand or fall together need a larger difference.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if count < 1 or not 0 <= discordant <= 1:
        raise ValueError(f"Wanted items and a share of them, found {count} and {discordant}.")
    border, reserve = norm.ppf(1 - alpha / 2), norm.ppf(power)

    def lacking(difference: float) -> float:
        spread = np.sqrt(max(0.0, discordant - difference**2))
        return border * np.sqrt(discordant) + reserve * spread - np.sqrt(count) * difference

    if discordant == 0 or lacking(discordant) > 0:
        return float("nan")
    return float(brentq(lacking, 0.0, discordant))


def _values(values) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.size < 2:
        raise ValueError(f"Wanted at least two values, found {values.size}.")
    return values
