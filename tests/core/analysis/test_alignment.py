import dataclasses

import numpy as np
import pytest

from core.analysis import alignment
from core.analysis.alignment import AlignmentError, fit_ridge, r_squared


def pairs(num_words=3000, noise=0.0, num_types=200, seed=0):
    """Teacher vectors that are a known linear map of the student's states, plus noise."""
    rng = np.random.default_rng(seed)
    true_weight = rng.standard_normal((24, 16))
    types = rng.integers(0, num_types, num_words)
    prototypes = rng.standard_normal((num_types, 24))
    states = prototypes[types] + 0.3 * rng.standard_normal((num_words, 24))
    vectors = states @ true_weight + 2.0 + noise * rng.standard_normal((num_words, 16))
    sentences = np.repeat(np.arange(num_words // 6), 6)
    return states, vectors, sentences, [f"w{t}" for t in types]


def test_a_linear_relation_is_recovered_exactly():
    states, vectors, sentences, words = pairs()
    fitted = fit_ridge(states, vectors, sentences, words)
    assert fitted.held_out_r2 == pytest.approx(1.0, abs=1e-6)
    assert fitted.word_type_r2 == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(states @ fitted.weight + fitted.bias, vectors, atol=1e-2)


def test_unrelated_states_explain_nothing():
    states, vectors, sentences, words = pairs()
    shuffled = np.random.default_rng(1).permutation(vectors)
    fitted = fit_ridge(states, shuffled, sentences, words)
    assert abs(fitted.held_out_r2) < 0.05


def test_noise_lowers_r2_to_the_share_that_is_signal():
    states, vectors, sentences, words = pairs(noise=0.0)
    noise = np.random.default_rng(2).standard_normal(vectors.shape) * vectors.std(0)
    fitted = fit_ridge(states, vectors + noise, sentences, words)
    assert fitted.held_out_r2 == pytest.approx(0.5, abs=0.04)


def test_memorised_words_do_not_pass_for_a_map():
    """Each word type has its own code: seen words are read off, new words are not."""
    rng = np.random.default_rng(0)
    types = rng.integers(0, 60, 3000)
    states = np.eye(60)[types] + 0.01 * rng.standard_normal((3000, 60))
    vectors = rng.standard_normal((60, 16))[types]
    sentences = np.repeat(np.arange(500), 6)
    fitted = fit_ridge(states, vectors, sentences, [str(t) for t in types])
    assert fitted.held_out_r2 > 0.95
    assert fitted.word_type_r2 < 0.1


def test_equal_sentences_fall_on_one_side():
    sentences = [f"s{i % 40}" for i in range(400)]
    part = alignment.split_sentences(sentences)
    for name in set(sentences):
        assert len({p for p, s in zip(part, sentences) if s == name}) == 1
    assert set(part) == {0, 1, 2}


def test_r_squared_by_hand():
    wanted = np.array([[0.0], [2.0]])
    assert r_squared(wanted, wanted) == 1.0
    assert r_squared(wanted, np.array([[1.0], [1.0]])) == 0.0  # the mean explains nothing
    assert r_squared(wanted, np.array([[0.0], [1.0]])) == pytest.approx(0.5)
    # weights 3:1 → mean 0.5, total 3·0.25 + 2.25 = 3, error 1
    weighted = r_squared(wanted, np.array([[0.0], [1.0]]), np.array([3.0, 1.0]))
    assert weighted == pytest.approx(2 / 3)


def test_too_few_sentences_are_refused():
    with pytest.raises(AlignmentError, match="at least 20 different sentences"):
        fit_ridge(np.ones((30, 4)), np.ones((30, 3)), ["a", "b", "c"] * 10, ["w"] * 30)


def test_saved_map_is_read_back_and_refused_for_other_weights(tmp_path):
    fitted = fit_ridge(*pairs(noise=1.0))
    made_from = {"student": "abc", "teacher": "def"}
    alignment.save_map(tmp_path / "alignment", fitted, made_from)
    again = alignment.load_map(tmp_path / "alignment", made_from, "python -m core embed")
    for field in dataclasses.fields(fitted):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(fitted, field.name))
    with pytest.raises(AlignmentError, match="other weights.*python -m core embed"):
        alignment.load_map(tmp_path / "alignment", {"student": "new"}, "python -m core embed")
    with pytest.raises(AlignmentError, match="No alignment at"):
        alignment.load_map(tmp_path / "nothing", made_from, "python -m core embed")


def test_vectors_of_a_map_are_unit_length():
    fitted = fit_ridge(*pairs(noise=1.0))
    vectors = fitted(np.random.default_rng(5).standard_normal((7, 24)))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
