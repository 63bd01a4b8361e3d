"""What evaluation fetches and shows; the arithmetic is held in test_grounding.py."""

import json

import numpy as np
import pytest

from core.analysis import evaluation
from core.analysis.evaluation import GroundingReport, Mention
from core.analysis.grounding import Event, Figure
from core.analysis.statistics import Interval
from core.records import Clip, Token, TokenEmbeddings

CLIPS = [
    Clip("b", "v", 2.0, 4.0, "it falls and the ball falls again"),
    Clip("a", "v", 0.0, 2.0, "The Ball rolls"),
]


def text_of(clips) -> TokenEmbeddings:
    """Token number i has the vector (i, 0)."""
    tokens, offsets = [], [0]
    for clip in clips:
        place = 0
        for word in clip.caption.split():
            start = clip.caption.index(word, place)
            tokens.append(Token(word, start, start + len(word)))
            place = start + len(word)
        offsets.append(len(tokens))
    vectors = np.stack([np.arange(len(tokens)), np.zeros(len(tokens))], axis=1)
    sentences = tuple(clip.caption for clip in clips)
    return TokenEmbeddings(sentences, tuple(tokens), vectors, np.array(offsets))


def mention(sentence: int, word: str, role="action", label="fall") -> Mention:
    return Mention(Event("v", role, label, 2.0, 3.0), sentence, word)


def test_words_are_found_in_the_sentence_of_their_time():
    mentions = [mention(0, "ball", "thing", "ball"), mention(1, "falls"), mention(1, "falls")]
    queries = evaluation.word_queries(mentions, CLIPS, text_of(CLIPS))
    # sentence 0 is the clip that starts first: tokens 7 The, 8 Ball, 9 rolls
    assert [int(query.vector[0]) for query in queries] == [8, 1, 5]


def test_a_word_that_the_caption_lacks_is_an_error_not_a_guess():
    with pytest.raises(ValueError, match="has the word 'bounces', its caption has not"):
        evaluation.word_queries([mention(0, "bounces")], CLIPS, text_of(CLIPS))
    with pytest.raises(ValueError, match="has not"):
        evaluation.word_queries([mention(1, "falls")] * 3, CLIPS, text_of(CLIPS))


def test_function_words_are_not_content():
    found = evaluation.content_tokens(text_of(CLIPS))
    words = [w for c in CLIPS for w in c.caption.split()]
    assert [w for w, x in zip(words, found) if x] == ["falls", "ball", "falls", "Ball", "rolls"]


def report(run: str, value: float) -> GroundingReport:
    figure = Figure("R@1 things", value, 0.125, Interval(value - 0.1, value + 0.1), 40, 12)
    return GroundingReport(
        run, "student", ("nst",), "toy", "held-out", 30, 12, "ridge", 0.61, 0.2, (figure,)
    )


def test_the_table_shows_value_interval_and_chance(capsys):
    evaluation.print_reports([report("nst", 0.75), report("crd", 0.5)])
    shown = capsys.readouterr().out
    for part in ("R@1 things (n=40)", "12.5", "75.0 (65.0–85.0)", "50.0 (40.0–60.0)", "0.61"):
        assert part in shown
    assert "30 clips of 12" in " ".join(shown.split())


def test_the_json_has_what_the_table_has(tmp_path):
    evaluation.write_json([report("nst", 0.75)], tmp_path / "figures.json")
    found = json.loads((tmp_path / "figures.json").read_text())[0]
    assert found["figures"][0]["value"] == 0.75
    assert found["figures"][0]["chance"] == 0.125
    assert found["figures"][0]["interval"] == {"low": 0.65, "high": 0.85, "confidence": 0.95}
    assert found["alignment_r2"] == 0.61
