"""The microscope's arithmetic against direct formulas and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.analysis.microscope import (
    GramPair,
    cka_table,
    linear_cka,
    score_histograms,
    token_gram,
)
from core.losses.crd import crd_loss
from core.losses.nst import nst_loss


def states(tokens: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, size)) + 0.5


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# ---- CKA


def unbiased_hsic(first: np.ndarray, second: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, on Gram matrices as they are: an independent way there."""
    n = len(first)
    k, m = first @ first.T, second @ second.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    trace, sums = np.trace(k @ m), k.sum() * m.sum() / ((n - 1) * (n - 2))
    return (trace + sums - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3))


@pytest.mark.parametrize("sizes", [(7, 12), (40, 3)])
def test_cka_is_the_ratio_of_unbiased_hsics(sizes):
    first, second = states(25, sizes[0]), states(25, sizes[1], 1)
    second[:, :2] += first[:, :2]
    expected = unbiased_hsic(first, second) / np.sqrt(
        unbiased_hsic(first, first) * unbiased_hsic(second, second)
    )
    assert linear_cka(first, second) == pytest.approx(expected, rel=1e-9)


def test_cka_of_states_with_themselves_is_one():
    assert linear_cka(states(30, 8), states(30, 8)) == pytest.approx(1)


def test_cka_does_not_see_rotation_scale_and_shift():
    first, second = states(50, 8), states(50, 8, 1) + states(50, 8)
    rotation = np.linalg.qr(states(8, 8, 2))[0]
    moved = 37.0 * second @ rotation + 5.0
    assert linear_cka(first, moved) == pytest.approx(linear_cka(first, second), rel=1e-9)
    stretched = second * np.array([20.0] + [1.0] * 7)  # no one scale: this it sees
    assert abs(linear_cka(first, stretched) - linear_cka(first, second)) > 0.05


def test_cka_of_unrelated_states_is_zero_even_with_more_channels_than_tokens():
    found = [linear_cka(states(60, 200, s), states(60, 200, 100 + s)) for s in range(20)]
    assert abs(np.mean(found)) < 0.02  # plain CKA would say about 0.77


def test_a_table_has_the_teacher_in_its_rows():
    layers = [states(20, 4, s) for s in range(3)]
    table = cka_table(layers[:2], layers)
    assert table.shape == (2, 3)
    assert table[1, 2] == pytest.approx(linear_cka(layers[1], layers[2]))
    assert np.allclose([table[0, 0], table[1, 1]], 1)


def test_constant_states_have_no_cka_and_other_shapes_are_refused():
    assert np.isnan(linear_cka(np.ones((10, 3)), states(10, 3)))
    with pytest.raises(ValueError, match="same tokens on both sides: 10, 11"):
        linear_cka(states(10, 3), states(11, 3))
    with pytest.raises(ValueError, match="4 or more tokens"):
        linear_cka(states(3, 3), states(3, 3))


# ---- Grams


def test_a_gram_worked_by_hand():
    # Channels (3, 4) and (0, 2) become (0.6, 0.8) and (0, 1).
    found = token_gram(np.array([[3.0, 0.0], [4.0, 2.0]]))
    assert np.allclose(found, [[0.18, 0.24], [0.24, 0.82]])
    assert np.trace(found) == pytest.approx(1)


def test_the_value_is_that_of_the_nst_loss():
    student, teacher = states(9, 16), states(9, 24, 1)
    pair = GramPair(token_gram(teacher), token_gram(student))
    mask = torch.ones(1, 9, dtype=torch.bool)
    loss = nst_loss(torch.tensor(student)[None], torch.tensor(teacher)[None], mask)
    assert pair.nst == pytest.approx(float(loss), rel=1e-5)
    assert GramPair(pair.teacher, pair.teacher).nst == 0


# ---- CRD scores


def test_scores_of_a_constructed_batch_fall_where_they_should():
    vectors = np.eye(4)
    ids = np.array([7, 7, 8, 9])
    found = score_histograms([(vectors, vectors, ids)], temperature=0.5, log_mean=0.0)
    # Own pairs: 1 / 0.5 − log 3; all others 0 − log 3.
    assert found.counts.tolist() == [4, 10, 2]
    assert found.accepted.tolist() == [1, 0, 0]
    assert found.ranked == 1
    assert np.allclose(found.shares.sum(axis=1), 1)
    for row, odds in enumerate([2 - np.log(3), -np.log(3), -np.log(3)]):
        (full,) = np.flatnonzero(found.shares[row])
        assert found.edges[full] - 1e-9 <= odds <= found.edges[full + 1] + 1e-9
    assert np.abs(found.edges).min() < 1e-9  # where the judgement turns lies a border


def test_a_student_that_knows_nothing_ranks_by_chance():
    batch = (unit(states(400, 64)), unit(states(400, 64, 1)), np.arange(400))
    assert score_histograms([batch], 0.07).ranked == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("log_mean", [None, 0.7])
def test_the_scores_are_those_that_the_loss_judges(log_mean):
    """Two tokens, four pairs: CRD's value from the odds that the histogram spans."""
    student = unit(states(2, 8))
    teacher = np.stack([student[0], student[0]])  # both anchors see one teacher vector twice
    found = score_histograms([(student, teacher, np.arange(2))], 0.3, log_mean)
    loss = crd_loss(
        torch.tensor(student)[None], torch.tensor(teacher)[None],
        torch.ones(1, 2, dtype=torch.bool), log_mean=log_mean, temperature=0.3,
    )  # fmt: skip
    scores = student @ teacher.T / 0.3
    log_mean = np.log(np.exp(scores).mean()) if log_mean is None else log_mean
    odds = scores - log_mean
    expected = np.log1p(np.exp(-odds.diagonal())) + np.log1p(np.exp(odds[[0, 1], [1, 0]]))
    assert float(loss) == pytest.approx(expected.mean(), rel=1e-5)
    assert found.edges[0] <= odds.min() and odds.max() <= found.edges[-1]
    assert found.accepted[0] == (odds.diagonal() > 0).mean()


def test_pairs_of_different_batches_are_never_made():
    batch = (unit(states(3, 4)), unit(states(3, 4, 1)), np.arange(3))
    assert score_histograms([batch, batch], 0.1).counts.tolist() == [6, 12, 0]


def test_a_single_token_has_no_scores():
    found = score_histograms([(np.eye(1), np.eye(1), np.zeros(1, int))], 0.1)
    assert found.counts.tolist() == [0, 0, 0] and np.isnan(found.ranked)
