"""Columns of a point set as a map needs them: codes to colour by, counts, sizes, searches.

Texts are kept as codes into their distinct values, so that a set of a million points costs four
bytes a point and column, and a question about texts is asked of the distinct ones only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST_COLORS = 16  # of categories; rarer ones share one grey
OTHER, MISSING = 254, 255  # colour codes; a continuous column uses 0 to 254 for its range
FEW = 24  # whole numbers with no more distinct values than this are categories
PLAIN_SIZE = 64  # of a point; sizes go from half to two and a half times as wide
SMALLEST, LARGEST = 40, 160


@dataclass(frozen=True)
class Column:
    """One column: either `codes` into `values`, or `numbers` with NaN for unknown ones."""

    name: str
    codes: np.ndarray | None = None  # int32 [N]; -1 for unknown
    values: tuple[str, ...] = ()
    numbers: np.ndarray | None = None  # f32 [N]
    ordered: bool = False  # the values' own order is that of their colours
    missing: str = "none"  # what an unknown value is called

    @property
    def is_category(self) -> bool:
        return self.codes is not None

    def __len__(self) -> int:
        return len(self.numbers if self.codes is None else self.codes)


def column_of(name: str, array: pa.ChunkedArray | pa.Array) -> Column:
    """The column in the form that suits what it holds."""
    kind = array.type
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not _few(array)):
        return Column(name, numbers=_numbers(array))
    if not (pa.types.is_string(kind) or pa.types.is_dictionary(kind)):
        array = array.cast(pa.string())
    return _category(name, array)


def _few(array) -> bool:
    return pc.count_distinct(array).as_py() <= FEW


def _numbers(array) -> np.ndarray:
    return array.cast(pa.float32()).to_numpy(zero_copy_only=False).astype(np.float32, copy=False)


def _category(name: str, array) -> Column:
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if isinstance(whole, pa.ChunkedArray):  # an empty or many-chunked array stays chunked
        whole = pa.concat_arrays(whole.unify_dictionaries().chunks)
    values = tuple(str(value) for value in whole.dictionary.to_pylist())
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    empty = [code for code, value in enumerate(values) if not value.strip()]
    if empty:
        codes = np.where(np.isin(codes, empty), np.int32(-1), codes)
    return Column(name, codes=codes, values=values)


# ---- colours ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Colors:
    """A colour code for each point, and what the codes mean."""

    column: str
    codes: np.ndarray  # uint8 [N]
    names: tuple[str, ...] = ()  # of the categories that have a colour, code 0 first
    num_other: int = 0  # categories that share the colour OTHER
    missing: str = "none"  # what MISSING is called
    low: float = 0.0  # of a continuous column: the values of codes 0 and 254
    high: float = 0.0

    @property
    def is_category(self) -> bool:
        return bool(self.names)


def colors_of(column: Column) -> Colors:
    return _category_colors(column) if column.is_category else _continuous_colors(column)


def _category_colors(column: Column) -> Colors:
    """The most frequent categories get a colour each, in the order of their counts."""
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values))
    order = np.arange(len(counts)) if column.ordered else np.argsort(-counts, kind="stable")
    order = order[(counts[order] > 0) | column.ordered]
    table = np.full(len(column.values) + 1, OTHER, np.uint8)  # the last for code -1
    table[-1] = MISSING
    table[order[:MOST_COLORS]] = np.arange(min(len(order), MOST_COLORS))
    names = tuple(column.values[place] for place in order[:MOST_COLORS])
    return Colors(
        column.name,
        table[column.codes],
        names,
        max(0, len(order) - MOST_COLORS),
        missing=column.missing,
    )


def _continuous_colors(column: Column) -> Colors:
    """From the 1st to the 99th percentile: a few far values leave no colours to the rest."""
    known = np.isfinite(column.numbers)
    codes = np.full(len(column), MISSING, np.uint8)
    if not known.any():
        return Colors(column.name, codes)
    low, high = (float(v) for v in np.percentile(column.numbers[known], [1, 99]))
    share = (column.numbers[known] - low) / max(high - low, 1e-12)
    codes[known] = np.clip(np.rint(share * 254), 0, 254)
    return Colors(column.name, codes, low=low, high=high)


@dataclass(frozen=True)
class Count:
    """How many points have a colour, and how many of these are selected."""

    code: int
    name: str
    total: int
    selected: int


def counts_of(colors: Colors, mask: np.ndarray | None) -> list[Count]:
    """A row for each colour of a categorical column that any point has."""
    totals = np.bincount(colors.codes, minlength=256)
    inside = totals if mask is None else np.bincount(colors.codes[mask], minlength=256)
    names = {code: name for code, name in enumerate(colors.names)}
    names |= {OTHER: f"{colors.num_other} others", MISSING: colors.missing}
    return [
        Count(code, name, int(totals[code]), int(inside[code]))
        for code, name in names.items()
        if totals[code]
    ]


def sizes_of(column: Column) -> np.ndarray:
    """uint8 [N]: the point's width, PLAIN_SIZE where the number is unknown."""
    sizes = np.full(len(column), PLAIN_SIZE, np.uint8)
    known = np.isfinite(column.numbers)
    if known.any():
        low, high = np.percentile(column.numbers[known], [2, 98])
        share = np.clip((column.numbers[known] - low) / max(high - low, 1e-12), 0, 1)
        sizes[known] = np.rint(SMALLEST + share * (LARGEST - SMALLEST))
    return sizes


# ---- questions -------------------------------------------------------------------------------


def equal(column: Column, value: str) -> np.ndarray | None:
    """bool [N]: where the column has this value; None where it is not of categories."""
    if not column.is_category:
        return None
    return column.codes == (column.values.index(value) if value in column.values else -2)


def matching(column: Column, wanted: str) -> np.ndarray:
    """bool [N]: texts that hold every word of the search, in any case.

    A search in double quotes asks for the whole text: "on" finds no "moon".
    """
    wanted = wanted.strip().lower()
    exact = len(wanted) > 2 and wanted[0] == wanted[-1] == '"'
    words = [wanted.strip('"').strip()] if exact else wanted.split()
    if not words or not column.is_category:
        return np.zeros(len(column), bool)
    texts = [value.lower() for value in column.values]
    hits = np.zeros(len(texts) + 1, bool)
    for place, text in enumerate(texts):
        hits[place] = text == words[0] if exact else all(word in text for word in words)
    return hits[column.codes]


def most_common(column: Column, mask: np.ndarray, number: int) -> list[tuple[str, int]]:
    """The selection's most frequent texts with their counts."""
    codes = column.codes[mask]
    counts = np.bincount(codes[codes >= 0], minlength=len(column.values))
    order: Sequence[int] = np.argsort(-counts, kind="stable")[:number]
    return [(column.values[place], int(counts[place])) for place in order if counts[place]]
