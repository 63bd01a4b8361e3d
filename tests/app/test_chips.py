import re

from app.chips import sentence_parts
from core.records import Token

SENTENCE = 'She said: "pour <b>it</b>", then  stopped.'


def test_the_parts_give_the_sentence_back():
    tokens = [Token(m.group(), m.start(), m.end()) for m in re.finditer(r"\w+", SENTENCE)]
    parts = sentence_parts(SENTENCE, tokens, [[0.5] * len(tokens)], ["teacher"])
    joined = "".join(part["text"] for part in parts)
    assert re.sub(r"\s", "", joined) == re.sub(r"\s", "", SENTENCE)
    assert [p["index"] for p in parts if p["index"] is not None] == list(range(len(tokens)))


def test_the_second_model_has_its_own_strength():
    parts = sentence_parts("ball", [Token("ball", 0, 4)], [[0.9], [0.25]], ["t", "s"])
    assert (parts[0]["a"], parts[0]["b"]) == (0.9, 0.25)
    assert parts[0]["help"].splitlines()[1].startswith("s: points more sharply than 25%")


def test_pieces_are_shown_as_pieces():
    tokens = [Token("bou", 0, 3, False), Token("##nces", 3, 7, False)]
    parts = sentence_parts("bounces", tokens, [[0.1, 0.2]], ["t"])
    assert [part["text"] for part in parts] == ["bou", "##nces"]
