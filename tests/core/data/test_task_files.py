"""Readers: what each format gives, and what is said of a file that is wrong."""

from __future__ import annotations

import gzip
import json

import pytest

from core.data.task_files import TaskDataError, read_rows


def written(tmp_path, name, content) -> object:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_json_lines_keep_the_line_number_over_empty_lines(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"goal": "x"}\n\n{"goal": "y"}\n')
    assert [(row.fields, row.where) for row in read_rows(path, "jsonl")] == [
        ({"goal": "x"}, f"{path}:1"),
        ({"goal": "y"}, f"{path}:3"),
    ]


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"goal": "one\u2028two\x85three"}\n{"goal": "y"}\n')
    rows = read_rows(path, "jsonl")
    assert rows[0].get("goal") == "one\u2028two\x85three" and rows[1].where == f"{path}:2"


def test_a_label_file_is_joined_line_by_line(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"goal": "x"}\n{"goal": "y"}\n')
    labels = written(tmp_path, "a.lst", "1\n0\n")
    assert [row.get("label") for row in read_rows(path, "jsonl", labels)] == ["1", "0"]


def test_a_label_file_of_another_length_is_refused(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"goal": "x"}\n{"goal": "y"}\n')
    labels = written(tmp_path, "a.lst", "1\n")
    with pytest.raises(TaskDataError, match=r"found 1 in .*a\.lst for the 2 of .*a\.jsonl"):
        read_rows(path, "jsonl", labels)


def test_quotation_marks_in_a_tsv_are_text_and_a_blank_last_line_is_none(tmp_path):
    path = written(tmp_path, "a.tsv", "\ufeffsentence\tlabel\n\"so 'called\t1\nplain\t0\n\n")
    rows = read_rows(path, "tsv")
    assert [row.fields for row in rows] == [
        {"sentence": "\"so 'called", "label": "1"},
        {"sentence": "plain", "label": "0"},
    ]


def test_a_gzipped_table_reads_as_the_table(tmp_path):
    path = written(tmp_path, "a.tsv.gz", gzip.compress(b"sentence\tlabel\ngood\t1\n"))
    assert read_rows(path, "tsv")[0].fields == {"sentence": "good", "label": "1"}


def test_a_cut_gzip_file_is_refused(tmp_path):
    path = written(tmp_path, "a.tsv.gz", gzip.compress(b"sentence\tlabel\ngood\t1\n" * 99)[:-20])
    with pytest.raises(TaskDataError, match=r"a\.tsv\.gz: no text in UTF-8"):
        read_rows(path, "tsv")


def test_a_quoted_cell_of_a_csv_may_hold_commas(tmp_path):
    path = written(tmp_path, "a.csv", ',ending0,label\n0,"stops, then goes",2\n')
    assert read_rows(path, "csv")[0].get("ending0") == "stops, then goes"


def test_a_tracie_line_is_taken_apart(tmp_path):
    line = "event: Chad slept  starts before he rode story: He woke. He rode.\tanswer: negative\n"
    row = read_rows(written(tmp_path, "a.txt", line), "tracie")[0]
    assert row.fields == {
        "event": "Chad slept",
        "point": "starts",
        "relation": "before",
        "other": "he rode",
        "story": "He woke. He rode.",
        "answer": "negative",
        "hypothesis": "Chad slept starts before he rode",
    }


def test_squad_questions_carry_their_context_and_article(tmp_path):
    question = {"id": "q1", "question": "Who?", "answers": []}
    paragraph = {"context": "Ann came.", "qas": [question]}
    content = {"data": [{"title": "Ann", "paragraphs": [paragraph]}]}
    row = read_rows(written(tmp_path, "a.json", json.dumps(content)), "squad")[0]
    assert row.fields == {**question, "context": "Ann came.", "title": "Ann"}


def test_examples_of_adversarial_glue_know_their_task(tmp_path):
    content = {"sst2": [{"sentence": "good"}], "qqp": [{"question1": "a"}, {"question1": "b"}]}
    rows = read_rows(written(tmp_path, "a.json", json.dumps(content)), "adv-glue")
    assert [row.get("task") for row in rows] == ["sst2", "qqp", "qqp"]


WRONG = {
    "broken JSON": ("jsonl", '{"goal": "x"}\n{"goal": \n', r"a:2: no JSON"),
    "a list for an object": ("jsonl", "[1, 2]\n", r"a:1: wanted a JSON object, found list"),
    "empty": ("jsonl", "\n", r"a has no examples"),
    "not text": ("jsonl", b"\xff\xfe\x00", r"a: no text in UTF-8"),
    "a short row": (
        "tsv", "sentence\tlabel\ngood\t1\nbad\n", r"a:3: wanted 2 columns \(sentence, label\), found 1"
    ),
    "a long row": ("tsv", "sentence\tlabel\ngood\t1\t2\n", r"a:2: wanted 2 columns .* found 3"),
    "an open quote": ("csv", 'a,b\n"x,1\n', r"a:2: unexpected end of data"),
    "no answer": ("tracie", "event: a starts after b story: c.\n", r"a:1: wanted 'event: .* found"),
    "no relation": ("tracie", "event: a story: c.\tanswer: positive\n", r"a:1: .*starts\|ends"),
    "no data": ("squad", '{"version": "1"}', r"a: the field 'data' is missing. Found: version"),
    "no questions": (
        "squad", '{"data": [{"paragraphs": [{"context": "c"}]}]}',
        r"data\[0\]: paragraphs\[0\]: the field 'qas' is missing. Found: context",
    ),
    "a number for an article": ("squad", '{"data": [7]}', r"data\[0\]: wanted a JSON object, found '7'"),
    "a text for an example": ("adv-glue", '{"sst2": ["x"]}', r"sst2\[0\]: wanted a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_with_its_place(tmp_path, case):
    file_format, content, message = WRONG[case]
    with pytest.raises(TaskDataError, match=message):
        read_rows(written(tmp_path, "a", content), file_format)


def test_an_unknown_format_names_the_known_ones(tmp_path):
    with pytest.raises(TaskDataError, match="Unknown file format 'xml'. Known: jsonl, tsv, csv"):
        read_rows(written(tmp_path, "a.xml", "<a/>"), "xml")
