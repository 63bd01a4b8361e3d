"""What a run left behind, put into tables and curves. No torch, no Streamlit."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

from app.charts import Curve
from app.wording import number
from core.models.run_folder import ENCODERS, RunFolder, RunInfo

STATES = {
    "running": ":blue-badge[:material/play_circle: running]",
    "finished": ":green-badge[:material/check_circle: finished]",
    "stopped": ":gray-badge[:material/stop_circle: stopped]",
    "interrupted": ":orange-badge[:material/pause_circle: interrupted]",
    "failed": ":red-badge[:material/error: failed]",
}


def objectives_of(run: RunInfo) -> str:
    if run.kind == "teacher":
        return "video and text"
    if run.kind == "fine-tuned":
        return f"{run.task}, from {run.encoder}"
    return f"text, {' + '.join(run.objectives)}" if run.objectives else "text only"


def table(runs: Sequence[RunInfo]) -> dict[str, list]:
    """Columns of the list of runs, newest first."""
    rows = newest_first(runs)
    return {
        "run": [run.name for run in rows],
        "kind": [run.kind for run in rows],
        "learns from": [objectives_of(run) for run in rows],
        "state": [run.state for run in rows],
        "progress": [100 * run.step / max(1, run.steps) for run in rows],
        "steps": [run.step for run in rows],
        "validation loss": [validation_loss(run.name) for run in rows],
        "begun": [begun(run) for run in rows],
    }


def newest_first(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """Teachers and students, then fine-tuned runs, of which there are many, each newest first."""
    return sorted(reversed(runs), key=lambda run: run.kind not in ENCODERS)


def begun(run: RunInfo) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(run.created)
    except ValueError:
        return None


def validation_loss(run_name: str) -> float | None:
    """The lowest so far: that of the weights that were kept."""
    losses = [x["loss"] for x in RunFolder.open(run_name).metrics() if x["split"] == "validation"]
    return min(losses) if losses else None


def curves(name: str, metrics: Sequence[dict], term: str, place: int) -> list[Curve]:
    """Training and validation curves of one term ("loss" is the weighted sum), where logged."""
    found = []
    for split in ("train", "validation"):
        points = [(m["step"], value_of(m, term)) for m in metrics if m["split"] == split]
        points = [(step, value) for step, value in points if value is not None]
        if points:
            label = f"{name}, {split}"
            found.append(Curve(label, *map(list, zip(*points)), place, split == "validation"))
    return found


def value_of(line: dict, term: str) -> float | None:
    return line["loss"] if term == "loss" else line["terms"].get(term)


def terms(metrics: Sequence[dict]) -> list[str]:
    """The loss terms in the order they were first logged; [] when there is only the sum."""
    names = list(dict.fromkeys(name for line in metrics for name in line["terms"]))
    return names if len(names) > 1 else []


def gradient_norms(metrics: Sequence[dict]) -> list[Curve]:
    """One curve for each loss term whose gradient's length was logged."""
    logged = [line for line in metrics if line.get("grad_norms")]
    names = dict.fromkeys(name for line in logged for name in line["grad_norms"])
    # A weight of 0 pulls with 0, which has no place on a logarithmic scale.
    points = {
        name: [(x["step"], x["grad_norms"][name]) for x in logged if x["grad_norms"].get(name)]
        for name in names
    }
    return [
        Curve(name, *map(list, zip(*found)), place)
        for place, (name, found) in enumerate(points.items())
        if found
    ]


def flat(values: dict, prefix: str = "") -> dict[str, str]:
    """Nested settings as `outer.inner` -> text."""
    found = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            found[name] = ", ".join(map(str, value)) or "none"
        else:
            found[name] = number(value) if value not in ("", None) else "not set"
    return found


def settings_of(run_name: str) -> dict[str, str]:
    content = json.loads((RunFolder.open(run_name).path / "settings.json").read_text())
    return flat(content["settings"])


def provenance_of(run_name: str) -> dict[str, str]:
    return flat(RunFolder.open(run_name).provenance)


def side_by_side(first: dict[str, str], second: dict[str, str], only_changes: bool):
    """Rows (key, first, second), in the first's order; where one lacks a key it has ""."""
    keys = list(dict.fromkeys([*first, *second]))
    rows = [(key, first.get(key, ""), second.get(key, "")) for key in keys]
    return [row for row in rows if not only_changes or row[1] != row[2]]


def grounding_reports(run_name: str) -> list[dict]:
    """Stored evaluations, one for each library. Files that are no reports are passed over."""
    folder = RunFolder.open(run_name).path / "grounding"
    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [report for report in reports if report.get("figures")]


def figure_rows(reports: Sequence[dict]) -> list[dict]:
    """Rows for `charts.figures_chart`, of reports on one library."""
    return [
        {
            "model": report["run"],
            "name": figure["name"],
            "value": figure["value"],
            "chance": figure["chance"],
            "low": figure["interval"]["low"],
            "high": figure["interval"]["high"],
        }
        for report in reports
        for figure in report["figures"]
    ]


GROUPS = {
    "Words to clips": lambda name: name.startswith("R@") and "captions" not in name,
    "Words to seconds": lambda name: name.startswith("peak"),
    "Captions to clips": lambda name: "captions" in name,
}


def grouped(rows: Sequence[dict]) -> dict[str, list[dict]]:
    """The rows by what they ask; figures of another kind come under "Other"."""
    found: dict[str, list[dict]] = {}
    for row in rows:
        group = next((g for g, has in GROUPS.items() if has(row["name"])), "Other")
        found.setdefault(group, []).append(row)
    return found
