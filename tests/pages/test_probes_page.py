"""The probing lab over the tiny demo and over an empty home, without a browser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app import jobs
from core.data.probe_tasks import load_items

ROOT = Path(__file__).resolve().parent.parent.parent
# A page that links to another one runs only where both are known.
SCRIPT = """
import streamlit as st

pages = {pages!r}
st.navigation([st.Page(path, default=path.endswith("probes.py")) for path in pages]).run()
"""
FIELDS = "text-demo_physics-{item}-{part}"


def open_lab(**query: str) -> AppTest:
    pages = [str(ROOT / "pages" / f"{name}.py") for name in ("probes", "grounding")]
    test = AppTest.from_string(SCRIPT.format(pages=pages), default_timeout=120)
    for key, value in query.items():
        test.query_params[key] = value
    return test.run()


def words_on(test: AppTest) -> str:
    parts = [*test.markdown, *test.caption, *test.info, *test.error, *test.subheader, *test.title]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")  # letter for letter


def opened_lab(**query: str) -> AppTest:
    test = open_lab(**query)
    assert not test.exception and not test.error
    return test


def field(test: AppTest, item: str, part) -> object:
    return test.text_input(key=FIELDS.format(item=item, part=part))


def test_an_empty_home_names_what_fills_it(workspace):
    test = opened_lab()
    assert "python -m core demo" in words_on(test)


def test_the_demo_is_there_without_a_click(tiny_demo, monkeypatch):
    monkeypatch.setattr(jobs, "start", lambda *_: pytest.fail("scores were made anew"))
    test = opened_lab()
    assert test.multiselect(key="models").value[0] == "demo-teacher"
    assert "demo-text-only" in test.multiselect(key="models").value
    scores = test.dataframe[0].value
    assert len(scores) == 3 and scores["right, %"].between(0, 100).all()
    assert (scores["from"] <= scores["right, %"]).all()
    assert "Without a model: guessing 50.0 %" in words_on(test)
    assert [b.label for b in test.button if b.label in ("Run", "Go on")] == []


def test_a_rerun_computes_nothing_again(tiny_demo, monkeypatch):
    from core.analysis import probes, statistics

    test = opened_lab(view="norms")
    for module, name in ((probes, "answers"), (statistics, "paired_bootstrap")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("computed again"))
    assert not test.run().exception
    assert not opened_lab(view="norms").exception  # another session


def test_missing_data_names_the_setting_and_takes_a_folder(tiny_demo, monkeypatch, tmp_path):
    monkeypatch.delenv("VIDLANKD_DATA", raising=False)
    test = opened_lab(task="piqa")
    assert "VIDLANKD_DATA" in words_on(test) and "--data FOLDER" in words_on(test)
    (tmp_path / "PIQA").mkdir()
    row = {"goal": "Dry a cup", "sol1": "Use a towel.", "sol2": "Use a stone."}
    (tmp_path / "PIQA" / "valid.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "PIQA" / "valid-labels.lst").write_text("0\n")
    test = test.text_input(key="data-folder").set_value(str(tmp_path)).run()
    assert not test.exception and not test.error
    assert "Run" in [button.label for button in test.button]
    test = test.run().run()  # it stays when the field is gone
    assert f"Files from {tmp_path}" in words_on(test)
    other = next(button for button in test.button if button.label == "Another folder")
    assert "VIDLANKD_DATA" in words_on(other.click().run())


def test_a_run_is_asked_for_and_not_begun_where_it_takes_long(tiny_demo, monkeypatch):
    started = []
    monkeypatch.setattr(jobs, "start", lambda *given: started.append(given))
    test = opened_lab(task="demo_time", method="PLL", limit="100")
    assert started == []
    test.button(key="run-probe").click().run()
    (_, _, [command]), *_ = started
    assert command[:2] == ["probe", "--task=demo_time"]
    assert "--method=PLL" in command and "--limit=100" in command


def test_an_edit_changes_scores_and_keeps_the_original(tiny_demo):
    item = load_items("demo_physics")[1]
    test = opened_lab(item=item.item_id)
    assert field(test, item.item_id, "context").value == item.context
    before = words_on(test)
    edited = item.context.replace("the", "a", 1) + " Again"
    test = field(test, item.item_id, "context").set_value(edited).run()
    assert not test.exception and not test.error
    after = words_on(test)
    assert after != before and "Originally:" in after and "; it was " in after
    assert test.query_params["context"] in (edited, [edited])
    again = opened_lab(item=item.item_id, context=edited)
    assert field(again, item.item_id, "context").value == edited
    back = next(button for button in test.button if button.label == "Back to the original")
    test = back.click().run()
    assert "Originally:" not in words_on(test) and "context" not in test.query_params
    assert field(test, item.item_id, "context").value == item.context


def test_an_item_that_was_scored_needs_no_model(tiny_demo, monkeypatch):
    from app import resources

    item = load_items("demo_physics")[2]
    monkeypatch.setattr(resources, "encoder", lambda name: pytest.fail("a model was opened"))
    found = resources.live_scores("demo-crd", "PLL-word-l2r", item.context, item.choices)
    assert len(found) == 2


def test_an_item_of_ones_own_is_scored(tiny_demo):
    test = opened_lab(view="own")
    test = test.text_input(key="text--own-0").set_value("it *sings* <b>loudly</b>.").run()
    assert not test.exception and not test.error
    assert "chooses" in words_on(test) and "<b>" not in words_on(test)
    test = test.text_input(key="text--own-1").set_value("   ").run()
    assert "Write a text into each choice." in words_on(test)


def test_filters_and_their_slice(tiny_demo):
    whole = opened_lab()
    listed = whole.dataframe[-1].value if len(whole.dataframe) else None
    assert listed is not None
    test = opened_lab(outcome="first", find="water")
    text = words_on(test)
    assert "This slice:" in text or "No item passes" in text
    assert test.selectbox(key="outcome").value == "first"
    assert test.text_input(key="find").value == "water"


def test_words_of_another_page_are_searched_for(tiny_demo):
    test = opened_lab(words="bounce,ball")
    assert test.text_input(key="find").value == "bounce, ball"
    assert "words" not in test.query_params


def test_nonsense_in_the_address_falls_back(tiny_demo):
    opened_lab(
        task="nothing", norm="x", view="?", item="no-such", choices="{", context="a" * 9000,
        token="nan", outcome="-", limit="-5", label="9", of="7",
    )  # fmt: skip


def test_a_model_that_is_none_says_so(tiny_demo):
    test = open_lab(models="no-such-model")
    assert not test.exception
    assert len(test.error) == 1 and "no-such-model" in words_on(test)


def test_scores_are_shown_as_they_come(tiny_demo):
    """One model has scored some items, another none: each is judged on what it has."""
    from core.inference import open_encoder
    from core.score_cache import score_items

    items = load_items("demo_time")
    score_items(open_encoder("demo-nst"), items[:20], "PLL")
    test = opened_lab(task="demo_time", method="PLL", models="demo-nst")
    assert test.dataframe[0].value["items"].tolist() == [f"20 of {len(items)}"]
    assert "Go on" in [button.label for button in test.button]


def test_the_export_holds_settings_hashes_scores_tests_and_items(tiny_demo):
    from app import resources
    from app.probe_items import export_json
    from app.probe_lab import Wish

    wish = Wish("demo_physics", ("demo-teacher", "demo-nst"), "PLL-word-l2r", "sum", 0, "")
    found = resources.probed(resources.probe_set(wish.task), wish.models, wish.method, wish.norm)
    content = json.loads(export_json(wish, found, np.arange(10)))
    assert content["settings"]["models"] == list(wish.models)
    assert {len(value) for value in content["models"].values()} == {64}
    assert [row["n"] for row in content["scores"]] == [10, 10]
    assert content["pairs"][0]["one"] == "demo-teacher" and len(content["items"]) == 10
    assert {"right: demo-nst", "margin: demo-nst", "context"} <= content["items"][0].keys()


def test_one_model_alone_is_shown_without_tests(tiny_demo):
    test = opened_lab(models="demo-teacher")
    assert len(test.dataframe[0].value) == 1
    assert "more often" not in words_on(test)


def test_the_gain_is_of_two_different_models(tiny_demo):
    test = opened_lab(view="concreteness")
    assert "odds" in words_on(test) or "too few items" in words_on(test)
    test = test.selectbox(key="second").set_value("demo-teacher").run()
    assert "Choose two different models." in words_on(test)


def test_fine_tuning_names_its_command(tiny_demo):
    assert "python -m core fine-tune" in words_on(opened_lab(view="tuned"))
