"""Columns of a point set: colours, counts, sizes and searches against plain loops."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from core.analysis import point_columns
from core.analysis.point_columns import MISSING, OTHER, colors_of, column_of, counts_of


def texts(*values) -> point_columns.Column:
    return column_of("text", pa.array(values))


def test_texts_numbers_and_few_whole_numbers_take_their_own_forms():
    assert texts("a", "b", "a").codes.tolist() == [0, 1, 0]
    assert column_of("z", pa.array([1.5, None])).numbers.tolist()[0] == 1.5
    assert np.isnan(column_of("z", pa.array([1.5, None])).numbers[1])
    assert column_of("pieces", pa.array([1, 2, 1])).values == ("1", "2")
    assert not column_of("position", pa.array(list(range(100)))).is_category
    assert column_of("seen", pa.array([True, False])).is_category


def test_unknown_and_empty_texts_have_no_category():
    column = texts("a", None, "", "a")
    assert column.codes.tolist()[1:3] == [-1, -1]
    colors = colors_of(column)
    assert colors.codes.tolist() == [0, MISSING, MISSING, 0]


def test_many_chunks_with_dictionaries_of_their_own_agree():
    chunked = pa.chunked_array([["b", "a"], ["a", "c"], ["c", "b"]]).dictionary_encode()
    column = column_of("text", chunked)
    assert [column.values[code] for code in column.codes] == ["b", "a", "a", "c", "c", "b"]


def test_an_empty_column_is_no_fault():
    column = column_of("text", pa.chunked_array([], pa.string()))
    assert len(column) == 0 and counts_of(colors_of(column), None) == []


def test_the_most_frequent_categories_have_colours_and_the_rest_share_one():
    values = [f"v{n:02}" for n in range(20) for _ in range(20 - n)]
    colors = colors_of(texts(*values))
    assert colors.names == tuple(f"v{n:02}" for n in range(16)) and colors.num_other == 4
    assert colors.codes[0] == 0 and colors.codes[-1] == OTHER


def test_counts_are_those_of_a_loop_with_and_without_a_selection():
    rng = np.random.default_rng(0)
    values = [f"v{n}" for n in rng.integers(0, 30, 5000)]
    mask = rng.random(5000) < 0.1
    colors = colors_of(texts(*values))
    rows = counts_of(colors, mask)
    assert sum(row.total for row in rows) == 5000
    for row in rows:
        if row.code != OTHER:
            assert row.total == values.count(row.name)
            assert row.selected == sum(v == row.name and m for v, m in zip(values, mask))
    assert all(row.selected == row.total for row in counts_of(colors, None))


def test_a_continuous_column_is_coded_in_order_and_far_values_leave_room():
    numbers = np.append(np.linspace(0, 1, 999), 1e9)
    colors = colors_of(column_of("z", pa.array(numbers)))
    assert (np.diff(colors.codes.astype(int)) >= 0).all()
    assert colors.high < 1.1 and len(np.unique(colors.codes)) > 200
    assert colors_of(column_of("z", pa.array([np.nan, 1.0]))).codes.tolist()[0] == MISSING


def test_sizes_grow_with_the_number_and_are_plain_where_it_is_unknown():
    column = column_of("z", pa.array([0.0, 5.0, 10.0, None]))
    sizes = point_columns.sizes_of(column)
    assert sizes[0] < sizes[1] < sizes[2] and sizes[3] == point_columns.PLAIN_SIZE


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("on", ["moon", "on", "On the moon"]),
        ('"on"', ["on"]),
        ("MOON the", ["On the moon"]),
        ("sun", []),
        ("   ", []),
        ('""', []),
    ],
)
def test_a_search_finds_texts_with_all_its_words(wanted, found):
    column = texts("moon", "on", None, "On the moon", "cat")
    mask = point_columns.matching(column, wanted)
    assert [column.values[code] for code in column.codes[mask]] == found


def test_equal_asks_for_one_value_and_numbers_have_none():
    column = texts("a", "b", None)
    assert point_columns.equal(column, "b").tolist() == [False, True, False]
    assert not point_columns.equal(column, "z").any()
    assert point_columns.equal(column_of("z", pa.array([1.5])), "1.5") is None


def test_most_common_texts_of_a_selection():
    column = texts("a", "b", "b", "c", None)
    mask = np.array([True, True, True, False, True])
    assert point_columns.most_common(column, mask, 5) == [("b", 2), ("a", 1)]
