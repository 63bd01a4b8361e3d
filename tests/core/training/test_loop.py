"""The loop: exact resume, honest failure, and the same arithmetic in any number of pieces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from loop_task import Fitting, fit
from safetensors.torch import load_file

from core.config import REPO_ROOT, SettingsError, TrainingSettings
from core.models.run_folder import RunError, RunFolder, list_runs
from core.training.checkpoint import latest_checkpoint
from core.training.loop import (
    RowOrder,
    TrainingFailed,
    TrainingStopped,
    learning_rate,
    make_accelerator,
    snapshot_steps,
)

SCRIPT = Path(__file__).with_name("loop_task.py")
VOLATILE = ("elapsed_sec", "tokens_per_sec")


def curves(run: RunFolder) -> list[dict]:
    """Logged lines without what depends on the clock."""
    return [{k: v for k, v in line.items() if k not in VOLATILE} for line in run.metrics()]


def snapshots(run: RunFolder) -> dict[int, str]:
    return {s.step: s.weights_hash() for s in run.snapshots()}


def start(home: Path, name: str, *more: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(REPO_ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(SCRIPT), str(home), name, *more]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_step(run: RunFolder, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(line["step"] >= step for line in run.metrics()):
            return
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        time.sleep(0.01)
    raise AssertionError(f"no step {step} within a minute")


class StopAt:
    """Sends this process a signal when training reports a step."""

    def __init__(self, step: int, number: int = signal.SIGINT):
        self.step, self.number = step, number

    def __call__(self, done, total, message):
        if done == self.step:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    home = tmp_path_factory.mktemp("undisturbed")
    before = os.environ.get("VIDLANKD_HOME")
    os.environ["VIDLANKD_HOME"] = str(home)
    yield fit("whole")
    os.environ.pop("VIDLANKD_HOME")
    if before:
        os.environ["VIDLANKD_HOME"] = before


def test_the_loss_falls_and_the_run_tells_its_story(undisturbed):
    lines = undisturbed.metrics()
    train_lines = [x for x in lines if x["split"] == "train"]
    assert [x["step"] for x in train_lines] == list(range(5, 41, 5))
    assert [x["step"] for x in lines if x["split"] == "validation"] == [10, 20, 30, 40]
    assert train_lines[-1]["loss"] < train_lines[0]["loss"]
    last = train_lines[-1]
    assert set(last["terms"]) == {"fit", "kept"}
    assert last["loss"] == pytest.approx(last["terms"]["fit"] + 0.5 * last["terms"]["kept"])
    assert last["tokens_per_sec"] > 0 and last["grad_norm"] > 0
    assert undisturbed.status["state"] == "finished"
    assert not undisturbed.checkpoints.exists()


def test_snapshots_are_the_weights_on_the_way(undisturbed, workspace):
    assert [s.step for s in undisturbed.snapshots()] == [10, 20, 30]
    assert len(set(snapshots(undisturbed).values())) == 3
    # Stopped at a snapshot's step, a run's checkpoint holds the same weights.
    with pytest.raises(TrainingStopped):
        fit("half", progress=StopAt(20))
    run = RunFolder.open("half")
    weights = load_file(latest_checkpoint(run.checkpoints) / "task.safetensors")
    kept = run.snapshot(20).load_weights()
    assert kept and all(torch.equal(kept[name], weights[f"net.{name}"]) for name in kept)


def test_snapshots_change_nothing_and_may_be_left_out(undisturbed, workspace):
    run = fit("none", snapshots=0)
    assert run.snapshots() == [] and not (run.path / "snapshots").exists()
    assert run.weights_hash() == undisturbed.weights_hash() and curves(run) == curves(undisturbed)


def test_snapshots_are_spread_evenly_and_never_the_first_or_last_step():
    assert snapshot_steps(TrainingSettings(steps=300, snapshots=1)) == (150,)
    assert snapshot_steps(TrainingSettings(steps=400, snapshots=3)) == (100, 200, 300)
    assert snapshot_steps(TrainingSettings(steps=2, snapshots=5)) == (1,)
    assert snapshot_steps(TrainingSettings(steps=1, snapshots=3)) == ()


def test_gradient_norms_are_those_of_each_weighted_term(workspace):
    with pytest.raises(TrainingStopped):
        fit("pulled", progress=StopAt(10))
    run = RunFolder.open("pulled")
    line = next(x for x in run.metrics() if x["split"] == "validation")
    task = Fitting()
    task.load_state_dict(load_file(latest_checkpoint(run.checkpoints) / "task.safetensors"))
    batch = task.batch(RowOrder(task.num_rows, 16, seed=0).batch(10), None, None)
    for name, weight in task.weights.items():
        task.zero_grad()
        (weight * task.eval()(batch)[name]).backward()
        squares = sum(float(p.grad.double().square().sum()) for p in task.parameters())
        assert line["grad_norms"][name] == pytest.approx(squares**0.5, rel=1e-5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_to_the_same_end(undisturbed, workspace, number):
    with pytest.raises(TrainingStopped, match="Stopped at step 15 of 40"):
        fit("cut", progress=StopAt(15, number))
    run = RunFolder.open("cut")
    assert run.status["state"] == "stopped" and not run.has_weights
    assert latest_checkpoint(run.checkpoints).name == "step-00000015"
    fit("cut")
    assert run.status["state"] == "finished"
    assert curves(run) == curves(undisturbed)
    assert run.weights_hash() == undisturbed.weights_hash()


def test_a_killed_run_goes_on_to_the_same_end(undisturbed, workspace):
    for step in (5, 20):  # the second kill falls between two snapshots
        process = start(workspace, "killed", "--sleep", "0.02")
        wait_for_step(RunFolder(workspace / "runs" / "killed"), step, process)
        process.kill()
        process.communicate()
        assert [run.state for run in list_runs()] == ["interrupted"]
    process = start(workspace, "killed")
    assert process.wait(60) == 0, process.communicate()[1]
    run = RunFolder.open("killed")
    assert curves(run) == curves(undisturbed)
    assert run.weights_hash() == undisturbed.weights_hash()
    assert snapshots(run) == snapshots(undisturbed)


def test_a_half_written_checkpoint_is_passed_over(undisturbed, workspace):
    with pytest.raises(TrainingStopped):
        fit("torn", progress=StopAt(20))
    run = RunFolder.open("torn")
    torn = run.checkpoints / ".step-00000030.99"  # as a kill during writing leaves it
    torn.mkdir()
    (torn / "task.safetensors").write_bytes(b"half")
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 25, "split": "tr')
    fit("torn")
    assert curves(run) == curves(undisturbed)
    assert run.weights_hash() == undisturbed.weights_hash()


def test_a_finished_run_is_left_alone(undisturbed, workspace):
    run = fit("done")
    before = {p.name: p.stat().st_mtime_ns for p in run.path.iterdir() if p.is_file()}
    fit("done")
    assert {p.name: p.stat().st_mtime_ns for p in run.path.iterdir() if p.is_file()} == before


def test_other_settings_are_refused_by_name_but_threads_may_change(workspace):
    fit("settled")
    with pytest.raises(RunError, match=r"training\.learning_rate: 0\.01 -> 0\.5.*another --name"):
        fit("settled", learning_rate=0.5)
    fit("settled", num_threads=1)
    fit("settled", snapshots=0)


def test_nan_stops_the_run_and_names_step_and_term(workspace):
    with pytest.raises(TrainingFailed, match=r"Step 13: kept is nan"):
        fit("sick", {"poison": 13})
    run = RunFolder.open("sick")
    assert run.status["state"] == "failed"
    assert run.status["reason"] == "Step 13: kept is nan."
    saved = latest_checkpoint(run.checkpoints)
    assert json.loads((saved / "state.json").read_text())["step"] == 7


def test_another_fault_is_recorded_and_shown(workspace):
    def stumble(done, total, message):
        if done == 10:
            raise ZeroDivisionError("stumbled")

    with pytest.raises(ZeroDivisionError):
        fit("faulty", progress=stumble)
    assert RunFolder.open("faulty").status["reason"] == "ZeroDivisionError: stumbled"
    fit("faulty")
    assert RunFolder.open("faulty").status["state"] == "finished"


def test_early_stop_exports_the_best_weights(workspace):
    run = fit("early", steps=400, learning_rate=0.3, schedule="constant", patience=2)
    losses = {x["step"]: x["loss"] for x in run.metrics() if x["split"] == "validation"}
    best = min(losses, key=losses.get)
    assert run.status["step"] < 400 and run.status["state"] == "finished"
    assert run.provenance["exported_step"] == best
    assert run.status["reason"] == f"early stop, best at step {best}"
    short = fit("short", steps=400, learning_rate=0.3, schedule="constant", patience=2)
    assert short.weights_hash() == run.weights_hash()


def test_accumulated_batches_weigh_by_items_not_by_batches(workspace, monkeypatch):
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, states: states)
    whole = fit("whole-batch", batch_size=32, steps=12)
    parts = fit("accumulated", batch_size=8, gradient_accumulation=4, steps=12)
    # The same rows a step: batch 8 at four micro-steps walks the epoch in the same order.
    first, second = whole.load_weights(), parts.load_weights()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def test_two_processes_on_a_run_are_refused(workspace):
    process = start(workspace, "busy", "--sleep", "0.05")
    wait_for_step(RunFolder(workspace / "runs" / "busy"), 5, process)
    assert list_runs()[0].state == "running"
    with pytest.raises(TrainingFailed, match=f"being trained by process {process.pid}"):
        fit("busy")
    process.terminate()
    process.communicate(timeout=60)
    assert RunFolder.open("busy").status["state"] == "stopped"


@pytest.mark.slow
def test_two_ranks_train_as_one_process(workspace):
    one = start(workspace, "one", "--batch", "16", "--no-dropout")
    assert one.wait(120) == 0, one.communicate()[1]
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    two = start(workspace, "two", "--batch", "8", "--no-dropout", launcher=launcher)
    assert two.wait(120) == 0, two.communicate()[1]
    for a, b in zip(RunFolder.open("one").metrics(), RunFolder.open("two").metrics()):
        assert a["step"] == b["step"] and a["split"] == b["split"]
        assert a["terms"] == pytest.approx(b["terms"], abs=1e-4)
        if "grad_norms" in a:
            assert a["grad_norms"] == pytest.approx(b["grad_norms"], rel=1e-3, abs=1e-4)


def test_a_lonely_process_where_two_were_wanted_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # without a rank and a master: no group is formed
    with pytest.raises((TrainingFailed, ValueError)):
        make_accelerator(TrainingSettings())


def test_every_row_is_seen_once_an_epoch_whatever_the_lengths():
    lengths = np.random.default_rng(0).integers(3, 60, size=101)
    order = RowOrder(101, 10, seed=3, lengths=lengths)
    for epoch in range(3):
        batches = [order.batch(epoch * 10 + i) for i in range(10)]
        rows = np.concatenate(batches)
        assert len(set(rows.tolist())) == 100
        spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
        assert spread < 15  # mixed batches spread over about 50
    assert np.array_equal(RowOrder(101, 10, 3, lengths).batch(25), order.batch(25))
    assert not np.array_equal(RowOrder(101, 10, 4, lengths).batch(25), order.batch(25))


def test_fewer_rows_than_a_batch_make_one_batch():
    assert sorted(RowOrder(5, 64, 0).batch(7).tolist()) == [0, 1, 2, 3, 4]


def test_schedules_warm_up_and_come_down():
    for schedule, middle in [("linear", 0.5), ("cosine", 0.5), ("constant", 1.0)]:
        settings = TrainingSettings(
            steps=110, warmup_steps=10, learning_rate=1.0, schedule=schedule
        )
        assert learning_rate(settings, 0) == pytest.approx(0.1)
        assert learning_rate(settings, 10) == pytest.approx(1.0)
        assert learning_rate(settings, 60) == pytest.approx(middle)


def test_impossible_settings_say_what_is_wanted(workspace):
    with pytest.raises(SettingsError, match="linear, cosine or constant, found 'stairs'"):
        fit("x", schedule="stairs")
    with pytest.raises(SettingsError, match="batch_size of 1 or more"):
        fit("y", batch_size=0)
    with pytest.raises(SettingsError, match="mixed_precision"):
        fit("z", mixed_precision="fp8")
