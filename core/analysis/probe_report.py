"""A probe's outcome as rows of a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import datetime
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.config import as_dict
from core.data import probe_tasks

if TYPE_CHECKING:
    from core.zero_shot import ZeroShot

FORMAT = 1  # of the JSON file


def title(report: ZeroShot) -> str:
    settings = report.settings
    part = f", {' and '.join(settings.slice)}" if settings.slice else ""
    drawn = f" (a sample of seed {settings.seed})" if settings.limit else ""
    return (
        f"{probe_tasks.load_task(settings.task).title}, {settings.split}{part}: "
        f"{len(report.items):,} items{drawn}, {settings.method}, norm {settings.norm}"
    )


def score_rows(report: ZeroShot) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the score table, in per cent; lines that a task lacks are left out."""
    optional = {
        "template": "by template",
        "calibrated": "calibrated",
        "linear_probe": "linear probe",
        "control": "its control",
    }
    shown = [
        name for name in optional if name in report.scores and report.scores[name].notna().any()
    ]
    columns = ("model", "right", "95 %", "chance", "majority", *(optional[name] for name in shown))
    rows = [
        (
            row["model"],
            _percent(row["accuracy"]),
            f"{_percent(row['low'])}–{_percent(row['high'])}",
            *(_percent(row[name]) for name in ("chance", "majority", *shown)),
        )
        for row in report.scores.to_dict("records")
    ]
    return columns, rows


def pair_rows(report: ZeroShot) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the paired tests: differences in points, p corrected over the pairs."""
    columns = ("one", "other", "difference (95 %)", "only one/other", "p", "p (Holm)")
    columns = (*columns, "detectable")
    rows = [
        (
            row["one"],
            row["other"],
            f"{100 * row['difference']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})",
            f"{row['only_one']}/{row['only_other']}",
            f"{row['p']:.2g}",
            f"{row['p_holm']:.2g}",
            _percent(row["detectable"]),
        )
        for row in report.pairs.to_dict("records")
    ]
    return columns, rows


def effort(report: ZeroShot) -> str:
    """What was computed, and how long it took."""
    texts = sum(len(item.choices) for item in report.items) * len(report.found)
    kept = f"{report.computed:,} of them scored now" if report.computed else "all kept from before"
    return f"{texts:,} texts, {kept}; {report.seconds:.1f} s"


def write_json(report: ZeroShot, path: Path) -> None:
    """Everything: settings, where it comes from, both tables, and each item's scores."""
    content = {
        "format": FORMAT,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "code": report.code,
        "settings": as_dict(report.settings),
        "items_hash": probe_tasks.items_hash(report.items),
        "count": len(report.items),
        "models": [{"name": name, "hash": own} for name, own in report.hashes.items()],
        "computed_texts": report.computed,
        "seconds": round(report.seconds, 3),
        "scores": report.scores.to_dict("records"),
        "pairs": report.pairs.to_dict("records"),
        "demo": report.demo,
        "items": [_item_json(report, row) for row in range(len(report.items))],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_plain(content), indent=1) + "\n", encoding="utf-8")


def _item_json(report: ZeroShot, row: int) -> dict:
    item = report.items[row]
    return {
        "item_id": item.item_id,
        "label": item.label,
        "answers": {
            each.model: {
                "choice": each.choice[row],
                "right": each.right[row],
                "margin": each.margin[row],
                "scores": each.scores[row],
            }
            for each in report.found
        },
    }


def write_csv(report: ZeroShot, path: Path) -> None:
    """One line per item and model, each with where it comes from."""
    settings = report.settings
    widest = max(len(item.choices) for item in report.items)
    columns = ["task", "split", "item_id", "label", "model", "choice", "right", "margin"]
    columns += [f"score_{number}" for number in range(widest)]
    columns += ["method", "norm", "seed", "limit", "model_hash", "items_hash", "code"]
    items_hash = probe_tasks.items_hash(report.items)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for each in report.found:
            tail = [settings.method, settings.norm, settings.seed, settings.limit]
            tail += [report.hashes[each.model], items_hash, report.code]
            for row, item in enumerate(report.items):
                scores = [*map(float, each.scores[row]), *[""] * (widest - len(each.scores[row]))]
                start = [item.task, settings.split, item.item_id, item.label, each.model]
                start += [int(each.choice[row]), int(each.right[row]), float(each.margin[row])]
                writer.writerow([*start, *scores, *tail])


def _percent(share: float) -> str:
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def _plain(value):
    """Numbers and lists that JSON knows; null for what is not a number."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
