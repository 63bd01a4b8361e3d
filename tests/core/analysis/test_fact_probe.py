"""The fact probe on states whose content is known."""

from __future__ import annotations

import numpy as np
import pytest

from core.analysis.fact_probe import held_out_rates, probe_facts, ridge_scores

OUTCOMES = {s: o for o, names in {"up": "abcd", "down": "efgh"}.items() for s in names}


def made(knows: float, seed: int, size: int = 24, each: int = 10):
    """States: a direction per subject, the outcome's direction times `knows`, and noise."""
    rng = np.random.default_rng(seed)
    words = {s: rng.normal(size=size) for s in OUTCOMES}
    outcome = {o: rng.normal(size=size) for o in ("up", "down")}
    subjects = np.repeat([*OUTCOMES], each)
    states = np.stack([words[s] + knows * outcome[OUTCOMES[s]] for s in subjects])
    return states + 0.3 * rng.normal(size=states.shape), subjects


def probe(knows, seed=0):
    states, subjects = made(knows, seed)
    outcomes = [OUTCOMES[s] for s in subjects]
    return probe_facts(states, ["move"] * len(subjects), subjects, outcomes, bootstrap=200)


def test_states_that_carry_the_outcome_are_read_on_subjects_never_seen():
    found = probe(knows=3.0)
    assert found.accuracy > 0.95
    assert found.selectivity > 0.35
    assert found.chance == 0.5
    assert found.families["move"] == (found.accuracy, found.control)


def test_words_without_the_fact_stay_at_chance():
    """Any labelling of the words could be learned by heart; none carries over to others."""
    found = np.mean([probe(knows=0.0, seed=seed).accuracy for seed in range(8)])
    assert found == pytest.approx(0.5, abs=0.15)


def test_every_subject_is_held_out():
    states, subjects = made(3.0, 0)
    assert set(held_out_rates(states, subjects, OUTCOMES)) == set(OUTCOMES)


def test_a_single_subject_of_an_outcome_cannot_be_held_out():
    states, subjects = made(3.0, 0)
    with pytest.raises(ValueError, match="two subjects"):
        held_out_rates(states, subjects, {**OUTCOMES, "a": "sideways"})


@pytest.mark.parametrize("rows", [10, 60])  # fewer and more than dimensions: both forms
def test_ridge_agrees_with_sklearn(rows):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, y, asked = rng.normal(size=(rows, 20)), rng.normal(size=(rows, 3)), rng.normal(size=(5, 20))
    mean, spread = x.mean(0), x.std(0) + 1e-6
    model = Ridge(alpha=rows).fit((x - mean) / spread, y)
    np.testing.assert_allclose(
        ridge_scores(x, y, asked), model.predict((asked - mean) / spread), atol=1e-8
    )
