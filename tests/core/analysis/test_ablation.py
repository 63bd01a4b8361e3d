"""The ablation's table from runs whose figures are known."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from core import config
from core.analysis import ablation, probing, statistics
from core.config import SettingsError

SEEDS = (0, 1, 2, 3, 4)
CELLS = {"text-only": 0.5, "nst+crd": 0.7, "soft_label": 0.53}
ITEMS, BLOCKS = 40, 10
PLAN = {"name": "p", "title": "A plan", "baseline": "text-only", "seeds": SEEDS}


def keep_figures(run: str, rate: float, rng) -> None:
    """Files as probe_run leaves them, with answers right at a rate."""
    for task in probing.TASKS:
        margins = np.where(rng.random(ITEMS) < rate, 1.0, -1.0)
        value = {"value": float((margins > 0).mean())}
        choice = {
            "accuracy": value,
            "calibrated": value,
            "item_ids": [f"{task}-{n}" for n in range(ITEMS)],
            "blocks": [f"b{n % BLOCKS}" for n in range(ITEMS)],
            "margins": margins.tolist(),
            "calibrated_margins": margins.tolist(),
        }
        probe = {"selectivity": rate - 0.5 + 0.01 * rng.normal()}
        path = probing.result_path(config.runs_root() / run, task)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"forced_choice": choice, "linear_probe": probe}))


@pytest.fixture
def table(workspace) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    runs = []
    for cell, rate in CELLS.items():
        for seed in SEEDS:
            keep_figures(f"{cell}.s{seed}", rate, rng)
            runs.append({"run": f"{cell}.s{seed}", "cell": cell, "seed": seed, "objectives": ""})
    ablation.write_ablation(PLAN, runs, [])
    return ablation.ablation_table("p")


def figures(metric: str, cell: str) -> list[float]:
    return [ablation.run_figures(f"{cell}.s{seed}")[metric] for seed in SEEDS]


PROBED = [m for m in ablation.METRICS if "grounding" not in m]  # these runs have no library


@pytest.mark.parametrize("metric", PROBED)
def test_every_row_agrees_with_scipy(table, metric):
    rows = table[table["metric"] == metric].set_index("cell")
    p_values = {}
    for cell in CELLS:
        values, control = figures(metric, cell), figures(metric, "text-only")
        assert rows.loc[cell, "mean"] == pytest.approx(np.mean(values))
        assert rows.loc[cell, "sd"] == pytest.approx(np.std(values, ddof=1))
        if cell != "text-only":
            wanted = stats.ttest_rel(values, control)
            interval = wanted.confidence_interval()
            assert rows.loc[cell, "p"] == pytest.approx(wanted.pvalue)
            assert rows.loc[cell, "difference_low"] == pytest.approx(interval.low)
            assert rows.loc[cell, "difference_high"] == pytest.approx(interval.high)
            p_values[cell] = wanted.pvalue
    corrected = multipletests([*p_values.values()], method="holm")[1]
    for cell, p in zip(p_values, corrected):
        assert rows.loc[cell, "p_holm"] == pytest.approx(p)


def test_items_are_compared_with_themselves_and_by_block(table):
    row = table[(table["metric"] == "physics") & (table["cell"] == "nst+crd")].iloc[0]
    kept = {
        cell: [
            json.loads(
                probing.result_path(config.runs_root() / f"{cell}.s{s}", "demo_physics").read_text()
            )["forced_choice"]
            for s in SEEDS
        ]
        for cell in ("nst+crd", "text-only")
    }
    right = {
        c: np.mean([np.array(k["margins"]) > 0 for k in runs], axis=0) for c, runs in kept.items()
    }
    mean = {c: np.mean([k["margins"] for k in runs], axis=0) > 0 for c, runs in kept.items()}
    differences = right["nst+crd"] - right["text-only"]
    # In the table items stand in order of their ids, and the resampling is of blocks by name.
    blocks = kept["nst+crd"][0]["blocks"]
    wanted = statistics.cluster_bootstrap_test(differences, blocks).p
    assert row["p_items"] == pytest.approx(wanted, abs=1e-9)
    one, other = mean["nst+crd"], mean["text-only"]
    wins, losses = int((one & ~other).sum()), int((~one & other).sum())
    exact = stats.binomtest(wins, wins + losses).pvalue
    assert row["p_mcnemar"] == pytest.approx(exact)
    assert table[table["metric"] == "physics, probe"]["p_items"].isna().all()


def test_the_best_cell_comes_first_and_the_baseline_is_not_tested(table):
    physics = table[table["metric"] == "physics"]
    assert physics.iloc[0]["cell"] == "nst+crd"
    assert physics["mean"].is_monotonic_decreasing
    assert table.loc[table["cell"] == "text-only", ["difference", "p"]].isna().all(axis=None)


def test_the_exports_say_what_the_table_says(table):
    folder = ablation.ablation_folder("p")
    read = pd.read_csv(folder / "table.csv")
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    row = table[(table["metric"] == "time") & (table["cell"] == "soft_label")].iloc[0]
    markdown = (folder / "table.md").read_text().split("## time\n")[1].split("## ")[0]
    (line,) = [x for x in markdown.splitlines() if x.startswith("| soft_label |")]
    assert f"| {100 * row['mean']:.1f} |" in line and f"| {row['p_holm']:.4f} |" in line
    latex = (folder / "table.tex").read_text()
    assert "soft\\_label & " in latex and latex.count("\\midrule") == len(PROBED)
    assert {len(x.split(" & ")) for x in latex.splitlines() if " & " in x} == {9}
    first = next(csv.DictReader(io.StringIO((folder / "runs.csv").read_text())))
    assert first["run"] == "text-only.s0"


def test_the_table_outlives_its_runs(table):
    import shutil

    for run in config.runs_root().glob("*.s[0-9]"):
        shutil.rmtree(run)
    pd.testing.assert_frame_equal(ablation.ablation_table("p"), table)
    (found,) = ablation.load_ablations()
    assert found.cells == tuple(CELLS) and found.seeds == SEEDS


def test_the_kept_table_is_the_one_that_would_be_computed(table):
    pd.testing.assert_frame_equal(ablation.load_table("p"), table, check_dtype=False)


def test_one_seed_has_no_test_over_seeds(workspace):
    runs = []
    for cell in ("text-only", "nst+crd"):
        keep_figures(f"{cell}.s0", 0.5, np.random.default_rng(0))
        runs.append({"run": f"{cell}.s0", "cell": cell, "seed": 0, "objectives": ""})
    ablation.write_ablation({**PLAN, "seeds": (0,)}, runs, [])
    table = ablation.ablation_table("p")
    assert table[["sd", "low", "p", "p_holm"]].isna().all(axis=None)
    assert "nan" not in (ablation.ablation_folder("p") / "table.md").read_text()


def test_what_is_missing_is_named(workspace):
    assert ablation.load_ablations() == []
    with pytest.raises(SettingsError, match="python -m core ablate nothing"):
        ablation.ablation_table("nothing")
    with pytest.raises(SettingsError, match="no figures of 'demo_physics'"):
        ablation.run_figures("nobody")
