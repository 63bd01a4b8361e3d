"""The ablation table as the page shows it."""

from __future__ import annotations

import pandas as pd
import pytest

from app.ablations import rows_of


def test_rows_are_of_one_metric_in_per_cent():
    row = {"low": 0.4, "high": 0.6, "difference": 0.1, "difference_low": 0.05}
    row |= {"difference_high": 0.15, "p": 0.004, "p_holm": 0.012}
    table = pd.DataFrame(
        [
            {"metric": "physics", "cell": "crd", "mean": 0.55, **row},
            {"metric": "time", "cell": "crd", "mean": 0.9, **row},
        ]
    )
    shown = rows_of(table, "physics")
    assert list(shown["student"]) == ["crd"]
    assert shown["mean"].iloc[0] == pytest.approx(55.0)
    assert shown["least"].iloc[0] == pytest.approx(5.0)
    assert shown["p (Holm)"].iloc[0] == 0.012
