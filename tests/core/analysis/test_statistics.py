"""Against scipy, tables worked by hand, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from core.analysis.statistics import (
    cluster_bootstrap,
    cluster_bootstrap_test,
    design_effect,
    holm,
    mcnemar_exact,
    mean_interval,
    mean_standard_error,
    minimum_detectable_effect,
    paired_bootstrap,
    paired_t,
    rate_interval,
    rate_standard_error,
)

ONE = np.array([0.61, 0.64, 0.60, 0.66, 0.63])
OTHER = np.array([0.52, 0.50, 0.55, 0.51, 0.54])


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


def test_wilson_interval_by_hand():
    # 8 of 10, z = 1.96: centre (0.8 + z²/20)/(1 + z²/10), half z√(0.016 + z²/400)/(1 + z²/10)
    found = rate_interval(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert rate_interval(0, 10).low == pytest.approx(0.0, abs=1e-12)
    assert 0.2 < rate_interval(0, 10).high < 0.3
    with pytest.raises(ValueError, match="at least one trial"):
        rate_interval(0, 0)


def answers(both: int, only_one: int, only_other: int, neither: int):
    cells = [(True, True), (True, False), (False, True), (False, False)]
    sizes = [both, only_one, only_other, neither]
    rows = np.array([cell for cell, size in zip(cells, sizes) for _ in range(size)])
    return rows[:, 0], rows[:, 1]


def test_paired_bootstrap_agrees_with_the_closed_form():
    one, other = answers(500, 120, 80, 300)
    found = paired_bootstrap(one, other)
    error = np.sqrt((0.2 - 0.04**2) / 1000)  # variance of a paired difference of shares
    assert found.difference == pytest.approx(0.04)
    assert found.interval.low == pytest.approx(0.04 - 1.96 * error, abs=0.002)
    assert found.interval.high == pytest.approx(0.04 + 1.96 * error, abs=0.002)
    assert found.p == pytest.approx(mcnemar_exact(one, other), abs=0.005)


def test_paired_bootstrap_resamples_blocks_whole():
    one, other = answers(50, 12, 8, 30)
    blocks = np.tile(np.arange(100), 5)
    once = paired_bootstrap(one, other)
    copied = paired_bootstrap(np.tile(one, 5), np.tile(other, 5), blocks)
    assert copied == once
    with pytest.raises(ValueError):
        paired_bootstrap(one, other[:-1])


@pytest.mark.parametrize(("count", "discordant"), [(400, 0.4), (1838, 0.25), (1000, 0.1)])
def test_the_detectable_effect_is_found_four_times_in_five(count, discordant):
    effect = minimum_detectable_effect(count, discordant)
    generator = np.random.default_rng(0)
    shares = [(discordant + effect) / 2, (discordant - effect) / 2, 1 - discordant]
    drawn = generator.multinomial(count, shares, size=4000)
    p = stats.binom.cdf(drawn[:, :2].min(1), drawn[:, :2].sum(1), 0.5) * 2
    # The exact test is cautious, so that it finds a little less often than the normal one.
    assert (p < 0.05).mean() == pytest.approx(0.79, abs=0.025)


def test_too_few_discordant_items_can_show_nothing():
    assert np.isnan(minimum_detectable_effect(100, 0.02))
    assert np.isnan(minimum_detectable_effect(100, 0.0))
    assert minimum_detectable_effect(10_000, 0.2) < minimum_detectable_effect(1000, 0.2)


def test_copies_count_once_in_the_design_effect():
    values = np.random.default_rng(2).normal(size=40)
    assert design_effect(values, range(40)) == pytest.approx(1.0)
    assert design_effect(np.repeat(values, 5), np.repeat(range(40), 5)) == pytest.approx(5.0)
    assert design_effect(np.ones(4), [0, 0, 1, 1]) == 1.0
