"""The plain functions behind the probing lab."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from app import charts
from app.probe_gains import times
from app.probe_item import changed_words, margin, signed
from app.probe_items import parted, text_mask, third
from app.probe_lab import Wish
from app.probe_scores import lines_text, verdict
from core.records import ProbeItem

WISH = Wish("piqa", ("demo-teacher", "--help"), "PLL", "char", 100, "/data")


def test_a_run_is_asked_for_in_words_that_are_no_options():
    assert WISH.command() == [
        "probe", "--task=piqa", "--models=demo-teacher", "--models=--help", "--method=PLL",
        "--norm=char", "--limit=100", "--data=/data",
    ]  # fmt: skip


def test_the_norm_needs_no_other_run_and_another_task_does():
    def job(**changes) -> str:
        return Wish(**{**WISH.__dict__, **changes}).job

    assert job(norm="sum") == WISH.job
    assert (
        len({WISH.job, job(task="swag"), job(limit=0), job(data=""), job(method="PLL-word-l2r")})
        == 5
    )
    assert WISH.job.replace("-", "").isalnum()  # it names a file


def test_a_link_tells_nothing_of_where_the_data_lie():
    assert "/data" not in json.dumps(WISH.query())
    assert WISH.query()["models"] == ["demo-teacher", "--help"]


def items(*texts: str) -> list[ProbeItem]:
    return [
        ProbeItem(str(n), "t", text, ("it sinks.", "it floats."), 0) for n, text in enumerate(texts)
    ]


def test_search_wants_all_words_and_commas_part_alternatives():
    found = items("The ball bounces", "The balloon rises", "A football")
    assert text_mask(found, "").all() and text_mask(found, " , ").all()
    assert text_mask(found, "ball BOUNCE").tolist() == [True, False, False]
    assert text_mask(found, "ball").tolist() == [True, True, False]  # as words begin
    assert text_mask(found, "bounce, rises").tolist() == [True, True, False]
    assert text_mask(found, "sinks").all() and not text_mask(found, "(").any()


def test_thirds_part_the_known_values():
    values = np.array([1.0, 2, 3, 4, 5, 6, np.nan])
    parts = [third(values, name) for name in ("low", "middle", "high")]
    assert [part.sum() for part in parts] == [2, 2, 2]
    assert not np.any(np.stack(parts)[:, -1]) and third(values, "any").all()
    assert third(np.full(3, np.nan), "low").all()


def test_texts_that_begin_alike_are_shown_from_where_they_part():
    one, other = parted("he slept long before she ate", "he slept long after she ate")
    assert (one, other) == ("he slept long before she ate", "he slept long after she ate")
    one, other = parted("he slept very long before she ate", "he slept very long after she ate")
    assert (one, other) == ("… long before she ate", "… long after she ate")
    assert parted("a b c d", "a b c d e") == ("a b c d", "a b c d e")


def pair(difference: float, p: float, detectable: float = 0.03) -> dict:
    return {
        "one": "a", "other": "b", "difference": difference, "low": difference - 0.02,
        "high": difference + 0.02, "p_holm": p, "detectable": detectable,
    }  # fmt: skip


def test_the_verdict_names_the_better_one_whichever_comes_first():
    worse = verdict(pd.DataFrame([pair(-0.05, 0.0001)]))
    assert worse.startswith("**b** is right more often than **a**: by 5.0 points (3.0 to 7.0;")
    assert "p < 0.001" in worse
    assert verdict(pd.DataFrame([pair(0.05, 0.01)])).startswith("**a** is right more often")


def test_no_difference_says_what_could_have_been_found():
    said = verdict(pd.DataFrame([pair(0.01, 0.5), pair(0.01, 0.5, 0.041)]))
    assert "No clear difference" in said and "4.1 points" in said
    assert "too seldom" in verdict(pd.DataFrame([pair(0.0, 1.0, np.nan)]))


def test_lines_leave_out_what_is_not_known():
    table = pd.DataFrame([{"chance": 0.5, "majority": 0.632, "template": np.nan}])
    assert "63.2 %" in lines_text(table) and "template" not in lines_text(table)


def test_margins_and_factors_as_they_are_read():
    assert margin(np.array([-2.0, -5.0, -3.0]), 0) == pytest.approx(1.0)
    assert (signed(1.0), signed(-0.5)) == ("+1.00", "−0.50")
    assert [times(v) for v in (0.001, 0.5, 26.7, 5000)] == [
        "less than 0.01",
        "0.50",
        "27",
        "over 1,000",
    ]


def test_changed_words_are_new_ones_then_those_that_point_otherwise():
    before = [("the", 0.1, "x"), ("glass", 0.9, "x"), ("falls", 0.5, "x")]
    now = [("the", 0.1, "x"), ("metal", 0.8, "y"), ("falls", 0.4, "x")]
    rows = changed_words(now, before)
    assert [row["word"] for row in rows] == ["metal", "glass", "falls"]
    assert rows[0]["strength before"] is None and rows[1]["strength now"] is None
    assert changed_words(before, before) == []


def test_a_forest_has_a_point_for_each_model_and_a_line_for_each_known_level():
    rows = [{"model": "<b>m</b>", "accuracy": 0.6, "low": 0.5, "high": 0.7}]
    figure = charts.forest(rows, {"guessing": 0.5, "by template": float("nan")})
    assert [trace.name for trace in figure.data] == [None, "guessing"]
    assert figure.layout.annotations[0].text == "&lt;b&gt;m&lt;/b&gt;"
    assert figure.layout.xaxis.range[0] < 0.5 and figure.layout.xaxis.range[1] > 0.7


def test_gains_are_drawn_with_their_intervals():
    bands = [
        {"band": name, "from": 1.0, "to": 2.0, "n": 9, "gain": g, "low": g - 0.1, "high": g + 0.2}
        for name, g in (("least", 0.0), ("most", 0.1))
    ]
    points = charts.gains_chart(bands, "a", "b").data[0]
    assert list(points.y) == [0.0, 0.1]
    assert list(points.error_y.array) == pytest.approx([0.2, 0.2])
