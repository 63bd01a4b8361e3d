import numpy as np
import pytest

from core.analysis.statistics import cluster_bootstrap, mean_standard_error, rate_standard_error


def test_rate_standard_error_by_hand():
    assert rate_standard_error(0.5, 100) == pytest.approx(0.05)
    assert rate_standard_error(0.2, 64) == pytest.approx(0.05)


def test_mean_standard_error_by_hand():
    # values 0, 2: mean 1, s² = 2, s/√2 = 1
    assert mean_standard_error(np.array([0.0, 2.0])) == pytest.approx(1.0)


def test_bootstrap_of_single_clusters_agrees_with_the_closed_form():
    hits = (np.arange(400) % 4 == 0).astype(float)  # rate 0.25
    interval = cluster_bootstrap(hits, list(range(400)), samples=4000)
    half = 1.96 * rate_standard_error(0.25, 400)
    assert interval.low == pytest.approx(0.25 - half, abs=0.008)
    assert interval.high == pytest.approx(0.25 + half, abs=0.008)


def test_bootstrap_resamples_videos_not_words():
    """Forty equal words of one video say no more than one word."""
    per_video = (np.arange(50) % 2).astype(float)
    once = cluster_bootstrap(per_video, [str(v) for v in range(50)], seed=1)
    copied = cluster_bootstrap(
        np.repeat(per_video, 40), [str(v) for v in range(50) for _ in range(40)], seed=1
    )
    assert copied == once


def test_bootstrap_is_reproducible_and_refuses_mismatched_clusters():
    values = np.random.default_rng(0).random(30)
    names = list(range(30))
    assert cluster_bootstrap(values, names, seed=3) == cluster_bootstrap(values, names, seed=3)
    with pytest.raises(ValueError, match="one cluster per value"):
        cluster_bootstrap(values, names[:-1])
