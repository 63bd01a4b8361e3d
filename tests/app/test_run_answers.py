"""A fine-tuned run's figures as they are shown."""

from __future__ import annotations

import numpy as np
import pandas as pd

from app.run_answers import figure_columns, lines_beside
from app.run_views import newest_first, objectives_of
from core.analysis.fine_tuned import Figure, TaskAnswers
from core.models.run_folder import RunInfo


def answers_of(predictions, **more) -> TaskAnswers:
    labels = np.arange(len(predictions)) % 2
    table = pd.DataFrame({"label": labels, "prediction": predictions})
    known = {"run": "r-s0", "encoder": "e", "seed": 0, "task": "t", "split": "test"}
    known |= {"kind": "classification", "labels": ("no", "yes"), "template_prior": None}
    return TaskAnswers(table=table, **{**known, **more})


def run(name: str, kind: str, **more) -> RunInfo:
    return RunInfo(name, kind, "finished", 1, 1, "", (), "", "", **more)


def test_a_figure_without_an_interval_has_empty_ends():
    columns = figure_columns({"F1": Figure(0.5, 0.4, 0.6), "best": Figure(0.7, np.nan, np.nan)})
    assert columns["value"] == [50, 70] and columns["from"] == [40, None]


def test_a_collapsed_seed_is_called_so_and_a_leak_is_named():
    text = lines_beside(answers_of([1] * 10, template_prior=0.641))
    assert "commonest answer alone: 50.0 %" in text and "64.1 %" in text and "collapsed" in text
    assert "collapsed" not in lines_beside(answers_of([0, 1] * 5))


def test_fine_tuned_runs_come_after_the_encoders_and_say_what_they_are_made_from():
    tuned = run("sst2-a-s0", "fine-tuned", task="sst2", encoder="a")
    runs = [run("a", "teacher"), tuned, run("b", "student")]
    assert [r.name for r in newest_first(runs)] == ["b", "a", "sst2-a-s0"]
    assert objectives_of(tuned) == "sst2, from a"
