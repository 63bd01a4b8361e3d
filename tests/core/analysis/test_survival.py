"""Kept, lost and gained grounding, and how it goes with concreteness."""

import numpy as np
import pandas as pd
import pytest

from core.analysis.survival import by_word, concreteness_correlation, fate_counts, survival


@pytest.fixture
def words():
    return pd.DataFrame(
        {
            "word": ["ball", "idea", "glass", "of", "odd"],
            "teacher": [0.9, 0.8, 0.3, 0.1, np.nan],
            "student": [0.7, 0.2, 0.6, 0.2, 0.9],
            "concreteness": [5.0, 1.6, 4.8, 1.7, 3.0],
        }
    )


def test_each_word_has_its_fate_and_the_greatest_loss_comes_first(words):
    table = survival(words)
    assert dict(zip(table["word"], table["fate"])) == {
        "ball": "kept", "idea": "lost", "glass": "gained", "of": "never",
    }  # fmt: skip
    assert table["word"].tolist() == ["idea", "ball", "of", "glass"]
    assert fate_counts(table) == {"kept": 1, "lost": 1, "gained": 1, "never": 1}


def test_words_without_a_measure_are_left_out_and_rows_keep_their_number(words):
    table = survival(words)
    assert 4 not in table.index
    assert table.loc[2, "word"] == "glass"


def test_the_threshold_decides(words):
    assert fate_counts(survival(words, threshold=0.65)) == {
        "kept": 1, "lost": 1, "gained": 0, "never": 2,
    }  # fmt: skip


def test_the_correlation_equals_scipys_and_its_interval_holds_it():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    concrete = random.uniform(1, 5, 200)
    change = concrete + random.normal(scale=2, size=200)
    table = pd.DataFrame({"concreteness": concrete, "change": change})
    found = concreteness_correlation(table)
    assert found.rho == pytest.approx(spearmanr(concrete, change).statistic)
    assert found.interval.low < found.rho < found.interval.high
    assert found.interval.low > 0.3 and found.count == 200


def test_the_interval_covers_the_truth_as_often_as_it_says():
    covered = []
    truth = 6 / np.pi * np.arcsin(0.5 / 2)  # Spearman's of a normal pair with correlation 0.5
    for seed in range(200):
        pair = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 80)
        found = concreteness_correlation(
            pd.DataFrame({"concreteness": pair[:, 0], "change": pair[:, 1]})
        )
        covered.append(found.interval.low <= truth <= found.interval.high)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_too_few_or_equal_words_have_no_correlation():
    assert (
        concreteness_correlation(pd.DataFrame({"concreteness": [1, 2], "change": [0, 1]})) is None
    )
    flat = pd.DataFrame({"concreteness": np.arange(20.0), "change": np.zeros(20)})
    assert concreteness_correlation(flat) is None


def test_contexts_of_a_word_become_one_row_with_their_mean():
    contexts = pd.DataFrame(
        {
            "word": ["ball", "Ball", "of"],
            "teacher": [0.9, 0.5, 0.1],
            "student": [0.2, 0.4, 0.3],
            "concreteness": [5.0, 5.0, np.nan],
            "zipf": [4.0, 4.0, 7.0],
            "pos": ["noun", "noun", "adposition"],
        }
    )
    table = by_word(survival(contexts)).set_index("word")
    assert table.loc["ball", "teacher"] == pytest.approx(0.7)
    assert table.loc["ball", "change"] == pytest.approx(-0.4)
    assert table.loc["ball", "count"] == 2 and table.loc["ball", "fate"] == "lost"
    assert table["fate"].to_dict() == {"ball": "lost", "of": "never"}
