"""The ablation runner: plans are checked, runs are made once, and a stopped grid goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import yaml
from conftest import living_in
from training_settings import TEACHER, TEXT

from core import config
from core.analysis import ablation
from core.config import SettingsError
from core.data.demo_items import write_physics_items, write_time_items
from core.models.run_folder import RunFolder, list_runs
from core.training import ablate as grid

STUDENT = {
    **{f"text.{key}": value for key, value in dataclasses.asdict(TEXT).items()},
    "training.steps": 4,
    "training.batch_size": 8,
    "training.evaluate_every": 4,
}
CONTENT = {
    "seeds": [0, 1],
    "teachers": {"tiny": {"run": TEACHER.name}},
    "student": STUDENT,
    "students": {"text-only": {"objectives": "none"}, "nst+crd": {"objectives": ["nst", "crd"]}},
}


@pytest.fixture
def home(tiny_home, tmp_path):
    """A copy of the tiny home with a few items to be probed on."""
    shutil.copytree(tiny_home, tmp_path / "home")
    with living_in(tmp_path / "home") as place:
        folder = config.library_root("demo") / "demo"
        folder.mkdir(parents=True)
        tasks = {"demo_physics": write_physics_items(80, 0), "demo_time": write_time_items(84, 0)}
        for task, items in tasks.items():
            lines = [json.dumps(dataclasses.asdict(item)) for item in items]
            (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n")
        yield place


@pytest.fixture
def plan_file(home):
    def write(name="grid", **changes):
        content = {**CONTENT, **changes}
        content["student"] = {"corpus": str(home / "corpus.txt"), **content["student"]}
        path = home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


def trained_at(run: str) -> float:
    return (RunFolder.open(run).path / "model.safetensors").stat().st_mtime_ns


def test_a_grid_is_trained_once_and_what_is_missing_is_made_again(plan_file):
    plan = grid.load_plan(plan_file())
    names = {"grid.text-only.s0", "grid.text-only.s1", "grid.nst-crd.s0", "grid.nst-crd.s1"}
    assert {job.name for job in grid.jobs(plan)} == names
    folder = grid.ablate(plan, workers=0)
    assert names < {run.name for run in list_runs()}
    before = {name: trained_at(name) for name in names}
    table = (folder / "table.csv").read_bytes()

    messages = []
    grid.ablate(plan, workers=0, progress=lambda *message: messages.append(message))
    assert messages == [(4, 4, "4 runs are there")]
    assert {name: trained_at(name) for name in names} == before

    shutil.rmtree(config.runs_root() / "grid.nst-crd.s1")
    grid.ablate(plan, workers=0)
    after = {name: trained_at(name) for name in names}
    assert {name for name in names if after[name] != before[name]} == {"grid.nst-crd.s1"}
    assert (folder / "table.csv").read_bytes() == table  # the same seed gives the same run


def test_runs_with_other_settings_are_no_result_of_this_plan(plan_file):
    grid.ablate(grid.load_plan(plan_file()), workers=0)
    longer = grid.load_plan(plan_file(), ["student.training.steps=5"])
    assert not any(grid.is_done(job) for job in grid.jobs(longer))
    with pytest.raises(grid.AblationFailed, match="steps: 4 -> 5"):
        grid.ablate(longer, workers=0)


def test_a_run_without_its_figures_is_probed_and_not_trained_again(plan_file):
    plan = grid.load_plan(plan_file(), ["seeds=0"])
    grid.ablate(plan, workers=0)
    run = RunFolder.open("grid.text-only.s0")
    kept = run.path / "probes" / "demo_physics.json"
    figures, trained = kept.read_bytes(), trained_at(run.name)
    kept.unlink()
    grid.ablate(plan, workers=0)
    assert kept.read_bytes() == figures
    assert trained_at(run.name) == trained


def test_a_failing_cell_leaves_the_others_finished(plan_file):
    students = {**CONTENT["students"], "bad": {"objectives": "nst", "corpus": "nowhere.txt"}}
    with pytest.raises(grid.AblationFailed, match=r"2 of 6 runs failed.*nowhere\.txt"):
        grid.ablate(grid.load_plan(plan_file(students=students)), workers=0)
    assert RunFolder.open("grid.nst-crd.s1").status["state"] == "finished"


def test_the_table_compares_every_cell_with_the_baseline(plan_file):
    folder = grid.ablate(grid.load_plan(plan_file()), workers=0)
    (found,) = ablation.load_ablations()
    assert (found.name, found.cells) == ("grid", ("text-only", "nst+crd"))
    table = ablation.ablation_table("grid")
    # Of this corpus nobody knows what the words name.
    assert set(table["metric"]) == {m for m in ablation.METRICS if "grounding" not in m}
    tested = table[table["cell"] == "nst+crd"]
    assert tested["p"].between(0, 1).all() and (tested["p_holm"] >= tested["p"]).all()
    assert table.loc[table["cell"] == "text-only", "p"].isna().all()
    assert "nst+crd" in (folder / "table.md").read_text()
    assert "\\toprule" in (folder / "table.tex").read_text()


def test_mistakes_in_a_plan_are_told_before_anything_is_trained(plan_file):
    with pytest.raises(SettingsError, match="Did you mean 'training.learning_rate'"):
        grid.load_plan(plan_file(), ["student.lerning_rate=1"])
    with pytest.raises(SettingsError, match="compares with 'text-only'"):
        grid.load_plan(plan_file(students={"nst": {"objectives": "nst"}}))
    with pytest.raises(SettingsError, match="Unknown setting 'studens'"):
        grid.load_plan(plan_file(studens={}))
    with pytest.raises(SettingsError, match="Rename one"):
        both = {"text-only": {}, "a+b": {"objectives": "nst"}, "a-b": {"objectives": "crd"}}
        grid.load_plan(plan_file(students=both))
    with pytest.raises(SettingsError, match="of tokens only"):
        grid.load_plan(plan_file(teachers={"sentence": {"contrast_level": "sentence"}}))
    with pytest.raises(SettingsError, match="one of: .*objectives"):
        grid.load_plan("no-such-plan")


@pytest.mark.parametrize("name", sorted(path.stem for path in grid.PLANS.glob("*.yaml")))
def test_shipped_plans_are_whole(name):
    plan = grid.load_plan(name)
    assert len(plan.seeds) == 5 and plan.title
    control = next(job for job in grid.jobs(plan) if job.cell == plan.baseline)
    students = [j for j in grid.jobs(plan) if j.after]
    assert control.settings.objectives == ()
    # The control always gets the same steps on the same data.
    assert {job.settings.training.steps for job in students} == {control.settings.training.steps}
    assert {job.settings.corpus for job in students} == {"demo"}


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_the_same_command_goes_on(plan_file, home):
    student = {**STUDENT, "training.steps": 400, "training.checkpoint_every": 1000}
    command = [sys.executable, "-m", "core", "ablate", str(plan_file(student=student))]
    environment = {**os.environ, "VIDLANKD_HOME": str(home), "OMP_NUM_THREADS": "1"}
    # A test run in the background may have inherited "ignore SIGINT", and would pass it on.
    hear = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    options = {"cwd": config.REPO_ROOT, "env": environment, "text": True, "preexec_fn": hear}
    first = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, **options)
    metrics = config.runs_root() / "grid.text-only.s0" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text().count("\n") > 2):
        assert first.poll() is None and time.monotonic() < until, "training never began"
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)  # to the parent alone, as `kill -INT` does
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 130 and "Stopped with" in errors
    run = RunFolder.open("grid.text-only.s0")
    assert run.status["state"] == "stopped" and run.status["step"] < 400
    stopped_at = run.status["step"]
    second = subprocess.run([*command, "--workers", "2"], capture_output=True, **options)
    assert second.returncode == 0, second.stderr
    steps = [line["step"] for line in run.metrics() if line["split"] == "train"]
    assert run.status["state"] == "finished" and steps == sorted(set(steps))
    assert stopped_at > 0 and "Written to" in second.stdout


@pytest.mark.slow
def test_where_the_truth_is_known_grounding_is_a_column(tiny_demo, tmp_path):
    shutil.copytree(tiny_demo, tmp_path / "home")
    with living_in(tmp_path / "home"):
        students = {"text-only": {"objectives": "none"}, "crd": {"objectives": "crd"}}
        content = {"name": "grounded", "seeds": [0, 1], "students": students}
        content["teachers"] = {"demo": {"run": "demo-teacher"}}
        content["student"] = {"training.steps": 20, "training.evaluate_every": 20}
        path = tmp_path / "grounded.yaml"
        path.write_text(yaml.safe_dump(content))
        plan = grid.load_plan(path)
        grid.ablate(plan, workers=0)
        table = ablation.load_table("grounded")
        assert set(table["metric"]) == set(ablation.METRICS)
        kept = json.loads((config.runs_root() / "grounded.crd.s1/grounding/demo.json").read_text())
        shown = table[(table["metric"] == "grounding, R@1") & (table["cell"] == "crd")]
        values = [
            json.loads((config.runs_root() / f"grounded.crd.s{s}/grounding/demo.json").read_text())
            for s in (0, 1)
        ]
        by_name = [{f["name"]: f["value"] for f in v["figures"]} for v in values]
        wanted = sum(f["R@1 things and actions"] for f in by_name) / 2
        assert kept["split"] == "held-out" and shown["mean"].item() == pytest.approx(wanted)
        assert all(grid.is_done(job) for job in grid.jobs(plan))
        (config.runs_root() / "grounded.crd.s1/grounding/demo.json").unlink()
        assert not all(grid.is_done(job) for job in grid.jobs(plan))
