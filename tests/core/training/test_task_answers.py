"""Answers: the best span by trying all, windows merged, classes of another task by name."""

from __future__ import annotations

import numpy as np
import pytest

from core.config import SettingsError
from core.data.task_rows import SpanRows
from core.models.tokenizer import load_tokenizer
from core.records import SpanItem
from core.training.task_answers import best_span, class_map, span_answers


def tried_one_by_one(values: np.ndarray, max_pieces: int):
    best = (-np.inf, 0, 0)
    for first in range(1, values.shape[1]):
        for last in range(first, min(first + max_pieces, values.shape[1])):
            best = max(best, (values[0, first] + values[1, last], first, last))
    return best


@pytest.mark.parametrize("seed", range(5))
def test_the_best_span_is_that_of_trying_all(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(2, 30)).astype(np.float32)
    values[:, 0] = 99  # no answer is no span
    values[:, 5:8] = -np.inf
    score, first, last = best_span(values, 6)
    wanted = tried_one_by_one(values, 6)
    assert (first, last) == wanted[1:] and score == pytest.approx(wanted[0])
    assert last - first < 6


def test_an_item_takes_its_best_window_and_its_lowest_no_answer():
    bert = load_tokenizer("bert")
    context = "Oslo lies in Norway. " * 8 + "Paris lies in France. " + "Rome lies in Italy. " * 8
    rows = SpanRows([SpanItem("0", "t", "where", context, (), {})], bert, 32, overlap=10)
    assert len(rows) > 3
    scores, wanted = [], ""
    for number, window in enumerate(rows.windows):
        length = rows.batch([number]).text.token_ids.shape[1]
        values = np.full((2, length), -5.0, np.float32)
        values[:, 0] = 2.0 + number  # no answer: 4, 6, 8, …
        values[:, rows.begin(window) + 3] = 0.5 * number
        wanted = rows.text(window, rows.begin(window) + 3, rows.begin(window) + 3)
        scores.append(values)
    (answer,) = span_answers(rows, scores, 30)
    assert answer.prediction == wanted  # the last window's
    np.testing.assert_allclose(answer.scores, [len(rows) - 1, 4.0])


def test_three_way_entailment_answers_a_two_way_task():
    three, two = ["entailment", "neutral", "contradiction"], ["entailment", "not_entailment"]
    to_two = class_map(three, two, "classification")
    assert [to_two(n) for n in range(3)] == [0, 1, 1]
    turned = class_map(two, ["not_entailment", "entailment"], "classification")
    assert [turned(n) for n in range(2)] == [1, 0]


def test_classes_without_a_name_in_the_other_task_are_refused():
    with pytest.raises(SettingsError, match="answers negative, positive; the task has entailment"):
        class_map(["negative", "positive"], ["entailment", "not_entailment"], "classification")
