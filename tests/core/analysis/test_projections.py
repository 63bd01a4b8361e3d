"""Maps: what lies inside a shape, principal axes, one map laid on another."""

import numpy as np
import pytest

from core.analysis.projections import (
    fit_pca,
    place_by_axes,
    procrustes,
    sample_stratified,
    select_box,
    select_lasso,
)


def inside_plainly(point, polygon) -> bool:
    """Even-odd rule, edge by edge (Franklin's PNPOLY)."""
    x, y = (float(v) for v in point)
    inside = False
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0)):
        if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
            inside = not inside
    return inside


def star(corners: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    turns, radii = np.sort(random.uniform(0, 2 * np.pi, corners)), random.uniform(0.3, 2, corners)
    return np.column_stack([radii * np.cos(turns), radii * np.sin(turns)])


@pytest.mark.parametrize(
    "polygon",
    [
        star(3, 0),
        star(120, 1),
        np.random.default_rng(2).normal(size=(25, 2)),  # crosses itself many times
        np.array([[0, 0], [1, 0], [1, 1], [0, 1]]),  # edges that are level and upright
    ],
    ids=["triangle", "star", "scribble", "square"],
)
def test_lasso_equals_the_plain_rule_for_every_point(polygon):
    points = np.random.default_rng(3).normal(size=(2000, 2)).astype(np.float32)
    points[:200] = np.round(points[:200])  # some on the corners' heights
    wanted = [row for row, point in enumerate(points) if inside_plainly(point, polygon)]
    assert select_lasso(points, polygon).tolist() == wanted
    assert len(wanted) > 10


def test_lasso_of_two_corners_encloses_nothing():
    assert not len(select_lasso(np.zeros((5, 2), np.float32), [[-1, -1], [1, 1]]))


def test_box_includes_its_edges_in_any_order_of_corners():
    points = np.array([[0, 0], [1, 1], [2, 2], [1, 3]], np.float32)
    assert select_box(points, 2, 1, 3, 1).tolist() == [1, 2, 3]
    assert select_box(points, 1, 1, 1, 1).tolist() == [1]


def test_a_stratified_sample_keeps_shares_and_is_the_same_for_a_seed():
    labels = np.repeat([0, 1, 2], [9000, 900, 100])
    rows = sample_stratified(labels, 1000, seed=5)
    assert len(np.unique(rows)) == 1000 and (np.diff(rows) > 0).all()
    assert np.bincount(labels[rows]).tolist() == [900, 90, 10]
    assert np.array_equal(rows, sample_stratified(labels, 1000, seed=5))
    assert not np.array_equal(rows, sample_stratified(labels, 1000, seed=6))


def test_a_stratified_sample_of_more_labels_than_places_has_its_size():
    rows = sample_stratified(np.arange(5000), 300)
    assert len(np.unique(rows)) == 300
    assert sample_stratified(np.arange(7), 10).tolist() == list(range(7))


def test_pca_equals_scikit_learn_up_to_signs():
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(0).normal(size=(500, 12)) * np.arange(1, 13)
    axes, wanted = fit_pca(vectors), PCA(2, svd_solver="full").fit(vectors)
    assert np.allclose(np.abs(axes(vectors)), np.abs(wanted.transform(vectors)), atol=1e-3)
    assert np.allclose(axes.explained, wanted.explained_variance_ratio_, atol=1e-9)
    assert (axes.components[[0, 1], np.abs(axes.components).argmax(1)] > 0).all()


def test_pca_in_blocks_equals_pca_at_once(monkeypatch):
    from core.analysis import projections

    vectors = np.random.default_rng(1).normal(size=(1000, 6)).astype(np.float16)
    whole = fit_pca(vectors)(vectors)
    monkeypatch.setattr(projections, "BLOCK", 77)
    assert np.allclose(fit_pca(vectors)(vectors), whole, atol=1e-5)


def test_procrustes_recovers_rotation_scale_and_shift():
    points = np.random.default_rng(0).normal(size=(100, 2))
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = 3.0 * points @ turn + [5, -2]
    fitted = procrustes(points, moved)
    assert np.allclose(fitted(points), moved, atol=1e-5)
    assert fitted.disparity == pytest.approx(0, abs=1e-12)
    mirrored = points * [1, -1]
    assert np.allclose(procrustes(mirrored, points)(mirrored), points, atol=1e-5)


def test_procrustes_disparity_equals_scipys():
    from scipy.spatial import procrustes as reference

    one, other = np.random.default_rng(4).normal(size=(2, 50, 2))
    assert procrustes(one, other).disparity == pytest.approx(reference(other, one)[2])


def test_kept_axes_place_as_the_fitted_ones():
    vectors = np.random.default_rng(0).normal(size=(50, 5))
    axes = fit_pca(vectors)
    kept = np.column_stack([axes.components, -axes.components @ axes.mean])
    assert np.allclose(place_by_axes(vectors, kept), axes(vectors), atol=1e-5)
