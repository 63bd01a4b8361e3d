import numpy as np
import pytest

from app.bars import ModelBars, bars_data
from core.records import Token
from core.scoring import TextScore


def text(*pieces: tuple[str, int, float]) -> TextScore:
    tokens = tuple(Token(t, start, start + len(t), is_word=False) for t, start, _ in pieces)
    values = np.array([value for *_, value in pieces])
    return TextScore(float(values.sum()), tokens, values)


SINKS = text(("It", 0, -1.0), ("sin", 3, -6.0), ("ks", 6, -0.001))
FLOATS = text(("It", 0, -1.0), ("floats", 3, -2.0))


def test_bars_carry_every_piece_with_its_value_and_where_words_begin():
    model = ModelBars("m", (SINKS, FLOATS), np.array([-7.0, -3.0]))
    data = bars_data(("It sinks", "It floats"), 1, [model])
    first, second = data["choices"]
    pieces = first["models"][0]["pieces"]
    assert [piece["text"] for piece in pieces] == ["It", "sin", "ks"]
    assert [piece["begins"] for piece in pieces] == [True, True, False]
    assert [piece["value"] for piece in pieces] == [-1.0, -6.0, -0.001]
    assert (first["right"], second["right"]) == (False, True)
    assert (first["models"][0]["chosen"], second["models"][0]["chosen"]) == (False, True)
    assert data["most"] == pytest.approx(6.0)


def test_an_edit_is_shown_against_its_parent():
    model = ModelBars("m", (SINKS, FLOATS), np.array([-7.0, -3.0]), np.array([-6.5, -3.0]))
    first, second = (
        choice["models"][0]
        for choice in bars_data(("It sinks", "It floats"), 0, [model])["choices"]
    )
    assert (first["change"], first["direction"]) == ("−0.50", "down")
    assert second["change"] == ""


def test_certain_texts_do_not_fill_their_bars():
    sure = text(("It", 0, -0.01))
    data = bars_data(("It", "It"), 0, [ModelBars("m", (sure, sure), np.array([0.0, 0.0]))])
    assert data["most"] == 4.0
