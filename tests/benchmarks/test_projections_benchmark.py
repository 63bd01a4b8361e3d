"""The benchmark of the projections page: what it compares with, and when it does not run."""

from __future__ import annotations

import numpy as np

from benchmarks import projections
from core.analysis.point_selection import parse, selected


def test_without_a_text_it_says_why_it_is_skipped(capsys):
    projections.main([])
    assert "skipped" in capsys.readouterr().out


def test_the_direct_computation_agrees_with_the_pages_own():
    places = np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
    corners = [projections.lasso_of(number) for number in range(6)]
    shapes = [
        "lasso:" + ",".join(f"{4 * v - 2:.6g}" for corner in shape for v in corner)
        for shape in corners
    ]
    for text in [*shapes, "box:-1,0.5,-0.25,2"]:
        (part,) = parse(text)
        found = selected((part,), len(places), lambda run: places, None, None)
        assert projections.directly(places, part) == int(found.sum()) > 0
