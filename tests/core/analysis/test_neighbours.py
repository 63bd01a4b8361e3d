"""Nearest neighbours: exact, without the point itself, and shared between two spaces."""

import numpy as np
import pytest

from core.analysis import neighbours as module
from core.analysis.alignment import unit
from core.analysis.neighbours import neighbours, others, overlap_at_k, shared


@pytest.fixture
def vectors():
    return unit(np.random.default_rng(0).normal(size=(700, 16))).astype(np.float16)


def plainly(vectors, row, k):
    cosines = vectors.astype(np.float64) @ vectors[row].astype(np.float64)
    cosines[row] = -np.inf
    return np.argsort(-cosines)[:k]


def test_neighbours_equal_sorting_all_cosines(vectors, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 97)  # the rows are looked at in several blocks
    for row in (0, 96, 97, 699):
        cosines, rows = neighbours(vectors, row, 10)
        assert rows.tolist() == plainly(vectors, row, 10).tolist()
        assert (np.diff(cosines) <= 0).all()


def test_a_point_is_no_neighbour_of_itself_even_among_equals():
    same = np.tile(np.eye(4, dtype=np.float16)[:1], (30, 1))
    rows = others(same, np.arange(30), 5)[1]
    assert rows.shape == (30, 5)
    assert not (rows == np.arange(30)[:, None]).any()


def test_more_neighbours_than_points_gives_all_others(vectors):
    assert sorted(neighbours(vectors[:4], 1, 10)[1]) == [0, 2, 3]


def test_overlap_is_one_for_the_same_space_turned_and_small_for_another(vectors):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))
    rows, exact = np.arange(50), vectors.astype(np.float64)
    assert overlap_at_k(exact, exact @ turn, rows).min() > 0.89
    other = unit(np.random.default_rng(2).normal(size=vectors.shape))
    assert overlap_at_k(vectors, other, rows).mean() < 0.1


def test_shared_counts_rows_that_stand_in_both():
    found, beside = np.array([[1, 2, 3, 4], [1, 2, 3, 4]]), np.array([[4, 3, 9, 8], [5, 6, 7, 8]])
    assert shared(found, beside).tolist() == [0.5, 0.0]
