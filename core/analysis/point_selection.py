"""A selection of points as a short text: what was enclosed, not which points lay inside.

The text goes into links and saved views and is worked out again on the full set. Parts follow
one another, each setting the selection anew, adding to it (`+`) or taking from it (`-`):

    box:x0,x1,y0,y1            lasso:x,y,x,y,…          in the map's own units
    is:column=value            match:words              by a column, by a search
    box@demo-nst:x0,x1,y0,y1   on the map of another run than the one shown
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

import numpy as np

from core.analysis.projections import select_box, select_lasso

HOW = {"": "new", "+": "add", "-": "remove"}
SIGN = {how: sign for sign, how in HOW.items()}
GEOMETRY = ("box", "lasso")
MOST_PARTS = 40
_PART = re.compile(r"([+-]?)(box|lasso|is|match)(?:@([\w.\-]+))?:(.*)", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """One step of a selection."""

    kind: str  # "box" | "lasso" | "is" | "match"
    how: str = "new"  # "new" | "add" | "remove"
    run: str = ""  # whose map a shape was drawn on; "" for the one shown
    points: tuple[float, ...] = ()  # box: x0, x1, y0, y1; lasso: x, y in turn
    column: str = ""
    value: str = ""  # of the column, or the words searched for

    def __str__(self) -> str:
        place = f"@{self.run}" if self.run else ""
        if self.kind in GEOMETRY:
            said = ",".join(f"{value:.6g}" for value in self.points)
        elif self.kind == "is":
            said = f"{quote(self.column, safe='')}={quote(self.value, safe='')}"
        else:
            said = quote(self.value, safe="")
        return f"{SIGN[self.how]}{self.kind}{place}:{said}"


def parse(text: str) -> tuple[Part, ...]:
    """The selection's parts. What cannot be read (a link may be anyone's) is passed over."""
    found = (_parse_part(part) for part in text.split(";")[:MOST_PARTS])
    return tuple(part for part in found if part)


def write(parts: Sequence[Part]) -> str:
    return ";".join(map(str, parts))


def then(parts: Sequence[Part], part: Part) -> tuple[Part, ...]:
    """The selection after one more step; a new one forgets what was before."""
    return (part,) if part.how == "new" else (*parts, part)[-MOST_PARTS:]


def selected(
    parts: Sequence[Part],
    count: int,
    coordinates: Callable[[str], np.ndarray | None],
    equal: Callable[[str, str], np.ndarray | None],
    matching: Callable[[str], np.ndarray],
) -> np.ndarray | None:
    """bool [count], True inside; None for no selection.

    `coordinates(run)` gives the map f32 [count, 2] that a shape was drawn on, `equal(column,
    value)` and `matching(words)` masks. A part whose map or column is unknown selects nothing.
    """
    if not parts:
        return None
    mask = np.zeros(count, bool)
    for part in parts:
        inside = _inside(part, count, coordinates, equal, matching)
        if part.how == "new":
            mask = inside
        else:
            mask = mask | inside if part.how == "add" else mask & ~inside
    return mask


def _inside(part: Part, count: int, coordinates, equal, matching) -> np.ndarray:
    mask = np.zeros(count, bool)
    if part.kind in GEOMETRY:
        places = coordinates(part.run)
        if places is not None:
            mask[_enclosed(part, places)] = True
        return mask
    found = equal(part.column, part.value) if part.kind == "is" else matching(part.value)
    return mask if found is None else np.array(found, bool)


def _enclosed(part: Part, places: np.ndarray) -> np.ndarray:
    """Rows inside the shape; a point on a box's edge is inside."""
    if part.kind == "box":
        return select_box(places, *part.points)
    return select_lasso(places, np.array(part.points).reshape(-1, 2))


def _parse_part(text: str) -> Part | None:
    found = _PART.fullmatch(text)
    if not found:
        return None
    sign, kind, run, said = found.groups()
    how = HOW[sign]
    if kind == "match":
        return Part(kind, how, value=unquote(said))
    if kind == "is":
        column, equals, value = said.partition("=")
        return Part(kind, how, column=unquote(column), value=unquote(value)) if equals else None
    points = _numbers(said)
    whole = len(points) == 4 if kind == "box" else len(points) >= 6 and len(points) % 2 == 0
    return Part(kind, how, run or "", points) if whole else None


def _numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(each) for each in text.split(","))
    except ValueError:
        return ()
    return values if all(map(math.isfinite, values)) else ()
