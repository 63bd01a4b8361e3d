"""Forced choice on answers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from core.analysis.forced_choice import calibrated, hit, judge, margins
from core.records import ProbeItem


def item(number: int, label: int, template="it will", block="b") -> ProbeItem:
    metadata = {"template": template, "block": f"{block}{number // 2}", "family": "drop"}
    return ProbeItem(f"i{number}", "t", f"context {number}", ("bounce", "sink"), label, metadata)


ITEMS = [item(n, label) for n, label in enumerate([0, 1, 0, 1])]


def test_right_wrong_and_tied_answers():
    scores = [(2.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.0, 3.0)]
    np.testing.assert_allclose(margins(ITEMS, scores), [1.0, -1.0, 0.0, 3.0])
    found = judge(ITEMS, scores, bootstrap=100)
    assert found.accuracy.value == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert found.accuracy.chance == 0.5
    assert found.families["drop"][0] == found.accuracy.value
    assert found.blocks == ("b0", "b0", "b1", "b1")


def test_calibration_finds_what_a_taste_for_a_word_hides():
    """ "bounce" is always 5 likelier, and 1 more where it is right."""
    scores = [(5.5, 0.0), (4.5, 0.0), (5.5, 0.0), (4.5, 0.0)]
    found = judge(ITEMS, scores, bootstrap=100)
    assert found.accuracy.value == 0.5
    assert found.calibrated.value == 1.0


def test_calibration_compares_like_with_like():
    """A template of its own is its own group, and a lone item is left with a tie."""
    items = [*ITEMS, item(4, 0, template="past")]
    fair = calibrated(items, [(1.0, 0.0)] * 4 + [(9.0, 0.0)])
    np.testing.assert_allclose(fair, np.zeros((5, 2)))
    assert (hit(margins(items, fair)) == 0.5).all()


def test_order_of_the_choices_does_not_matter_to_calibration():
    turned = ProbeItem("t", "t", "c", ("sink", "bounce"), 1, ITEMS[0].metadata)
    fair = calibrated([ITEMS[0], turned], [(3.0, 1.0), (1.0, 5.0)])
    np.testing.assert_allclose(fair[0], [-1.0, 0.0])
    np.testing.assert_allclose(fair[1], [0.0, 1.0])


def test_random_scores_stay_at_chance():
    items = [item(n, n % 2) for n in range(400)]
    draws = np.random.default_rng(0).normal(size=(20, 400, 2))
    found = [judge(items, scores, bootstrap=50) for scores in draws]
    for rates in ([f.accuracy.value for f in found], [f.calibrated.value for f in found]):
        assert np.mean(rates) == pytest.approx(0.5, abs=0.025)  # 4 standard errors


def test_scores_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one per choice"):
        judge(ITEMS, [(1.0, 2.0)])
