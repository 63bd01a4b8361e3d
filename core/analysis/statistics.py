"""Uncertainty of the figures that are shown: standard errors and bootstrap intervals."""

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


def rate_standard_error(rate: float, count: int) -> float:
    """Closed-form standard error of a share of `count` independent trials: √(p(1−p)/n)."""
    if count < 1:
        raise ValueError(f"Wanted at least one trial, found {count}.")
    return float(np.sqrt(rate * (1.0 - rate) / count))


def mean_standard_error(values: np.ndarray) -> float:
    """Closed-form standard error of the mean of independent values [n], n ≥ 2: s/√n."""
    values = np.asarray(values, np.float64)
    if values.size < 2:
        raise ValueError(f"Wanted at least two values, found {values.size}.")
    return float(values.std(ddof=1) / np.sqrt(values.size))


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
