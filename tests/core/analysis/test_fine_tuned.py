"""Seeds together: median, range, collapse, and intervals that know what hangs together."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from core.analysis import fine_tuned
from core.analysis.fine_tuned import TaskAnswers
from core.analysis.task_metrics import matthews


def made_up(gold, predictions, groups=None, metadata=None, kind="classification", **more):
    count = len(gold)
    table = pd.DataFrame(
        {
            "item_id": [str(i) for i in range(count)],
            "label": gold,
            "prediction": predictions,
            "scores": more.pop("scores", [[0.0, 1.0]] * count),
            "group": range(count) if groups is None else groups,
            "metadata": [json.dumps(m) for m in metadata or [{}] * count],
        }
    )
    about = {"run": "r-s0", "encoder": "e", "seed": 0, "task": "t", "split": "test"}
    about |= {"labels": ("no", "yes"), "template_prior": None, **more}
    return TaskAnswers(kind=kind, table=table, **about)


def seeds_of(*accuracies, count=200):
    """One experiment; each seed is right on its share of the items."""
    labels = np.arange(count) % 2
    group = []
    for seed, share in enumerate(accuracies):
        wrong = np.random.default_rng(seed).permutation(count)[: round(count * (1 - share))]
        predictions = labels.copy()
        predictions[wrong] = 1 - predictions[wrong]
        group.append(made_up(labels, predictions, run=f"t-e-s{seed}", seed=seed))
    return group


def summary_of(group):
    return fine_tuned.summary(group, [fine_tuned.figures(answers, 500) for answers in group])


def test_median_and_range_are_over_seeds_and_the_interval_over_the_middle_ones_items():
    group = seeds_of(0.9, 0.6, 0.8)
    summary = summary_of(group)
    assert (summary.median, summary.lowest, summary.highest) == (0.8, 0.6, 0.9)
    assert summary.experiment == "t-e" and summary.seeds == (0, 1, 2)
    middle = fine_tuned.figures(group[2], 500)["accuracy"]
    assert (summary.low, summary.high) == (middle.low, middle.high)
    assert summary.low < 0.8 < summary.high


def test_a_seed_of_one_answer_has_collapsed_and_one_at_the_majority_is_merely_no_better():
    labels = np.arange(200) % 2
    group = seeds_of(0.9, 0.5)
    group.append(made_up(labels, np.ones(200, int), run="t-e-s2", seed=2))
    summary = summary_of(group)
    assert (summary.collapsed, summary.no_better, summary.commonest) == (1, 2, 0.5)


@pytest.mark.parametrize(("others", "collapsed"), [(0, True), (2, True), (3, False), (60, False)])
def test_collapse_begins_at_99_per_cent(others, collapsed):
    assert fine_tuned.has_collapsed([1] * (200 - others) + [0] * others) == collapsed


def test_items_without_a_published_answer_do_not_count():
    answers = made_up([0, 1, -1, -1], [0, 0, 1, 1])
    assert fine_tuned.figures(answers, 100)["accuracy"].value == 0.5
    with pytest.raises(fine_tuned.NoAnswers, match="published label"):
        fine_tuned.figures(made_up([-1], [1]), 100)


def test_items_of_one_story_widen_the_interval():
    labels = np.zeros(200, int)
    predictions = np.repeat(np.arange(20) % 2, 10)  # whole stories right or wrong
    alone = fine_tuned.figures(made_up(labels, predictions), 1000)["accuracy"]
    stories = fine_tuned.figures(made_up(labels, predictions, np.repeat(np.arange(20), 10)), 1000)
    together = stories["accuracy"]
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_interval_of_a_correlation_is_that_of_resampling_items_one_by_one():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 150)
    predictions = np.where(rng.random(150) < 0.7, labels, 1 - labels)
    found = fine_tuned.class_figure(matthews, labels, predictions, range(150), 2, 4000)
    drawn = [rng.integers(0, 150, 150) for _ in range(4000)]
    plain = [np.corrcoef(labels[rows], predictions[rows])[0, 1] for rows in drawn]
    np.testing.assert_allclose(
        (found.low, found.high), np.quantile(plain, [0.025, 0.975]), atol=0.02
    )


def test_tracie_gets_its_own_figures():
    metadata = [
        {"point": point, "story": story, "pair": pair}
        for point, story, pair in (("start", "a", 1), ("start", "a", 1), ("end", "b", 2))
    ]
    answers = made_up([0, 1, 1], [0, 1, 0], groups=["a", "a", "b"], metadata=metadata)
    values = {name: f.value for name, f in fine_tuned.figures(answers, 50).items()}
    assert (values["start"], values["end"], values["story"], values["pair"]) == (1, 0, 0.5, 0.5)


def test_of_a_sample_no_story_is_judged_as_a_whole():
    metadata = [{"point": "start", "story": "a", "pair": 1}]
    whole, sampled = (made_up([1], [1], metadata=metadata, sampled=s) for s in (False, True))
    assert {"story", "pair"} <= set(fine_tuned.figures(whole, 50))
    assert set(fine_tuned.figures(sampled, 50)) == {"accuracy", "Matthews", "F1", "start"}


def test_spans_are_left_empty_where_no_answer_scores_higher():
    answers = made_up(
        [["cat"], [], ["dog"]],
        ["the cat", "bird", "dog"],
        kind="span",
        labels=(),
        scores=[[2.0, 1.0], [0.0, 3.0], [1.0, 3.0]],
    )
    assert fine_tuned.given_answers(answers).tolist() == ["the cat", "", ""]
    figures = fine_tuned.figures(answers, 50)
    assert figures["exact match"].value == pytest.approx(2 / 3)
    assert figures["unanswerable"].value == 1 and figures["answerable F1"].value == 0.5
    assert figures["best exact"].value == 1.0  # a threshold between 2 and 3 is right everywhere
    assert np.isnan(figures["best exact"].low)
    assert fine_tuned.commonest_share(answers) == pytest.approx(1 / 3)


def test_where_every_question_has_an_answer_none_is_left_empty():
    answers = made_up([["cat"]], ["cat"], kind="span", labels=(), scores=[[0.0, 9.0]], groups=["a"])
    assert fine_tuned.figures(answers, 50)["exact match"].value == 1


def test_categories_are_counted_by_medians_over_seeds_and_the_note_says_what_is_missing():
    rows = [{"categories": ["logic: Negation"]}, {"categories": []}]
    group = [made_up([0, 1], [p, 1], metadata=rows) for p in (0, 0, 1)]
    (category,) = fine_tuned.median_categories(group)
    assert category["category"] == "logic: Negation" and category["items"] == 1
    assert category["accuracy"] == 1


def test_an_experiment_is_the_runs_that_differ_in_their_seed():
    assert fine_tuned.experiment_of("sst2-minilm-s12") == "sst2-minilm"
    assert fine_tuned.experiment_of("sst2-minilm-slow") == "sst2-minilm-slow"
