"""What guessing, the commonest answer and the template alone would score."""

from __future__ import annotations

import numpy as np
import pytest

from core.analysis.baselines import GUESS, chance, majority, prior_rate, template_prior
from core.data.probe_tasks import load_items
from core.records import ProbeItem, TextItem


def item(template: str, label: int) -> TextItem:
    return TextItem("", "t", "text", "", label, {"template": template})


def test_chance_is_one_over_the_choices_of_each_item():
    items = [ProbeItem("", "t", "", ("a", "b"), 0), ProbeItem("", "t", "", tuple("abcd"), 0)]
    assert chance(items) == (1 / 2 + 1 / 4) / 2
    assert chance([item("x", 0)], num_labels=3) == pytest.approx(1 / 3)


def test_majority_is_the_share_of_the_commonest_label():
    assert majority([0, 1, 1, 2]) == 0.5
    with pytest.raises(ValueError, match="at least one label"):
        majority([])


def test_a_template_answers_with_its_own_commonest_label_and_guesses_where_labels_tie():
    train = [item("a", 1), item("a", 1), item("a", 0), item("b", 0), item("b", 1)]
    asked = [item("a", 1), item("a", 0), item("b", 1), item("new", 1)]
    assert template_prior(train, asked).tolist() == [1, 1, GUESS, GUESS]
    assert prior_rate(train, asked) == (1 + 0 + 0.5 + 0.5) / 4
    with pytest.raises(ValueError, match="has no template"):
        template_prior([TextItem("i", "t", "text", "", 0)], asked)


@pytest.mark.parametrize(
    "name, form, wanted",
    [
        ("tracie-iid", "classification", 64.1),
        ("tracie-iid", "choice", 64.1),
        ("tracie-uniform", "classification", 50.0),
        ("tracie-uniform", "choice", 50.0),
    ],
)
def test_tracie_leaks_its_answers_through_templates_in_the_iid_split_only(
    shared_data, name, form, wanted
):
    train, test = (load_items(name, split, form, shared_data) for split in ("train", "test"))
    assert round(100 * prior_rate(train, test), 1) == wanted


def test_the_template_of_a_forced_choice_does_not_hold_its_answer(shared_data):
    items = load_items("tracie-iid", "test", "choice", shared_data)
    templates = np.array([i.metadata["template"] for i in items])
    labels = np.array([i.label for i in items])
    assert set(templates) == {"starts", "ends"}
    assert all(0 < labels[templates == t].mean() < 1 for t in set(templates))
