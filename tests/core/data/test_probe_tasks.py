"""Tasks as data: descriptions, splits, items of the published files, and what is said otherwise."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from core.config import SettingsError
from core.data import probe_tasks
from core.data.probe_tasks import TaskDataMissing, available, items_hash, load_items, load_task
from core.data.task_files import TaskDataError

WANTED = {
    "piqa", "tracie-iid", "tracie-uniform", "sst2", "qnli", "qqp", "mnli", "glue-diagnostics",
    "squad-v1", "squad-v2", "swag", "demo_physics", "demo_time",
}  # fmt: skip


# ---- descriptions ------------------------------------------------------------------------------


def test_every_wanted_task_has_a_description():
    assert set(probe_tasks.task_names()) >= WANTED


@pytest.mark.parametrize("name", probe_tasks.task_names())
def test_a_description_holds_together(name):
    task = load_task(name)
    splits = task.files["splits"]
    assert task.title and task.about and task.source and task.metrics
    assert task.evaluation in splits and (not task.training or task.training in splits)
    assert all(spec.get("of", split) in splits for split, spec in splits.items())
    assert (task.kind == "classification") == bool(task.labels)
    assert set(task.label_values.values()) <= set(range(len(task.labels)))


def test_a_misspelt_task_names_the_close_ones():
    with pytest.raises(SettingsError, match="Unknown task 'tracie'. Did you mean tracie-iid or"):
        load_task("tracie")


def test_a_misspelt_field_of_a_description_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(probe_tasks, "TASKS", tmp_path)
    (tmp_path / "mine.yaml").write_text("title: Mine\nevaluaton: test\n")
    with pytest.raises(SettingsError, match="evaluaton"):
        load_task("mine")


def test_a_new_task_is_one_description(tmp_path, monkeypatch):
    monkeypatch.setattr(probe_tasks, "TASKS", tmp_path)
    (tmp_path / "tiny.yaml").write_text(
        "title: Tiny\nabout: a\nsource: b\nkind: choice\nzero_shot: true\nevaluation: test\n"
        "fields: {context: q, choices: ['{q} {x}', y], label: right}\n"
        "files: {format: jsonl, splits: {test: {file: tiny.jsonl}}}\n"
    )
    row = {"q": "It", "x": "floats", "y": "sinks", "right": 1}
    (tmp_path / "tiny.jsonl").write_text(json.dumps(row) + "\n")
    (item,) = load_items("tiny", data=tmp_path)
    assert (item.context, item.choices, item.label) == ("It", ("It floats", "sinks"), 1)


# ---- where files lie ---------------------------------------------------------------------------


def test_a_missing_file_says_how_to_give_it(tmp_path):
    assert not available("piqa", data=tmp_path)
    with pytest.raises(TaskDataMissing, match=r"PIQA/valid\.jsonl.*--data FOLDER.*VIDLANKD_DATA"):
        load_items("piqa", data=tmp_path)


def test_the_folder_may_come_from_the_environment(shared_data, monkeypatch):
    monkeypatch.setenv("VIDLANKD_DATA", str(shared_data))
    assert available("piqa") and available("piqa", "valid-train") and not available("piqa", "train")
    assert len(load_items("piqa", limit=3)) == 3


def test_the_demo_s_items_ask_for_the_demo(workspace):
    with pytest.raises(TaskDataMissing, match="Run: python -m core demo"):
        load_items("demo_time")


def test_the_demo_s_items_are_read_as_they_were_written(workspace):
    item = {
        "item_id": "demo_time-0000", "task": "demo_time", "context": "The box stood.",
        "choices": ["It spins.", "It jumps."], "label": 0, "metadata": {"block": "b:1"},
    }  # fmt: skip
    folder = workspace / "cached_features" / "demo" / "demo"
    folder.mkdir(parents=True)
    (folder / "demo_time.jsonl").write_text(json.dumps(item) + "\n")
    (found,) = load_items("demo_time")
    assert (found.item_id, found.choices, found.label) == ("demo_time-0000", ("It spins.", "It jumps."), 0)  # fmt: skip
    assert found.metadata == {"block": "b:1"}


def test_an_unknown_split_or_form_names_the_known_ones(tmp_path):
    with pytest.raises(SettingsError, match="no split 'dev'. Its splits: train, valid"):
        load_items("piqa", "dev", data=tmp_path)
    (tmp_path / "SWAG").mkdir()
    (tmp_path / "SWAG" / "swag_sample.csv").write_text("startphrase\nHe\n")
    with pytest.raises(SettingsError, match="of kind choice; it has no form 'span'"):
        load_items("swag", "sample", "span", tmp_path)


# ---- wrong files -------------------------------------------------------------------------------


def piqa_files(folder, rows, labels="0\n") -> None:
    (folder / "PIQA").mkdir()
    (folder / "PIQA" / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "PIQA" / "valid-labels.lst").write_text(labels)


def test_a_row_without_a_field_is_named_with_file_line_and_what_it_has(tmp_path):
    right = {"goal": "g", "sol1": "a", "sol2": "b"}
    piqa_files(tmp_path, [right, {"goal": "g", "sol1": "a", "solution": "b"}], "0\n1\n")
    message = r"valid\.jsonl:2: the field 'sol2' is missing. Found: goal, sol1, solution, label"
    with pytest.raises(TaskDataError, match=message):
        load_items("piqa", data=tmp_path)


def test_a_label_that_is_none_of_the_task_s_is_refused(tmp_path):
    piqa_files(tmp_path, [{"goal": "g", "sol1": "a", "sol2": "b"}], "2\n")
    with pytest.raises(TaskDataError, match=r"valid\.jsonl:1: wanted the label 0, 1, found '2'"):
        load_items("piqa", data=tmp_path)


def test_a_file_without_its_label_column_is_no_unlabelled_split(tmp_path):
    (tmp_path / "GLUE" / "QNLI").mkdir(parents=True)
    (tmp_path / "GLUE" / "QNLI" / "dev.tsv").write_text("index\tquestion\tsentence\n0\tq\ts\n")
    message = r"dev\.tsv:2: the field 'label' is missing. Found: index, question, sentence"
    with pytest.raises(TaskDataError, match=message):
        load_items("qnli", data=tmp_path)


def test_an_answer_that_does_not_stand_where_it_says_is_refused(tmp_path):
    answer = {"text": "came", "answer_start": 3}
    question = {"id": "q1", "question": "What?", "answers": [answer], "is_impossible": False}
    content = {
        "data": [{"title": "t", "paragraphs": [{"context": "Ann came.", "qas": [question]}]}]
    }
    (tmp_path / "SQuAD").mkdir()
    path = tmp_path / "SQuAD" / "dev-v2.0.json"
    path.write_text(json.dumps(content))
    with pytest.raises(TaskDataError, match=r"\(id q1\): the answer 'came' does not stand at"):
        load_items("squad-v2", data=tmp_path)
    path.write_text(json.dumps(content).replace("answer_start", "start"))
    with pytest.raises(TaskDataError, match=r"'answer_start' is missing. Found: text, start"):
        load_items("squad-v2", data=tmp_path)


def test_forms_of_one_hypothesis_that_contradict_each_other_are_refused(tmp_path):
    (tmp_path / "TRACIE" / "iid").mkdir(parents=True)
    line = "event: a starts {} b story: c.\tanswer: positive\n"
    text = line.format("before") + line.format("after")
    (tmp_path / "TRACIE" / "iid" / "tracie_test.txt").write_text(text)
    with pytest.raises(TaskDataError, match="both forms of 'a starts … b' have the same answer"):
        load_items("tracie-iid", data=tmp_path)


# ---- the published files -----------------------------------------------------------------------

# (task, split, form): items, and how many of each label. Counted in the files with other tools.
PUBLISHED = {
    ("piqa", "valid", "choice"): {0: 910, 1: 928},
    ("piqa", "tests", "choice"): {None: 3084},
    ("tracie-iid", "train", "classification"): {0: 587, 1: 587},
    ("tracie-iid", "test", "classification"): {0: 2124, 1: 2124},
    ("tracie-iid", "test", "choice"): {0: 762, 1: 1362},
    ("tracie-uniform", "train", "classification"): {0: 430, 1: 430},
    ("tracie-uniform", "train", "choice"): {0: 215, 1: 215},
    ("sst2", "dev", "classification"): {0: 2994, 1: 3741},
    ("sst2", "test", "classification"): {0: 428, 1: 444},
    ("qnli", "dev", "classification"): {0: 2702, 1: 2761},
    ("qnli", "adversarial", "classification"): {0: 74, 1: 74},
    ("qqp", "adversarial", "classification"): {0: 46, 1: 32},
    ("mnli", "adversarial", "classification"): {0: 32, 1: 39, 2: 50},
    ("glue-diagnostics", "ax-b", "classification"): {0: 460, 1: 644},
    ("glue-diagnostics", "ax-g", "classification"): {0: 178, 1: 178},
    ("swag", "sample", "choice"): {0: 3, 1: 1, 2: 7},
}


@pytest.mark.parametrize("task, split, form", PUBLISHED)
def test_a_published_file_is_read_whole(shared_data, task, split, form):
    items = load_items(task, split, form, shared_data)
    assert Counter(item.label for item in items) == PUBLISHED[task, split, form]
    assert len({item.item_id for item in items}) == len(items)


def test_the_zipped_training_set_is_read_whole(shared_data):
    assert len(load_items("sst2", "train", data=shared_data)) == 60_614


@pytest.mark.parametrize(
    "task, split, answerable, unanswerable",
    [
        ("squad-v2", "dev", 2910, 3168),
        ("squad-v1", "dev-v2", 2910, 0),
        ("squad-v1", "sample", 5, 0),
    ],
)
def test_questions_have_their_answers_where_they_say(
    shared_data, task, split, answerable, unanswerable
):
    items = load_items(task, split, data=shared_data)
    assert Counter(bool(item.answers) for item in items) == Counter(
        {True: answerable, False: unanswerable}
    )
    for item in items:
        assert all(item.context[start:].startswith(text) for text, start in item.answers)


def test_the_choices_of_tracie_differ_in_before_and_after_alone(shared_data):
    for item in load_items("tracie-uniform", "test", data=shared_data):
        before, after = (choice.split() for choice in item.choices)
        differing = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        assert differing == [("before", "after")]


def test_both_forms_of_tracie_say_the_same(shared_data):
    choices = load_items("tracie-iid", "test", "choice", shared_data)
    right = {(item.context, item.choices[item.label]) for item in choices}
    rows = load_items("tracie-iid", "test", "classification", shared_data)
    assert {(r.second_text, r.text) for r in rows if r.label == 1} == right
    forms = Counter(len(rows_of) for rows_of in _grouped(rows, "pair").values())
    assert forms == {2: 2122, 4: 1}  # one hypothesis stands in the file twice
    assert len(_grouped(rows, "story")) == 342
    assert Counter(row.metadata["point"] for row in rows) == {"end": 2324, "start": 1924}


def _grouped(items, name) -> dict:
    found: dict = {}
    for item in items:
        found.setdefault(item.metadata[name], []).append(item)
    return found


def test_categories_of_the_diagnostics_are_counted_as_published(shared_data):
    items = load_items("glue-diagnostics", "ax-b", data=shared_data)
    tagged = Counter(
        coarse
        for item in items
        for coarse in {category.split(":")[0] for category in item.metadata["categories"]}
    )
    assert tagged == {
        "lexical-semantics": 368,
        "predicate-argument-structure": 424,
        "logic": 364,
        "knowledge": 284,
    }


def test_the_diagnostics_with_three_classes_are_a_task_of_their_own(tmp_path):
    (tmp_path / "GLUE-diagnostics").mkdir()
    (tmp_path / "GLUE-diagnostics" / "diagnostic-full.tsv").write_text(
        "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\tPremise\t"
        "Hypothesis\tLabel\n\t\tNegation;Double negation\t\tArtificial\tIt is.\tIt is not.\tneutral\n"
    )
    (item,) = load_items("glue-diagnostics-3way", data=tmp_path)
    assert (item.text, item.second_text, item.label) == ("It is.", "It is not.", 1)
    assert item.metadata["categories"] == [
        "Logic: Negation", "Logic: Double negation", "Domain: Artificial"
    ]  # fmt: skip
    assert len(load_task("glue-diagnostics").labels) == 2
    assert "R3 cannot be computed" in load_task("glue-diagnostics").note


# ---- splits and samples ------------------------------------------------------------------------

PARTS = [
    ("piqa", "valid", "valid-train", "valid-test", "context", 0.2),
    ("qnli", "dev", "dev-train", "dev-test", "second_text", 0.2),
    ("squad-v2", "dev", "dev-train", "dev-test", "context", 0.25),
]


@pytest.mark.parametrize("task, whole, train, test, shared, share", PARTS)
def test_a_split_in_two_loses_nothing_and_shares_nothing(
    shared_data, task, whole, train, test, shared, share
):
    everything, one, other = (load_items(task, s, data=shared_data) for s in (whole, train, test))
    assert len(one) + len(other) == len(everything)
    assert not {getattr(i, shared) for i in one} & {getattr(i, shared) for i in other}
    assert abs(len(other) / len(everything) - share) < 0.05


def test_an_item_s_part_does_not_depend_on_the_other_items(tmp_path, shared_data):
    first = load_items("piqa", "valid-test", data=shared_data)[:3]
    rows = [{"goal": i.context, "sol1": i.choices[0], "sol2": i.choices[1]} for i in first]
    piqa_files(tmp_path, rows, "0\n0\n0\n")
    assert load_items("piqa", "valid-train", data=tmp_path) == []
    kept = load_items("piqa", "valid-test", data=tmp_path)
    assert [i.context for i in kept] == [i.context for i in first]


def test_a_sample_is_drawn_by_the_seed_and_keeps_the_order(shared_data):
    items = load_items("piqa", data=shared_data)
    one, again, other = (load_items("piqa", data=shared_data, limit=50, seed=s) for s in (1, 1, 2))
    place = {item.item_id: n for n, item in enumerate(items)}
    places = [place[item.item_id] for item in one]
    assert one == again and one != other and len(one) == 50 and places == sorted(places)
    assert load_items("piqa", data=shared_data, limit=9999) == items


def test_the_hash_follows_the_content(shared_data):
    items = load_items("piqa", data=shared_data, limit=5)
    assert items_hash(items) == items_hash(list(items)) != items_hash(items[::-1])


# ---- hub ---------------------------------------------------------------------------------------


def test_a_dataset_is_loaded_by_its_name_with_the_hub_s_splits(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "kept"))
    folder = tmp_path / "small_glue"
    folder.mkdir()
    rows = [{"sentence": "good", "label": 1, "idx": 0}, {"sentence": "?", "label": -1, "idx": 1}]
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = load_items("sst2", "test", data=f"hub:{folder}")
    assert [(item.text, item.label) for item in items] == [("good", 1), ("?", None)]
    with pytest.raises(TaskDataMissing, match="could not be had"):
        load_items("sst2", "train", data=f"hub:{folder}")


def test_the_hub_s_form_of_answers_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "kept"))
    folder = tmp_path / "small_squad"
    folder.mkdir()
    answers = {"text": ["Ann", "Ann"], "answer_start": [0, 0]}
    row = {"id": "q", "title": "t", "context": "Ann came.", "question": "Who?", "answers": answers}
    (folder / "validation.jsonl").write_text(json.dumps(row) + "\n")
    (item,) = load_items("squad-v2", "dev", data=f"hub:{folder}")
    assert (item.item_id, item.question, item.answers) == ("q", "Who?", (("Ann", 0),))


def test_a_hub_that_is_not_reached_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "kept"))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(TaskDataMissing, match=r"'nyu-mll/glue' \(validation\).*--data FOLDER"):
        load_items("sst2", data="hub")
    with pytest.raises(SettingsError, match="has no dataset on the hub. Give --data FOLDER"):
        load_items("tracie-iid", data="hub")
