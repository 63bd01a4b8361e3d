"""A selection's text: read, written, and worked out as a direct computation would."""

from __future__ import annotations

import numpy as np
import pytest

from core.analysis.point_selection import Part, parse, selected, then, write

BOX = "box:-1,1,-0.5,0.5"


@pytest.fixture
def places() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)


def mask_of(text: str, places: np.ndarray, other: np.ndarray | None = None) -> np.ndarray | None:
    kinds = np.arange(len(places)) % 3
    return selected(
        parse(text),
        len(places),
        lambda run: {"": places, "other": other}.get(run),
        lambda column, value: kinds == int(value) if column == "kind" else None,
        lambda words: np.arange(len(places)) % 10 == len(words),
    )


def in_box(places, x0, x1, y0, y1) -> np.ndarray:
    x, y = places.T
    return (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)


@pytest.mark.parametrize(
    "text",
    [
        BOX,
        "lasso:0,0,1,0,0.5,1",
        "is:pos=NOUN%3B%20x",
        "match:a%20b%3Bc",
        f"{BOX};+box@demo-nst:0,1,2,3;-is:kind=1",
    ],
)
def test_what_was_written_is_read_and_written_again(text):
    assert write(parse(text)) == text


def test_values_keep_every_character():
    odd = Part("is", column="a=b;c", value='50%;+"ü":,')
    assert parse(str(odd)) == (odd,)


def test_a_box_and_a_lasso_select_what_a_direct_computation_does(places):
    assert (mask_of(BOX, places) == in_box(places, -1, 1, -0.5, 0.5)).all()
    x, y = places.T.astype(float)
    triangle = (y > 0) & (y < 2 * x) & (y < 2 - 2 * x)
    assert (mask_of("lasso:0,0,1,0,0.5,1", places) == triangle).all()
    assert 0 < triangle.sum() < len(places)


def test_parts_add_and_take_away_in_their_order(places):
    box, wide = in_box(places, -1, 1, -0.5, 0.5), in_box(places, -2, 2, -2, 2)
    first = np.arange(len(places)) % 3 == 1
    assert (mask_of(f"{BOX};+is:kind=1", places) == (box | first)).all()
    assert (mask_of(f"box:-2,2,-2,2;-{BOX}", places) == (wide & ~box)).all()
    assert (mask_of(f"{BOX};box:-2,2,-2,2", places) == wide).all()


def test_a_shape_of_another_map_is_worked_out_there(places):
    other = places[::-1].copy()
    found = mask_of(f"box@other:{BOX[4:]}", places, other)
    assert (found == in_box(other, -1, 1, -0.5, 0.5)).all()
    assert not mask_of(f"box@gone:{BOX[4:]}", places).any()


def test_no_selection_is_not_an_empty_one(places):
    assert mask_of("", places) is None
    assert not mask_of("is:unknown=1", places).any()
    assert not mask_of("box:9,10,9,10", places).any()


@pytest.mark.parametrize(
    "text",
    ["box:1,2,3", "box:1,2,3,nan", "box:1,2,3,x", "lasso:1,2,3,4", "lasso:1,2,3,4,5", "is:novalue",
     "circle:1", "box@../x:1,2,3,4", ";;;", "box:1e999,0,0,0"],
)  # fmt: skip
def test_nonsense_in_a_link_is_passed_over(text):
    assert parse(text) == ()


def test_a_new_part_forgets_and_others_go_on():
    box, more = parse(BOX)[0], parse("+match:cat")[0]
    assert then((box, more), box) == (box,)
    assert then((box,), more) == (box, more)
    many = ()
    for _ in range(100):
        many = then(many, more)
    assert len(many) <= 40
