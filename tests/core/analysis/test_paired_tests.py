"""Paired tests against scipy, against tables worked by hand, and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from core.analysis.paired_tests import (
    cluster_bootstrap_test,
    holm,
    mcnemar_exact,
    mean_interval,
    paired_t,
)

ONE = np.array([0.61, 0.64, 0.60, 0.66, 0.63])
OTHER = np.array([0.52, 0.50, 0.55, 0.51, 0.54])


def test_paired_t_and_interval_agree_with_scipy():
    wanted = stats.ttest_rel(ONE, OTHER)
    found = paired_t(ONE, OTHER)
    assert found.p == pytest.approx(wanted.pvalue)
    low, high = wanted.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert found.difference == pytest.approx((ONE - OTHER).mean())


def test_equal_differences_have_no_doubt():
    assert paired_t(ONE, ONE).p == 1.0
    assert paired_t([2.0, 3.0], [1.0, 2.0]).p == 0.0


def test_one_seed_cannot_be_tested():
    with pytest.raises(ValueError, match="at least two"):
        mean_interval([0.5])


def test_mcnemar_agrees_with_the_binomial_test():
    one = np.array([True] * 30 + [True] * 9 + [False] * 2 + [False] * 20)
    other = np.array([True] * 30 + [False] * 9 + [True] * 2 + [False] * 20)
    assert mcnemar_exact(one, other) == pytest.approx(stats.binomtest(2, 11).pvalue)


def test_holm_by_hand():
    # 0.01·4, then max(…, 0.02·3), max(…, 0.03·2), max(…, 0.04·1)
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_bootstrap_of_single_items_agrees_with_the_t_test():
    differences = np.random.default_rng(0).normal(0.1, 1.0, 400)
    found = cluster_bootstrap_test(differences, range(400))
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)
    wanted = mean_interval(differences)
    assert found.interval.low == pytest.approx(wanted.low, abs=0.01)


def test_items_of_one_block_are_not_independent():
    """Ten copies of an item say no more than one, though a test over items would believe it."""
    blocks = np.random.default_rng(1).normal(0.2, 1.0, 30)
    names = np.repeat(np.arange(30), 10)
    clustered = cluster_bootstrap_test(np.repeat(blocks, 10), names)
    naive = cluster_bootstrap_test(np.repeat(blocks, 10), range(300))
    assert clustered.p == pytest.approx(cluster_bootstrap_test(blocks, range(30)).p, abs=0.02)
    assert naive.p < clustered.p / 2


def test_no_difference_is_no_finding():
    assert cluster_bootstrap_test(np.zeros(20), range(20)).p == 1.0
