"""Items become rows: frames, cuts, choices side by side, windows that lose no answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from core.data.task_rows import (
    ChoiceRows,
    ClassRows,
    SpanRows,
    fitted,
    group_of,
    length_batches,
    window_places,
)
from core.models.tokenizer import load_tokenizer
from core.records import ProbeItem, SpanItem, TextItem


@pytest.fixture(scope="module")
def bert():
    return load_tokenizer("bert")


def shown(tokenizer, batch) -> list[list[str]]:
    """The pieces of each row, without padding."""
    return [
        [tokenizer.pieces[i] for i, real in zip(ids, mask) if real]
        for ids, mask in zip(batch.text.token_ids.tolist(), batch.text.mask.tolist())
    ]


def test_a_single_text_stands_between_cls_and_sep(bert):
    rows = ClassRows([TextItem("0", "t", "the glass breaks", "", 1, {})], bert, 16)
    batch = rows.batch([0])
    assert shown(bert, batch) == [["[CLS]", "the", "glass", "breaks", "[SEP]"]]
    assert batch.labels.tolist() == [1]


def test_a_pair_has_a_second_sep_and_its_segments(bert):
    rows = ClassRows([TextItem("0", "t", "it falls", "it breaks", 0, {})], bert, 16)
    batch = rows.batch([0])
    assert shown(bert, batch) == [["[CLS]", "it", "falls", "[SEP]", "it", "breaks", "[SEP]"]]
    assert batch.text.segments.tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def one_by_one(one, two, room):
    """Cut one piece at a time from the longer text, of equal ones from the second."""
    one, two = list(one), list(two)
    while len(one) + len(two) > room:
        (one if len(one) > len(two) else two).pop()
    return one, two


@pytest.mark.parametrize(("first", "second", "room"), [(9, 3, 8), (3, 9, 8), (7, 7, 9), (5, 6, 2)])
def test_the_longer_text_is_cut_as_if_piece_by_piece(first, second, room):
    one, two = list(range(first)), list(range(100, 100 + second))
    assert fitted(one, two, room) == one_by_one(one, two, room)
    assert fitted(one, two, 99) == (one, two)


def test_no_row_is_longer_than_the_model_reads(bert):
    long = "word " * 300
    items = [TextItem("0", "t", long, long, 0, {}), TextItem("1", "t", "short", long, 0, {})]
    assert ClassRows(items, bert, 32).batch([0, 1]).text.mask.sum(dim=1).tolist() == [32, 32]


def test_choices_of_an_item_share_its_context_and_fill_their_places(bert):
    items = [
        ProbeItem("0", "t", "it falls", ("up", "down"), 1),
        ProbeItem("1", "t", "we eat", ("it", "glass", "up"), 0),
    ]
    batch = ChoiceRows(items, bert, 16).batch([1, 0])
    assert batch.choices.tolist() == [[True, True, True], [True, True, False]]
    assert shown(bert, batch)[1] == ["[CLS]", "we", "eat", "[SEP]", "glass", "[SEP]"]
    assert shown(bert, batch)[4] == ["[CLS]", "it", "falls", "[SEP]", "down", "[SEP]"]
    assert batch.labels.tolist() == [0, 1]


def test_lengths_of_choices_are_their_longest(bert):
    items = [ProbeItem("0", "t", "it", ("falls down now", "up"), 0)]
    assert ChoiceRows(items, bert, 16).lengths().tolist() == [4]


# ---- spans


@pytest.mark.parametrize(("count", "room", "overlap"), [(10, 20, 4), (100, 20, 8), (101, 20, 50)])
def test_windows_cover_all_and_share_what_they_should(count, room, overlap):
    places = window_places(count, room, overlap)
    covered = sorted({piece for start, end in places for piece in range(start, end)})
    assert covered == list(range(count))
    assert all(end - start <= room for start, end in places)
    shared = [before[1] - after[0] for before, after in zip(places, places[1:])]
    assert all(each >= min(overlap, room // 2) for each in shared)


def answers_seen(rows: SpanRows) -> dict[int, set[str]]:
    """The text that each item's labelled windows point at."""
    found: dict[int, set[str]] = {}
    for number, window in enumerate(rows.windows):
        batch = rows.batch([number])
        first, last = batch.labels[0].tolist()
        assert batch.answerable[0, [first, last]].all()
        if window.answer is not None:
            found.setdefault(window.item, set()).add(rows.text(window, first, last))
        else:
            assert (first, last) == (0, 0)
    return found


def test_every_window_with_the_answer_points_at_its_very_text(bert):
    context = (
        "Oslo is cold. " * 30 + "The capital of France is Paris, of course. " + "So it is. " * 9
    )
    place = context.index("Paris")
    items = [
        SpanItem("0", "t", "What is the capital?", context, (("Paris", place),), {}),
        SpanItem("1", "t", "Who?", context, (), {}),
    ]
    rows = SpanRows(items, bert, 48, overlap=16)
    assert answers_seen(rows) == {0: {"Paris"}}
    assert len(rows) > 8


def test_the_question_and_cls_may_hold_no_answer_but_cls_says_none(bert):
    rows = SpanRows([SpanItem("0", "t", "who is it", "it is me", (), {})], bert, 32)
    batch = rows.batch([0])
    assert shown(bert, batch)[0][5:] == ["it", "is", "me", "[SEP]"]
    assert batch.answerable[0].tolist() == [True] + [False] * 4 + [True] * 3 + [False]


def test_thinned_windows_keep_the_answer(bert):
    context = "One two three. " * 40 + "Here is Paris."
    items = [SpanItem("0", "t", "Where?", context, (("Paris", context.index("Paris")),), {})]
    whole, thinned = (SpanRows(items, bert, 32, 8, negatives) for negatives in (None, 1))
    with_answer = [w for w in whole.windows if w.answer is not None]
    assert [w for w in thinned.windows if w.answer is not None] == with_answer
    assert len(thinned) == len(with_answer) + 1 < len(whole)


def test_real_questions_point_at_their_answers(bert, shared_data):
    content = json.loads((shared_data / "SQuAD" / "dev-v2.0.json").read_text())
    paragraphs = [p for article in content["data"][:6] for p in article["paragraphs"]][::12]
    items = [
        SpanItem(
            question["id"],
            "squad",
            question["question"],
            paragraph["context"],
            tuple((a["text"], a["answer_start"]) for a in question["answers"]),
            {},
        )
        for paragraph in paragraphs
        for question in paragraph["qas"]
    ]
    rows = SpanRows(items, bert, 128)
    found = answers_seen(rows)
    wanted = {n: item.answers[0][0] for n, item in enumerate(items) if item.answers}
    assert len(wanted) > 50
    same = [found.get(n) == {text} for n, text in wanted.items()]
    # A published answer may end inside a word ("hand" of "hands"); the piece is taken whole.
    assert np.mean(same) > 0.97
    assert all(any(text in seen for seen in found[n]) for n, text in wanted.items() if n in found)


# ---- what all share


def test_items_of_one_story_are_one_group():
    story = "A long story. It ends."
    items = [TextItem(str(i), "t", f"hypothesis {i}", story, 0, {}) for i in range(3)]
    assert {group_of(item) for item in items} == {story}
    assert group_of(ProbeItem("7", "t", "", ("a", "b"), 0)) == "7"


def test_batches_by_length_hold_every_row_once_and_stay_bounded():
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    batches = list(length_batches(lengths))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all((lengths[rows].max() + 4) * len(rows) <= 8192 for rows in batches)


def test_swags_published_format_gives_four_endings_a_row(bert, shared_data):
    from core.data import probe_tasks

    items = probe_tasks.load_items("swag", "sample", "choice", shared_data)
    batch = ChoiceRows(items, bert, 64).batch(range(len(items)))
    assert len(items) == 11 and batch.choices.shape == (11, 4) and batch.choices.all()
    assert batch.text.token_ids.shape[0] == 44 and set(batch.labels.tolist()) <= {0, 1, 2, 3}
