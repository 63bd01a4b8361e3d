"""Answers worked by hand, and worlds in which the truth about a slice is known."""

from __future__ import annotations

import numpy as np
import pytest

from core.analysis import probes, statistics
from core.records import ProbeItem, Token
from core.scoring import TextScore


def item(number: int, label: int = 0, choices=("it sinks.", "it floats."), **metadata) -> ProbeItem:
    return ProbeItem(f"item-{number}", "task", "The stone falls and", choices, label, metadata)


def score(text: str, *log_probs: float) -> TextScore:
    pieces = tuple(
        Token(word, 0, len(word), is_word=False) for word in text.split()[: len(log_probs)]
    )
    return TextScore(float(sum(log_probs)), pieces, np.array(log_probs))


def answered(right: np.ndarray, model: str, margins: np.ndarray | None = None) -> probes.Answers:
    """Answers by what is right, for items whose first choice is right."""
    margins = np.where(right, 1.0, -1.0) if margins is None else margins
    return probes.Answers(
        model, "task", "PLL", "sum", tuple(f"item-{n}" for n in range(len(right))),
        [np.array([m, 0.0]) for m in margins], np.where(right, 0, 1), np.asarray(right), margins,
    )  # fmt: skip


def rights(*cells: tuple[int, bool]) -> np.ndarray:
    return np.concatenate([np.full(size, value) for size, value in cells])


def test_answers_by_hand_and_by_norm():
    items = [item(0), item(1, label=1), item(2)]
    scored = [
        (score("it sinks.", -1.0, -1.0), score("it floats.", -3.0)),  # by the token it turns
        (score("it sinks.", -1.0), score("it floats.", -4.0)),
        (score("it sinks.", -2.0), score("it floats.", -2.0)),
    ]
    found = probes.answers("m", items, scored)
    assert found.margin == pytest.approx([1.0, -3.0, 0.0])
    assert found.right.tolist() == [True, False, False]  # a tie is not right
    assert found.choice.tolist()[:2] == [0, 0] and found.task == "task"
    # Per character: −2/9 against −3/10.
    by_char = probes.answers("m", items, scored, "char")
    assert by_char.margin[0] == pytest.approx(-2 / 9 + 3 / 10)


def test_answers_refuse_items_without_a_truth_and_scores_that_do_not_fit():
    scored = [(score("a", -1.0), score("b", -2.0))]
    with pytest.raises(ValueError, match="item-0"):
        probes.answers("m", [item(0, label=None)], scored)
    with pytest.raises(ValueError, match="2 items"):
        probes.answers("m", [item(0), item(1)], scored)


def test_score_table_on_the_whole_and_on_a_slice():
    items = [item(n, label=int(n < 3)) for n in range(10)]
    right = rights((8, True), (2, False))
    table = probes.score_table(items, [answered(right, "a"), answered(~right, "b")])
    first = table.iloc[0]
    assert first["accuracy"] == pytest.approx(0.8) and table.iloc[1]["accuracy"] == pytest.approx(
        0.2
    )
    wilson = statistics.rate_interval(8, 10)
    assert (first["low"], first["high"]) == pytest.approx((wilson.low, wilson.high))
    assert (first["chance"], first["majority"]) == pytest.approx((0.5, 0.7))
    assert np.isnan(first["template"])
    part = probes.score_table(items, [answered(right, "a")], np.arange(10) >= 6, template=right)
    assert part.iloc[0][["n", "accuracy", "majority", "template"]].tolist() == [4, 0.5, 1.0, 0.5]
    with pytest.raises(ValueError, match="empty slice"):
        probes.score_table(items, [answered(right, "a")], np.zeros(10, bool))


def test_blocks_of_items_widen_the_interval():
    right = np.repeat(np.arange(20) % 2 == 0, 10)
    alone = [item(n) for n in range(200)]
    together = [item(n, block=n // 10) for n in range(200)]
    narrow = probes.score_table(alone, [answered(right, "a")]).iloc[0]
    wide = probes.score_table(together, [answered(right, "a")]).iloc[0]
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_all_right_is_no_certainty():
    items = [item(n, block=n // 10) for n in range(50)]
    row = probes.score_table(items, [answered(np.ones(50, bool), "a")]).iloc[0]
    assert row["low"] == pytest.approx(statistics.rate_interval(5, 5).low) and row["high"] == 1.0


def test_paired_table_tests_every_pair_and_corrects_over_them():
    items = [item(n) for n in range(100)]
    one = rights((60, True), (40, False))
    two = rights((40, True), (60, False))
    three = rights((38, True), (22, False), (20, True), (20, False))
    table = probes.paired_table(items, [answered(r, m) for r, m in zip((one, two, three), "abc")])
    assert list(zip(table["one"], table["other"])) == [("a", "b"), ("a", "c"), ("b", "c")]
    first = table.iloc[0]
    assert (first["only_one"], first["only_other"]) == (20, 0)
    assert first["p"] == first["p_mcnemar"] == pytest.approx(2 * 0.5**20)
    assert table["p_holm"].tolist() == pytest.approx(statistics.holm(table["p"].tolist()))
    assert first["detectable"] == pytest.approx(statistics.minimum_detectable_effect(100, 0.2))
    assert len(probes.paired_table(items, [answered(one, "a")])) == 0


def test_copies_of_items_find_no_smaller_difference():
    one = rights((60, True), (40, False))
    two = rights((50, True), (25, False), (25, True))
    once = probes.paired_table(
        [item(n) for n in range(100)], [answered(one, "a"), answered(two, "b")]
    ).iloc[0]
    copied = probes.paired_table(
        [item(n, block=n // 10) for n in range(1000)],
        [answered(np.repeat(one, 10), "a"), answered(np.repeat(two, 10), "b")],
    ).iloc[0]
    assert copied["p_mcnemar"] < once["p_mcnemar"] / 10
    assert copied["p"] == copied["p_bootstrap"] == pytest.approx(once["p_bootstrap"], abs=0.02)
    assert copied["detectable"] == pytest.approx(once["detectable"], abs=0.002)


def test_disagreements_are_the_items_that_models_answer_differently():
    items = [item(n, label=1) for n in range(4)]
    one = answered(np.array([True, True, False, False]), "a")
    two = answered(np.array([True, False, True, False]), "b")
    whole = probes.item_table(items, [one, two])
    assert len(whole) == 4 and whole["right text"].tolist() == ["it floats."] * 4
    assert whole["wrong text"].tolist() == ["it sinks."] * 4
    assert whole["length"].tolist() == [6] * 4 and whole["concreteness"].between(1, 5).all()
    found = probes.disagreements(items, [one, two])
    assert found["item"].tolist() == ["item-1", "item-2"]
    assert found["right: a"].tolist() == [True, False]
    assert probes.outcome(one, two).tolist() == [2, 0, 1, 3]


def concrete_world(seed: int = 0, slope: float = 1.5):
    """The first model wins where items are concrete, the second where they are not."""
    generator = np.random.default_rng(seed)
    values = generator.uniform(1, 5, 600)
    first = generator.random(600) < 1 / (1 + np.exp(-slope * (values - 3)))
    one, other = first.copy(), ~first
    same = generator.random(600) < 0.5
    one[same] = other[same] = True
    return values, answered(one, "a"), answered(other, "b")


def test_a_gain_on_concrete_items_is_found_and_its_slope_is_right():
    values, one, other = concrete_world()
    found = probes.concreteness_gains([item(n) for n in range(600)], one, other, values)
    assert found.bands["gain"].is_monotonic_increasing and found.bands["n"].tolist() == [200] * 3
    assert found.bands["high"].iloc[0] < 0 < found.bands["low"].iloc[2]
    assert found.slope.p < 1e-6 and found.slope.interval.low < 1.5 < found.slope.interval.high
    assert found.rank_correlation > 0.3


def test_the_slope_is_seldom_found_where_there_is_none():
    items = [item(n) for n in range(600)]
    p = [
        probes.concreteness_gains(items, one, other, values).slope.p
        for values, one, other in (concrete_world(seed, slope=0.0) for seed in range(60))
    ]
    assert np.mean(np.array(p) < 0.05) < 0.15


def test_too_little_to_judge_a_slope_by_is_said_so():
    items = [item(n) for n in range(6)]
    one, other = answered(np.ones(6, bool), "a"), answered(np.zeros(6, bool), "b")
    found = probes.concreteness_gains(items, one, other, np.array([1, 2, 3, 4, np.nan, 5]))
    assert np.isnan(found.slope.p) and found.count == 5
    nothing = probes.concreteness_gains(items, one, other, np.full(6, np.nan))
    assert nothing.count == 0 and nothing.bands.empty


def test_norm_flips_by_hand():
    items = [item(0), item(1, choices=("it sinks.", "off."))]
    scored = [
        (score("it sinks.", -1.0, -1.0), score("it floats.", -1.5)),  # sum: second; token: first
        (score("it sinks.", -1.0, -1.0), score("off.", -3.0)),  # the first by all norms
    ]
    table = probes.norm_flips(items, scored).set_index(["one", "other"])
    assert table.loc[("sum", "token"), "flips"] == 1
    assert table.loc[("sum", "token"), "share"] == 0.5
    assert table.loc[("sum", "token"), "accuracy_one"] == 0.5
    assert table.loc[("sum", "token"), "accuracy_other"] == 1.0
