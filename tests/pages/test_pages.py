"""Every page over the tiny demo and over an empty home, without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ["home", "grounding", "library", "runs"]


def open_page(name: str, **query: str) -> AppTest:
    test = AppTest.from_file(ROOT / "pages" / f"{name}.py", default_timeout=120)
    for key, value in query.items():
        test.query_params[key] = value
    return test.run()


def open_app() -> AppTest:
    return AppTest.from_file(ROOT / "app" / "main.py", default_timeout=120).run()


def words_on(test: AppTest) -> str:
    parts = [*test.markdown, *test.caption, *test.info, *test.error, *test.subheader, *test.title]
    return "\n".join(str(part.value) for part in parts)


@pytest.mark.parametrize("name", NAMES[1:])
def test_an_empty_home_names_what_fills_it(workspace, name):
    test = open_page(name)
    assert not test.exception and not test.error
    text = words_on(test) + " ".join(str(tab.label) for tab in test.tabs)
    assert "python -m core" in text or "A folder" in text


def test_home_without_anything_loaded_says_how_to_begin(workspace):
    test = open_app()
    assert not test.exception and "python -m core demo" in words_on(test)


@pytest.mark.parametrize("name", NAMES[1:])
def test_pages_open_on_the_demo_without_a_fault(tiny_demo, name):
    test = open_page(name)
    assert not test.exception and not test.error


def test_home_offers_three_examples(tiny_demo):
    test = open_app()
    assert not test.exception and not test.error
    assert "Three sentences to begin with" in words_on(test)


def test_a_student_is_shown_with_both_figures_of_its_map(tiny_demo):
    test = open_page("grounding", library="demo", model="demo-teacher", compare="demo-nst")
    assert not test.exception and not test.error
    note = next(c.value for c in test.caption if "is a student" in c.value)
    assert "ridge map" in note and "on new sentences" in note and "never saw" in note


def test_the_microscope_is_closed_until_asked_for_and_absent_for_teachers(tiny_demo):
    closed = open_page("runs", run="demo-nst-crd")
    assert "Distillation microscope" in words_on(closed)
    assert "CKA" not in words_on(closed) and not closed.select_slider
    assert "Distillation microscope" not in words_on(open_page("runs", run="demo-teacher"))


def test_the_microscope_shows_a_student_at_every_stage(tiny_demo):
    test = open_page("runs", run="demo-nst-crd", microscope="true")
    assert not test.exception and not test.error
    slider = test.select_slider[0]
    assert slider.options[:2] == ["0, untrained", "30"] and "final" in slider.options[-1]
    text = words_on(test)
    assert "through its NST head" in text and "taken for one token" in text
    assert "logged no gradient norms" not in text
    assert "did not keep the border" not in text
    test = slider.set_value(0).run()
    assert not test.exception and not test.error
    assert words_on(test) != text


def test_the_microscope_says_what_a_text_only_student_has_not(tiny_demo):
    test = open_page("runs", run="demo-text-only", microscope="true")
    assert not test.exception and not test.error
    text = words_on(test)
    assert "learned without CRD" in text and "did not learn NST" in text
    test = test.text_input(key="microscope-sentence").set_value(" ").run()
    assert not test.exception and not test.error


def test_a_student_whose_teacher_is_gone_says_so_once(tiny_demo):
    teacher, away = tiny_demo / "runs/demo-teacher", tiny_demo / "away"
    teacher.rename(away)
    try:
        test = open_page("runs", run="demo-nst", microscope="true")
        assert not test.exception
        assert [error.value.startswith("No run") for error in test.error] == [True]
    finally:
        away.rename(teacher)


def test_a_sentence_without_words_is_no_fault(tiny_demo):
    test = open_page("grounding", library="demo", sentence="?!")
    assert not test.exception
    assert "There is no word in this sentence." in words_on(test)


def test_nonsense_in_the_address_falls_back(tiny_demo):
    test = open_page(
        "grounding", library="nowhere", model="x", token="99", video="../etc", at="nan"
    )
    assert not test.exception and not test.error


def test_an_unembedded_library_names_the_command_and_offers_to_run_it(tiny_demo):
    from core.config import ImportSettings
    from core.data.video_library import delete_library, import_library, load_library

    import_library([load_library("demo").videos[0].path], ImportSettings(name="bare", workers=1))
    try:
        test = open_page("grounding", library="bare")
        assert not test.exception
        assert "python -m core extract" in test.error[0].value
        assert [b.label for b in test.button] == ["Compute it now"]
    finally:
        delete_library("bare")
