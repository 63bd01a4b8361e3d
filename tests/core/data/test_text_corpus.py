"""The student's text: packed once, blocks that fit, clear errors."""

from __future__ import annotations

import time

import numpy as np
import pytest

from core.data.text_corpus import CorpusError, load_corpus
from core.models.tokenizer import load_tokenizer

WIKITEXT = """ = Robert Boulter =

 Robert Boulter is an English film , television and theatre actor .

 = = Career = =

 In 2006 , Boulter starred alongside Whishaw in the play Citizenship .
"""


@pytest.fixture(scope="module")
def bert():
    return load_tokenizer("bert")


@pytest.fixture
def corpus_file(workspace):
    path = workspace / "wiki.txt"
    path.write_text(WIKITEXT)
    return path


def test_headings_and_blank_lines_are_dropped_and_blocks_fit(corpus_file, bert):
    corpus = load_corpus(str(corpus_file), bert, max_tokens=10)
    lines = [x.strip() for x in WIKITEXT.splitlines() if x.strip() and "=" not in x]
    expected = [ids[i : i + 8] for ids in bert.piece_ids(lines) for i in range(0, len(ids), 8)]
    assert [row.tolist() for row in corpus.rows(range(len(corpus)))] == expected
    assert corpus.lengths.max() <= 8


def test_the_second_call_encodes_nothing(corpus_file, bert, monkeypatch):
    first = load_corpus(str(corpus_file), bert, 10)
    calls = []
    real = bert.piece_ids
    monkeypatch.setattr(bert, "piece_ids", lambda s: calls.append(s) or real(s))
    second = load_corpus(str(corpus_file), bert, 10)
    assert not calls and np.array_equal(first.ids, second.ids)
    assert isinstance(second.ids, np.memmap)
    corpus_file.write_text("another text")
    assert load_corpus(str(corpus_file), bert, 10).content_hash != first.content_hash
    assert calls


def test_errors_say_what_was_found_and_what_to_give(workspace, bert):
    empty = workspace / "empty.txt"
    empty.write_text("\n\n = Only a heading = \n")
    for name, message in [
        ("", "No corpus given"),
        ("missing.txt", "found nothing"),
        (str(workspace), "found a folder"),
        ("demo", "python -m core demo"),
        (str(empty), "found none"),
    ]:
        with pytest.raises(CorpusError, match=message):
            load_corpus(name, bert, 32)
    assert not list((workspace / "cached_features" / "corpora").glob("*/corpus.json"))


def test_bytes_that_are_no_utf8_do_not_stop_the_rest(workspace, bert):
    path = workspace / "latin.txt"
    path.write_bytes(b"\xef\xbb\xbfa caf\xe9 ball\nsecond line\n")
    assert len(load_corpus(str(path), bert, 32)) == 2


def test_real_wikitext_packs_and_opens_at_once(shared_data, workspace, bert):
    path = shared_data / "WikiText-2" / "wiki.test.raw"
    if not path.is_file():
        pytest.skip("no WikiText-2 in shared/data")
    corpus = load_corpus(str(path), bert, 128)
    began = time.perf_counter()
    again = load_corpus(str(path), bert, 128)
    assert time.perf_counter() - began < 1
    assert len(again) == len(corpus) > 2000
    assert 250_000 < len(corpus.ids) < 350_000
