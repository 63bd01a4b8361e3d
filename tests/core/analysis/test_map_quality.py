"""Trustworthiness and neighbour preservation of a map."""

import numpy as np
import pytest

from core.analysis.alignment import unit
from core.analysis.map_quality import map_quality
from core.analysis.projections import fit_pca


def test_trustworthiness_equals_scikit_learn_when_every_point_is_asked():
    from sklearn.manifold import trustworthiness

    vectors = unit(np.random.default_rng(0).normal(size=(300, 8))).astype(np.float32)
    places = fit_pca(vectors)(vectors)
    found = map_quality(vectors, places, queries=300, k=10)
    assert found.queries == 300
    assert found.trustworthiness == pytest.approx(
        trustworthiness(vectors, places, n_neighbors=10), abs=2e-4
    )


def test_a_sample_of_points_comes_near_the_figure_of_all():
    vectors = unit(np.random.default_rng(1).normal(size=(1500, 5)) * [4, 3, 1, 1, 1])
    places = fit_pca(vectors)(vectors)
    whole, part = (map_quality(vectors, places, queries=n) for n in (1500, 400))
    assert part.trustworthiness == pytest.approx(whole.trustworthiness, abs=0.03)
    assert part.neighbour_preservation == pytest.approx(whole.neighbour_preservation, abs=0.05)


def test_a_faithful_map_has_full_marks_and_a_random_one_has_chance():
    turns = np.random.default_rng(2).uniform(0, 2 * np.pi, 400)
    circle = np.column_stack([np.cos(turns), np.sin(turns)])
    faithful = map_quality(circle, circle)
    assert faithful.trustworthiness > 0.999 and faithful.neighbour_preservation > 0.97
    random = map_quality(circle, np.random.default_rng(3).normal(size=(400, 2)))
    assert random.trustworthiness == pytest.approx(0.5, abs=0.05)
    assert random.neighbour_preservation < 0.06


def test_few_points_or_all_in_one_spot_give_figures_all_the_same():
    few = map_quality(np.eye(5), np.random.default_rng(0).normal(size=(5, 2)))
    assert few.neighbours == 1 and 0 <= few.trustworthiness <= 1
    spot = map_quality(np.tile([[1.0, 0.0]], (40, 1)), np.zeros((40, 2)))
    assert np.isfinite(spot.trustworthiness)
