"""The result of a grid of runs: one row per cell, each compared with the baseline.

    runs/ablations/<plan>/plan.json      the plan and the names of its runs
    runs/ablations/<plan>/runs.csv       every figure of every run
    runs/ablations/<plan>/items.parquet  every answer of every run
    runs/ablations/<plan>/table.{csv,md,tex}

Everything is made from what is kept in this folder: the table stands when its runs are gone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core import config
from core.analysis import evaluation, probing, statistics
from core.analysis.forced_choice import hit
from core.config import SettingsError

# What is measured: name -> (task or library, kind of figure, field). Guessing gives 0.5, of
# selectivity 0, and of grounding what `python -m core ground --evaluate` says.
METRICS = {
    "physics": ("demo_physics", "forced_choice", "accuracy"),
    "physics, calibrated": ("demo_physics", "forced_choice", "calibrated"),
    "time": ("demo_time", "forced_choice", "accuracy"),
    "time, calibrated": ("demo_time", "forced_choice", "calibrated"),
    "physics, probe": ("demo_physics", "linear_probe", "selectivity"),
    "time, probe": ("demo_time", "linear_probe", "selectivity"),
    "grounding, R@1": ("demo", "grounding", "R@1 things and actions"),
    "grounding, new words": ("demo", "grounding", "alignment_word_type_r2"),
}


@dataclass(frozen=True)
class Ablation:
    """A finished grid, as a list shows it."""

    name: str
    title: str
    baseline: str
    seeds: tuple[int, ...]
    cells: tuple[str, ...]


def ablation_folder(plan: str) -> Path:
    return config.runs_root() / "ablations" / plan


def load_ablations() -> list[Ablation]:
    """All grids with a result, by name."""
    found = []
    for path in sorted((config.runs_root() / "ablations").glob("*/plan.json")):
        if not (path.parent / "items.parquet").is_file():
            continue
        content = json.loads(path.read_text())
        plan = content["plan"]
        cells = tuple(dict.fromkeys(run["cell"] for run in content["runs"]))
        found.append(
            Ablation(plan["name"], plan["title"], plan["baseline"], tuple(plan["seeds"]), cells)
        )
    return found


def write_ablation(plan: dict, runs: Sequence[dict], teachers: Sequence[dict]) -> None:
    """Gather the runs' figures and write all files; each appears whole or not at all.

    `runs` are {run, cell, seed, objectives, teacher, steps}. Raises SettingsError for a run
    without figures.
    """
    folder = ablation_folder(plan["name"])
    folder.mkdir(parents=True, exist_ok=True)
    figures = pd.DataFrame([{**run, **run_figures(run["run"])} for run in runs])
    known = [{**run, **run_figures(run["run"])} for run in teachers]
    items = pd.concat([_answers(run) for run in runs], ignore_index=True)
    _write(folder / "runs.csv", figures.to_csv(index=False).encode())
    _write(folder / "teachers.csv", pd.DataFrame(known).to_csv(index=False).encode())
    _write(folder / "items.parquet", items.to_parquet(index=False))
    content = {"plan": plan, "runs": list(runs), "teachers": list(teachers)}
    _write(folder / "plan.json", (json.dumps(content, indent=1) + "\n").encode())
    table = ablation_table(plan["name"])
    _write(folder / "table.csv", table.to_csv(index=False).encode())
    _write(folder / "table.md", as_markdown(table, plan).encode())
    _write(folder / "table.tex", as_latex(table, plan).encode())


def run_figures(run: str) -> dict[str, float]:
    """A run's figure for each metric; NaN for grounding where no truth is known."""
    found = {}
    for name, (task, kind, field) in METRICS.items():
        if kind == "grounding":
            found[name] = _kept_grounding(run, task, field)
            continue
        value = _kept(run, task)[kind][field]
        found[name] = value["value"] if isinstance(value, dict) else value
    return found


def _kept_grounding(run: str, library: str, field: str) -> float:
    path = evaluation.report_path(config.runs_root() / run, library)
    if not path.is_file():
        return float("nan")
    report = json.loads(path.read_text())
    values = {figure["name"]: figure["value"] for figure in report["figures"]}
    values["alignment_word_type_r2"] = report["alignment_word_type_r2"]  # None for a teacher
    value = values.get(field)
    return float("nan") if value is None else value


def _answers(run: dict) -> pd.DataFrame:
    """One row per item of each task, with the run's margins."""
    parts = []
    for task in probing.TASKS:
        kept = _kept(run["run"], task)["forced_choice"]
        columns = {"cell": run["cell"], "seed": run["seed"], "task": task}
        columns |= {"item_id": kept["item_ids"], "block": kept["blocks"]}
        columns |= {name: kept[name] for name in ("margins", "calibrated_margins")}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts)


def _kept(run: str, task: str) -> dict:
    path = probing.result_path(config.runs_root() / run, task)
    if not path.is_file():
        raise SettingsError(f"Run '{run}' has no figures of '{task}'. Give: python -m core ablate")
    return json.loads(path.read_text())


# ---- the table -----------------------------------------------------------------------------


def ablation_table(plan: str) -> pd.DataFrame:
    """One row per metric and cell, best cell first, shares between 0 and 1.

    mean, sd, low, high        over seeds (t interval)
    difference, …_low, …_high  from the baseline with the same seed
    p, p_holm                  paired t over seeds, and corrected over the metric's cells
    p_items                    cluster bootstrap over the items' blocks, seeds averaged
    p_mcnemar                  exact, on the answers of the seeds' mean scores

    The probes have no items. With one seed there is no test over seeds, and its columns are NaN.
    """
    folder = ablation_folder(plan)
    if not (folder / "items.parquet").is_file():
        raise SettingsError(f"No ablation '{plan}'. Run: python -m core ablate {plan}")
    baseline = json.loads((folder / "plan.json").read_text())["plan"]["baseline"]
    figures = pd.read_csv(folder / "runs.csv", keep_default_na=False)
    items = pd.read_parquet(folder / "items.parquet")
    known = [m for m in METRICS if m in figures and pd.to_numeric(figures[m]).notna().all()]
    return pd.concat(
        [_metric_table(metric, figures, items, baseline) for metric in known], ignore_index=True
    )


def load_table(plan: str) -> pd.DataFrame:
    """`ablation_table` as `write_ablation` kept it: testing anew over the items takes seconds."""
    return pd.read_csv(ablation_folder(plan) / "table.csv")


def _metric_table(metric: str, figures, items, baseline: str) -> pd.DataFrame:
    by_seed = figures.pivot(index="seed", columns="cell", values=metric).astype(float)
    rows = []
    for cell in by_seed.columns:
        row = {"metric": metric, "cell": cell, **_spread(by_seed[cell].to_numpy())}
        if cell != baseline:
            row |= _against(by_seed[cell].to_numpy(), by_seed[baseline].to_numpy())
            row |= _over_items(metric, items, cell, baseline)
        rows.append(row)
    table = pd.DataFrame(rows)
    tested = table["p"].notna() if "p" in table else np.zeros(len(table), bool)
    table["p_holm"] = np.nan
    if tested.any():
        table.loc[tested, "p_holm"] = statistics.holm(table.loc[tested, "p"].tolist())
    return table.sort_values("mean", ascending=False, kind="stable")


def _spread(values: np.ndarray) -> dict:
    found = {"seeds": len(values), "mean": values.mean(), "sd": np.nan}
    if len(values) < 2:
        return found | {"low": np.nan, "high": np.nan}
    interval = statistics.mean_interval(values)
    return found | {"sd": values.std(ddof=1), "low": interval.low, "high": interval.high}


def _against(values: np.ndarray, baseline: np.ndarray) -> dict:
    found = {"difference": float((values - baseline).mean())}
    if len(values) < 2:
        return found | {"difference_low": np.nan, "difference_high": np.nan, "p": np.nan}
    test = statistics.paired_t(values, baseline)
    low, high = test.interval.low, test.interval.high
    return found | {"difference_low": low, "difference_high": high, "p": test.p}


def _over_items(metric: str, items: pd.DataFrame, cell: str, baseline: str) -> dict:
    task, kind, field = METRICS[metric]
    if kind != "forced_choice":
        return {"p_items": np.nan, "p_mcnemar": np.nan}
    margin = "margins" if field == "accuracy" else "calibrated_margins"
    own = items[items["task"] == task]
    rights, ensembles = [], []
    for name in (cell, baseline):
        table = own[own["cell"] == name].pivot(index="item_id", columns="seed", values=margin)
        rights.append(hit(table.to_numpy()).mean(axis=1))
        ensembles.append(table.to_numpy().mean(axis=1) > 0)
    blocks = own.drop_duplicates("item_id").set_index("item_id").loc[table.index, "block"]
    test = statistics.cluster_bootstrap_test(rights[0] - rights[1], blocks.tolist())
    return {"p_items": test.p, "p_mcnemar": statistics.mcnemar_exact(*ensembles)}


# ---- for people ----------------------------------------------------------------------------

_COLUMNS = ("cell", "mean", "95 % interval", "difference", "95 % interval", "p", "p (Holm)")
_COLUMNS = (*_COLUMNS, "p (items)", "p (McNemar)")


def as_markdown(table: pd.DataFrame, plan: dict) -> str:
    """The table with one section per metric, in per cent."""
    lines = [f"# {plan['title'] or plan['name']}", "", _caption(plan)]
    for metric, rows in table.groupby("metric", sort=False):
        lines += ["", f"## {metric}", "", _markdown_row(_COLUMNS)]
        lines.append(_markdown_row(["---"] + ["---:"] * (len(_COLUMNS) - 1)))
        lines += [_markdown_row(_cells(row)) for row in rows.to_dict("records")]
    return "\n".join(lines) + "\n"


def as_latex(table: pd.DataFrame, plan: dict) -> str:
    """The table for \\input, with booktabs rules."""
    columns = "l" + "r" * (len(_COLUMNS) - 1)
    lines = [f"% {_caption(plan)}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    lines.append(_latex_row(_COLUMNS))
    for metric, rows in table.groupby("metric", sort=False):
        lines += ["\\midrule", f"\\multicolumn{{{len(_COLUMNS)}}}{{l}}{{{_latex(metric)}}} \\\\"]
        lines += [_latex_row(_cells(row)) for row in rows.to_dict("records")]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _caption(plan: dict) -> str:
    count = len(plan["seeds"])
    return (
        f"Per cent; {count} seed{'s' * (count != 1)}, differences from '{plan['baseline']}' at the "
        "same seed, p by paired t over seeds, Holm's correction over the cells of a metric. "
        "Probes are selectivity: accuracy minus that of the control task. Grounding is on held-out "
        "videos; 'new words' is the variance that the map into the joint space explains of words "
        "left out of its fit."
    )


def _cells(row: dict) -> list[str]:
    return [
        row["cell"],
        _percent(row["mean"]),
        _range(row["low"], row["high"]),
        _percent(row.get("difference"), sign=True),
        _range(row.get("difference_low"), row.get("difference_high"), sign=True),
        *(_p(row.get(name)) for name in ("p", "p_holm", "p_items", "p_mcnemar")),
    ]


def _percent(value, sign: bool = False) -> str:
    if value is None or np.isnan(value):
        return ""
    return f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"


def _range(low, high, sign: bool = False) -> str:
    return f"{_percent(low, sign)} to {_percent(high, sign)}" if _percent(low) else ""


def _p(value) -> str:
    if value is None or np.isnan(value):
        return ""
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_latex(cell) for cell in cells) + " \\\\"


def _latex(text: str) -> str:
    text = str(text).replace("<", "$<$")
    for sign in "%_&#":
        text = text.replace(sign, f"\\{sign}")
    return text


def _write(path: Path, content: bytes) -> None:
    from core.models.run_folder import write_bytes

    write_bytes(path, content)
