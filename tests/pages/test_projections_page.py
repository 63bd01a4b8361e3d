"""The projections page without a browser: what it says, and what a link makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core.data import point_store
from core.data.saved_views import list_views
from tests.pages.test_pages import ROOT, words_on
from tests.point_samples import GROUPS, write_point_set

# The page links to others, which only an entry with a table of pages knows.
ENTRY = f"""
import streamlit as st
from pathlib import Path
pages = Path({str(ROOT / "pages")!r})
names = ["projections", "grounding", "probes"]
st.navigation([st.Page(pages / f"{{n}}.py", url_path=n, default=n == names[0]) for n in names]).run()
"""
RUNS = ("demo-teacher", "demo-nst-crd", "demo-text-only")


@pytest.fixture(scope="module")
def mapped(tiny_demo):
    """The tiny demo with a sample set in three models."""
    for number, run in enumerate(RUNS):
        write_point_set(run, kind="words", count=400, shift=float(number))
    return [write_point_set(run, shift=float(number)) for number, run in enumerate(RUNS)]


def open_page(**query: str) -> AppTest:
    test = AppTest.from_string(ENTRY, default_timeout=120)
    for key, value in query.items():
        test.query_params[key] = value
    return test.run()


def open_sample(**query):
    return open_page(source="sample", kind="tokens", **query)


def test_an_empty_home_names_the_command_that_makes_a_map(workspace):
    test = open_page()
    assert not test.exception and not test.error
    assert "python -m core project" in words_on(test)


@pytest.mark.parametrize("mode", ["map", "pair", "moved", "survival"])
def test_every_view_opens_without_a_fault(mapped, mode):
    test = open_sample(mode=mode)
    assert not test.exception and not test.error
    assert "nearest neighbours in the full space" in words_on(test)


@pytest.mark.parametrize("panel", ["table", "sentences", "neighbours"])
def test_a_linked_selection_is_the_direct_computation(mapped, panel):
    x, y = np.array(point_store.load_projection(mapped[0], "pca").coordinates).T
    test = open_sample(run=RUNS[0], select="box:0,9,-9,0.25", panel=panel)
    assert not test.exception and not test.error
    inside = int(((x >= 0) & (x <= 9) & (y >= -9) & (y <= 0.25)).sum())
    assert 0 < inside < len(mapped[0])
    assert f"{inside:,} points selected" in words_on(test)


def test_a_selection_outlives_another_colour(mapped):
    test = open_sample(select="match:duck")
    before = f"{len(mapped[0]) // GROUPS:,} points selected"
    assert before in words_on(test)
    test.selectbox(key="projections-color").set_value("pos").run()
    assert not test.exception and before in words_on(test)
    test.selectbox(key="projections-size").set_value("zipf").run()
    assert not test.exception and before in words_on(test)


def test_a_search_says_how_much_it_found_and_selects_it(mapped):
    test = open_sample()
    test.text_input(key="projections-search").set_value("glass").run()
    found = len(mapped[0]) // GROUPS
    assert f"The search marks {found:,} of" in words_on(test).replace("\\", "")
    test.button(key="select-found").click().run()
    assert f"{found:,} points selected" in words_on(test)


def test_neighbours_stand_model_beside_model_with_their_overlap(mapped):
    text = words_on(open_sample(point="3", panel="neighbours", run=RUNS[0]))
    assert all(run.replace("-", "\\-") in text for run in RUNS)
    assert text.count("Overlap@10") == 2


def test_sentences_mark_the_selected_word(mapped):
    text = words_on(open_sample(select="match:lamp", panel="sentences"))
    assert text.count(":green-background[**lamp**]") == 12


def test_the_survival_view_counts_each_word_once(mapped):
    test = open_sample(mode="survival", run=RUNS[0], other=RUNS[1])
    total = sum(int(metric.value.replace(",", "")) for metric in test.metric)
    assert total == GROUPS and "each averaged over its contexts" in words_on(test)
    assert "Too few of these words have a concreteness norm" in words_on(test)


def test_the_survival_of_words_is_held_against_their_concreteness(mapped):
    test = open_page(source="sample", kind="words", mode="survival", run=RUNS[1], other=RUNS[1])
    assert not test.exception and not test.error
    assert sum(int(metric.value) for metric in test.metric) == 400
    assert "Rank correlation of concreteness and change" in words_on(test)


def saved_names() -> list[str]:
    return [view.name for view in list_views("projections")]


def test_a_view_is_saved_and_opened_by_another_session(mapped):
    test = open_sample(select="match:duck", color="pos")
    test.text_input(key="view-name").set_value("ducks")
    next(b for b in test.button if "Save this view" in b.label).click().run()
    assert not test.exception and "ducks" in saved_names()
    other = open_page()
    other.button(key="open-ducks").click().run()
    assert f"{len(mapped[0]) // GROUPS:,} points selected" in words_on(other)
    assert other.selectbox(key="projections-color").value == "pos"
    other.button(key="delete-ducks").click().run()
    assert "ducks" not in saved_names()


def test_two_sessions_do_not_see_each_others_selection(mapped):
    one, other = open_sample(select="match:duck"), open_sample()
    assert "points selected" in words_on(one)
    assert "points selected" not in words_on(other.run())


def test_nonsense_in_the_address_falls_back(mapped):
    test = open_page(
        source="nowhere", kind="x", run="../x", method="y", mode="z", point="-7",
        color="nothing", select="box:nan,1;lasso:3;<b>", search="(", panel="q", size="text",
    )  # fmt: skip
    assert not test.exception and not test.error
