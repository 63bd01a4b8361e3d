"""UMAP and t-SNE keep groups apart; new points come where their neighbours are."""

import subprocess
import sys

import numpy as np
import pytest

from core.analysis.alignment import unit
from core.analysis.manifold_maps import UmapOptions, fit_tsne, fit_umap, place
from core.analysis.projections import procrustes
from core.config import REPO_ROOT


@pytest.fixture(scope="module")
def groups():
    truth = np.repeat(np.arange(4), 60)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(240, 12))
    return unit(np.eye(12)[truth] + noise).astype(np.float32), truth


def same_group_share(places, truth) -> float:
    """Share of points whose nearest other on the map is of their own group."""
    distances = ((places[:, None] - places[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    return float((truth[distances.argmin(1)] == truth).mean())


@pytest.mark.slow
def test_umap_keeps_groups_apart_and_repeats_itself_with_a_seed(groups):
    vectors, truth = groups
    places = fit_umap(vectors, UmapOptions(seed=3))
    assert same_group_share(places, truth) == 1
    assert np.array_equal(places, fit_umap(vectors, UmapOptions(seed=3)))
    assert not np.array_equal(places, fit_umap(vectors, UmapOptions(seed=4)))


@pytest.mark.slow
def test_umap_that_begins_at_another_map_keeps_its_layout(groups):
    vectors, _ = groups
    before = fit_umap(vectors, UmapOptions())
    anywhere = np.random.default_rng(1).normal(size=before.shape)
    begun, strange = (fit_umap(vectors, UmapOptions(seed=9), start) for start in (before, anywhere))
    assert procrustes(begun, before).disparity < 0.3
    assert procrustes(strange, before).disparity > 0.5


def test_tsne_keeps_groups_apart_and_repeats_itself(groups):
    vectors, truth = groups
    places = fit_tsne(vectors, perplexity=15)
    assert same_group_share(places, truth) > 0.98
    assert np.array_equal(places, fit_tsne(vectors, perplexity=15))


def test_a_known_point_is_placed_on_its_own_place(groups):
    vectors, _ = groups
    places = np.random.default_rng(0).normal(size=(240, 2)).astype(np.float32)
    assert np.allclose(place(vectors[:20], vectors, places), places[:20], atol=1e-3)


def test_new_points_come_into_their_group(groups):
    vectors, truth = groups
    centers = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
    places = centers[truth] + np.random.default_rng(1).normal(scale=0.3, size=(240, 2))
    new = unit(np.eye(12)[truth] + np.random.default_rng(2).normal(scale=0.1, size=(240, 12)))
    found = place(new, vectors, places)
    assert (((found[:, None] - centers[None]) ** 2).sum(-1).argmin(1) == truth).all()


def test_placing_in_blocks_reports_progress(groups, monkeypatch):
    from core.analysis import manifold_maps

    vectors, _ = groups
    places = vectors[:, :2]
    whole = place(vectors, vectors, places)
    monkeypatch.setattr(manifold_maps, "QUERIES_AT_ONCE", 100)
    seen = []
    assert np.allclose(place(vectors, vectors, places, progress=lambda *a: seen.append(a)), whole)
    assert [done for done, _, _ in seen] == [100, 200, 240]


def test_a_point_between_two_parts_of_the_map_goes_to_one_and_not_into_the_gap(groups):
    vectors, truth = groups
    centers = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
    between = unit((vectors[truth == 0][:30] + vectors[truth == 1][:30]).astype(float))
    found = place(between, vectors, centers[truth])
    assert ((found[:, None] - centers[None]) ** 2).sum(-1).min(1).max() < 1e-6


def test_placing_by_an_index_is_nearly_placing_by_all(groups, monkeypatch):
    from core.analysis import manifold_maps

    random = np.random.default_rng(4)
    vectors = unit(random.normal(size=(1500, 8))).astype(np.float32)
    places, new = vectors[:, :2], unit(random.normal(size=(400, 8))).astype(np.float32)
    exact = place(new, vectors, places)
    monkeypatch.setattr(manifold_maps, "INDEXED_FROM", 100)
    assert (np.abs(place(new, vectors, places) - exact).max(1) < 1e-5).mean() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, None])
def test_fitting_leaves_torch_its_threads(seed):
    """In a process of its own: numba chooses its threads once."""
    code = (
        "import numpy as np, torch; torch.set_num_threads(1);"
        "from core.analysis.manifold_maps import UmapOptions, fit_umap;"
        "vectors = np.random.default_rng(0).normal(size=(80, 6));"
        f"places = fit_umap(vectors, UmapOptions(5, 0.1, {seed}));"
        "assert places.shape == (80, 2) and np.isfinite(places).all();"
        "assert torch.get_num_threads() == 1, torch.get_num_threads()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO_ROOT)
