"""Layer probes: what is in the states is found, what is learned by heart is told apart."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from core.analysis.layer_probes import (
    Probe,
    block_ends,
    control_labels,
    first_word,
    online_code,
    probe_layers,
)

WORDS = [f"word{i}" for i in range(20)]


def made_up(seed: int = 0, count: int = 400):
    """Layers of noise, of the label, and of the first word; labels, words."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    words = rng.choice(WORDS, count)
    noise = rng.normal(size=(count, 24))
    known = noise + 3 * np.eye(24)[labels]
    by_word = noise + 6 * np.eye(24)[[WORDS.index(word) for word in words]]
    return np.stack([noise, known, by_word]), labels, words


@pytest.fixture(scope="module")
def probes():
    states, labels, words = made_up(0)
    asked, asked_labels, asked_words = made_up(1, 300)
    return probe_layers(
        states, labels, words, asked, asked_labels, asked_words, groups=np.arange(300)
    )


def test_the_label_is_read_where_it_is_and_nowhere_else(probes):
    noise, known, by_word = probes
    assert [p.layer for p in probes] == [0, 1, 2]
    assert known.accuracy > 0.95 and known.interval.low > 0.9
    assert noise.interval.low < 0.5 < noise.interval.high
    assert by_word.accuracy < 0.65


def test_learning_words_by_heart_shows_in_the_control_and_not_in_selectivity(probes):
    noise, known, by_word = probes
    assert by_word.control > 0.85 and by_word.selectivity < -0.3
    assert known.control < 0.75 and known.selectivity > 0.2


def test_labels_are_told_shorter_with_the_states_that_hold_them(probes):
    noise, known, by_word = probes
    assert known.compression > 2
    assert noise.compression < 1  # the probes of noise are sure of what is wrong
    assert by_word.control_code_length < 0.6 * by_word.uniform_length


def test_online_code_is_the_sum_of_its_blocks():
    states, labels, _ = made_up(2, 100)
    order = np.random.default_rng(5).permutation(100)
    x, y = states[1][order], labels[order]
    bits, start = 8 * 1.0, 8
    for end in (13, 25, 50, 100):
        mean, spread = x[:start].mean(axis=0), x[:start].std(axis=0) + 1e-6
        model = LogisticRegression(C=0.1, max_iter=1000).fit((x[:start] - mean) / spread, y[:start])
        shares = (model.predict_proba((x[start:end] - mean) / spread) + 1e-3) / 1.002
        bits -= np.log2(shares[np.arange(end - start), y[start:end]]).sum()
        start = end
    assert online_code(states[1], labels, 0.1, seed=5) == pytest.approx(bits)


def test_blocks_grow_to_the_whole():
    assert block_ends(100) == [8, 13, 25, 50, 100]
    assert block_ends(10_000)[:4] == [10, 20, 40, 80] and block_ends(10_000)[-1] == 10_000
    assert block_ends(5) == [5]


def test_a_class_that_a_probe_has_not_met_costs_bits_but_not_infinitely_many():
    states = np.random.default_rng(0).normal(size=(40, 4))
    labels = np.array([0] * 39 + [2])
    shares = Probe(states[:30], labels[:30], 0.1).probabilities(states[30:], np.array([0, 2]))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares[:, 1] > 0).all() and np.isfinite(online_code(states, labels, 0.1))


def test_a_word_has_one_control_class_in_both_sets():
    labels = np.array([0, 0, 0, 1])
    words = ["a", "b", "a", "c"] * 10
    control, asked = control_labels(np.tile(labels, 10), words, ["c", "a", "new"], seed=3)
    by_word = dict(zip(words, control))
    assert [by_word[word] for word in words] == control.tolist()
    assert asked[0] == by_word["c"] and asked[1] == by_word["a"]
    assert len(set(control)) == 2


def test_the_control_classes_have_the_labels_shares_though_few_words_are_common():
    rng = np.random.default_rng(0)
    words = rng.choice(["the", "a", "it", *WORDS], 2000, p=[0.35, 0.3, 0.15, *[0.01] * 20])
    labels = (rng.random(1000) < 0.3).astype(int)
    for seed in range(3):
        control, asked = control_labels(labels, words[:1000], words[1000:], seed)
        assert np.mean([*control, *asked]) == pytest.approx(labels.mean(), abs=0.06)
    drawn = [control_labels(labels, words[:1000], words[1000:], s)[0].tolist() for s in range(3)]
    assert drawn[0] != drawn[1] or drawn[1] != drawn[2]


def test_the_first_word_is_found_behind_punctuation():
    assert first_word("  'Tis so") == "tis" and first_word("...") == ""


def test_one_class_alone_is_refused():
    states, labels, words = made_up(0)
    with pytest.raises(ValueError, match="two classes"):
        probe_layers(states, labels * 0, words, states, labels, words, groups=words)
