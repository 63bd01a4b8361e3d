import numpy as np

from app.heat import Scale
from app.resources import Reading, in_common
from core.records import Token, TokenEmbeddings


def reading(name: str, *spans: tuple[int, int]) -> Reading:
    """A reading whose row i has the vector (i, 0) and the strength i / 10."""
    tokens = tuple(Token("x" * (b - a), a, b) for a, b in spans)
    vectors = np.array([[i, 0] for i in range(len(spans))], np.float16)
    text = TokenEmbeddings(("s",), tokens, vectors, np.array([0, len(spans)]))
    return Reading(name, text, np.arange(len(spans)) / 10, Scale(0.0, 1.0))


def test_equal_tokens_stay_as_they_are():
    one, two = in_common([reading("a", (0, 3), (4, 8)), reading("b", (0, 3), (4, 8))])
    assert one.text.tokens == two.text.tokens and len(one.text.tokens) == 2
    assert two.text.vectors[:, 0].tolist() == [0, 1]


def test_other_pieces_are_matched_by_the_characters_that_they_share():
    _, two = in_common([reading("a", (0, 3), (3, 7)), reading("b", (0, 1), (1, 3), (3, 7))])
    assert two.text.vectors[:, 0].tolist() == [1, 2]
    assert np.allclose(two.strengths, [0.1, 0.2])


def test_what_one_model_does_not_reach_is_left_out_of_both():
    one, two = in_common([reading("a", (0, 3), (4, 8)), reading("b", (0, 3))])
    assert [len(r.text.tokens) for r in (one, two)] == [1, 1]
    assert one.text.text_offsets.tolist() == [0, 1]


def test_a_sentence_without_tokens_has_none_in_common():
    assert in_common([reading("a")])[0].text.tokens == ()
