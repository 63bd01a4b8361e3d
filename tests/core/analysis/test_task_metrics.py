"""The official figures: worked cases, the published algorithms written out, sklearn's numbers."""

from __future__ import annotations

import collections
import json
import re
import string

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from core.analysis import task_metrics

GOLD = [
    ["Denver Broncos", "The Denver Broncos!"],
    ["in the 10th century", "10th century"],
    [],
    ["France"],
    [],
    ["a", "the"],  # nothing is left of either: the only right answer is then the empty one
    ["gold anniversary", "gold-themed"],
]
FOUND = ["denver broncos", "the tenth century", "", "France and Spain", "Rollo", "", "gold themed"]
NO_ANSWER = [-3.0, 0.4, 1.5, -1.0, 0.4, 2.0, 0.1]


def random_classes(classes: int, seed: int, size: int = 400):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, size)
    return labels, np.where(rng.random(size) < 0.4, labels, rng.integers(0, classes, size))


# ---- classes


@pytest.mark.parametrize("classes", [2, 3])
def test_class_figures_equal_sklearns(classes):
    labels, found = random_classes(classes, classes)
    table = task_metrics.confusion(labels, found, classes)
    assert task_metrics.accuracy(table) == sklearn_metrics.accuracy_score(labels, found)
    wanted = sklearn_metrics.matthews_corrcoef(labels, found)
    assert task_metrics.matthews(table) == pytest.approx(wanted, abs=1e-12)
    wanted = sklearn_metrics.f1_score(labels == 1, found == 1)
    assert task_metrics.f1(table) == pytest.approx(wanted, abs=1e-12)


def test_many_confusion_matrices_at_once_give_what_each_gives_alone():
    tables = np.stack([task_metrics.confusion(*random_classes(3, s), 3) for s in range(4)])
    for figure in (task_metrics.accuracy, task_metrics.f1, task_metrics.matthews):
        np.testing.assert_allclose(figure(tables), [figure(table) for table in tables])


def test_one_answer_for_everything_has_no_correlation_and_no_f1():
    table = task_metrics.confusion([0, 1, 1, 0], [0, 0, 0, 0], 2)
    assert task_metrics.matthews(table) == 0 and task_metrics.f1(table) == 0


def test_a_number_that_is_no_class_is_named():
    with pytest.raises(ValueError, match="0 to 1, found 0 to 2"):
        task_metrics.confusion([0, 1], [2, 0], 2)


# ---- groups


def test_tracie_counts_a_story_only_when_all_its_hypotheses_are_right():
    right = [True, True, True, False, True]
    scores = task_metrics.tracie(
        right,
        ["start", "start", "end", "end", "start"],
        ["one", "one", "two", "two", "three"],
        ["a", "a", "b", "b", "c"],
    )
    assert (scores.overall, scores.start, scores.end) == (0.8, 1.0, 0.5)
    assert scores.story == pytest.approx(2 / 3) and scores.pair == pytest.approx(2 / 3)


def test_diagnostics_count_an_item_in_each_of_its_categories():
    labels, found = np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])
    rows = [("logic",), ("logic", "knowledge"), ("knowledge",), ("knowledge",)]
    logic, knowledge = reversed(task_metrics.by_category(labels, found, rows, 3))
    assert (logic.category, logic.items, logic.accuracy) == ("logic", 2, 1.0)
    assert (knowledge.category, knowledge.items) == ("knowledge", 3)
    wanted = sklearn_metrics.matthews_corrcoef(labels[1:], found[1:])
    assert knowledge.matthews == pytest.approx(wanted)


def test_two_class_diagnostics_say_that_r3_cannot_be_had():
    assert "R3 cannot be computed" in task_metrics.diagnostics_note(2)
    assert "cannot" not in task_metrics.diagnostics_note(3)


# ---- SQuAD, against the published algorithm written out step by step


def plain_normalise(text):
    text = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def plain_f1(gold, found):
    gold_words, found_words = plain_normalise(gold).split(), plain_normalise(found).split()
    if len(gold_words) == 0 or len(found_words) == 0:
        return int(gold_words == found_words)
    common = collections.Counter(gold_words) & collections.Counter(found_words)
    same = sum(common.values())
    if same == 0:
        return 0
    precision, recall = same / len(found_words), same / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def plain_squad(found, gold, no_answer, threshold):
    """The steps of the evaluation script v2.0 with dictionaries and loops, in per cent."""
    exact, overlap = {}, {}
    for number, answers in enumerate(gold):
        kept = [answer for answer in answers if plain_normalise(answer)]
        if not kept:
            kept = [""]
        exact[number] = max(int(plain_normalise(a) == plain_normalise(found[number])) for a in kept)
        overlap[number] = max(plain_f1(a, found[number]) for a in kept)
    has = {number: bool(answers) for number, answers in enumerate(gold)}
    result = {}
    for name, scores in (("exact", exact), ("f1", overlap)):
        now = {n: float(not has[n]) if no_answer[n] > threshold else s for n, s in scores.items()}
        result[name] = 100 * sum(now.values()) / len(now)
        for kind, wanted in (("HasAns", True), ("NoAns", False)):
            own = [s for n, s in now.items() if has[n] == wanted]
            result[f"{kind}_{name}"] = 100 * sum(own) / len(own)
        current = best = sum(1 for n in has if not has[n])
        place = 0.0
        for n in sorted(range(len(gold)), key=lambda n: no_answer[n]):
            current += scores[n] if has[n] else (-1 if found[n] else 0)
            if current > best:
                best, place = current, no_answer[n]
        result[f"best_{name}"], result[f"best_{name}_thresh"] = 100 * best / len(gold), place
    return result


def assert_equal_to_plain(found, gold, no_answer, threshold):
    scores = task_metrics.squad(found, gold, no_answer, threshold)
    plain = plain_squad(found, gold, no_answer, threshold)
    pairs = {
        "exact": scores.exact,
        "f1": scores.f1,
        "HasAns_exact": scores.has_answer_exact,
        "HasAns_f1": scores.has_answer_f1,
        "NoAns_exact": scores.no_answer_exact,
        "NoAns_f1": scores.no_answer_exact,
        "best_exact": scores.best_exact,
        "best_f1": scores.best_f1,
    }
    for name, value in pairs.items():
        assert 100 * value == pytest.approx(plain[name], abs=1e-9), name
    assert scores.best_exact_threshold == plain["best_exact_thresh"]
    assert scores.best_f1_threshold == plain["best_f1_thresh"]


@pytest.mark.parametrize("threshold", [-2.0, 0.0, 0.4, 9.0])
def test_squad_equals_the_published_algorithm_on_a_worked_set(threshold):
    assert_equal_to_plain(FOUND, GOLD, NO_ANSWER, threshold)


def test_squad_on_the_worked_set_is_what_a_hand_finds():
    """At threshold 0.3: right, empty (wrong), empty (right), half, empty (right), empty, right-ish."""
    scores = task_metrics.squad(FOUND, GOLD, np.array(NO_ANSWER), 0.3)
    # The sixth has golds, though nothing is left of them: left empty by threshold it counts 0.
    assert scores.exact == pytest.approx((1 + 0 + 1 + 0 + 1 + 0 + 0) / 7)
    # "france and spain" against "france": precision 1/3, recall 1, F1 1/2; "gold themed" against
    # "gold anniversary" 1/2, against "goldthemed" 0.
    assert scores.f1 == pytest.approx((1 + 0 + 1 + 0.5 + 1 + 0 + 0.5) / 7)


def test_squad_equals_the_published_algorithm_on_real_questions_and_made_up_answers(shared_data):
    content = json.loads((shared_data / "SQuAD" / "dev-v2.0.json").read_text())
    paragraphs = [p for article in content["data"] for p in article["paragraphs"]]
    rng = np.random.default_rng(0)
    found, gold = [], []
    for paragraph in paragraphs[:200]:
        words = paragraph["context"].split()
        for question in paragraph["qas"]:
            answers = [answer["text"] for answer in question["answers"]]
            start = int(rng.integers(0, len(words)))
            guess = " ".join(words[start : start + int(rng.integers(1, 6))])
            found.append(str(rng.choice([guess, "", *answers, *(f"the {a}," for a in answers)])))
            gold.append(answers)
    no_answer = np.round(rng.normal(size=len(gold)), 1)  # rounded: with many ties
    assert len(gold) > 900
    assert_equal_to_plain(found, gold, no_answer.tolist(), 0.0)


def test_without_no_answer_scores_predictions_count_as_they_are():
    scores = task_metrics.squad(FOUND, GOLD)
    exact, _ = task_metrics.raw_squad(FOUND, GOLD)
    assert scores.exact == exact.mean()
