"""RunFolder: what others read of a run, without torch and without being fooled."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
import torch

from core.config import REPO_ROOT, DistillSettings, SettingsError, TeacherSettings
from core.models.run_folder import RunError, RunFolder, list_runs, write_json


def make(name="one", **settings):
    return RunFolder.create(
        "teacher", TeacherSettings(name=name, **settings), {"created": name, "inputs": {"a": 1}}
    )


def test_a_new_run_opens_with_its_settings(workspace):
    make(library="kitchen")
    run = RunFolder.open("one")
    assert run.kind == "teacher" and run.settings == TeacherSettings(name="one", library="kitchen")
    assert run.info().state == "interrupted" and run.metrics() == []


def test_students_tell_their_objectives_and_teacher(workspace):
    settings = DistillSettings(name="s", objectives=("nst",), weights=(2.0,))
    RunFolder.create("student", settings, {"created": "", "inputs": {}, "teacher": {"name": "t"}})
    assert RunFolder.open("s").settings == settings
    assert list_runs()[0].objectives == ("nst",) and list_runs()[0].teacher == "t"


def test_reading_runs_needs_no_torch(workspace):
    run = make()
    run.append_metrics({"step": 1})
    code = (
        "import sys; from core.models.run_folder import RunFolder, list_runs;"
        "assert list_runs()[0].name == 'one' and RunFolder.open('one').metrics();"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    environment = {**os.environ, "VIDLANKD_HOME": str(workspace)}
    subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, env=environment, check=True)


def test_a_run_made_before_a_setting_existed_goes_on_with_its_default(workspace):
    run = make()
    path = run.path / "settings.json"
    content = json.loads(path.read_text())
    del content["settings"]["feature_dropout"], content["settings"]["training"]["snapshots"]
    write_json(path, content)
    assert make().path == run.path
    with pytest.raises(RunError, match="feature_dropout: 0.0 -> 0.5"):
        make(feature_dropout=0.5)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 101, "-flag"])
def test_names_that_leave_the_folder_are_refused(workspace, name):
    with pytest.raises(SettingsError, match="run's name"):
        make(name)


def test_an_unknown_run_names_the_known_ones(workspace):
    make("kitchen-teacher")
    with pytest.raises(RunError, match="No run 'other'.*kitchen-teacher"):
        RunFolder.open("other")


def test_a_run_without_weights_says_how_far_it_is(workspace):
    run = make()
    run.write_status("stopped", 30, 100)
    with pytest.raises(RunError, match="stopped at step 30 of 100"):
        run.weights_hash()


def test_running_is_believed_only_of_a_live_process_with_a_fresh_heartbeat(workspace):
    run = make()
    run.write_status("running", 3, 10)
    assert run.status["state"] == "running"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    status = {**run.status, "pid": dead.pid}
    write_json(run.path / "status.json", status)
    assert run.status["state"] == "interrupted"
    elsewhere = {**status, "host": "another-host"}
    write_json(run.path / "status.json", elsewhere)
    assert run.status["state"] == "running"  # its process cannot be seen; its heartbeat is fresh
    write_json(run.path / "status.json", {**elsewhere, "updated_at": time.time() - 3600})
    assert run.status["state"] == "interrupted"
    assert socket.gethostname() != "another-host"


def test_changed_data_is_refused(workspace):
    make()
    with pytest.raises(RunError, match="other data: a changed"):
        RunFolder.create("teacher", TeacherSettings(name="one"), {"inputs": {"a": 2}})


def test_a_line_being_written_is_left_out(workspace):
    run = make()
    run.append_metrics({"step": 1})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert run.metrics() == [{"step": 1}]
    run.cut_metrics(1)
    run.append_metrics({"step": 2})
    assert [line["step"] for line in run.metrics()] == [1, 2]


def test_weights_come_back_as_float32_and_change_the_hash(workspace):
    run = make()
    run.save_weights({"a": torch.tensor([1.0, 2.5]), "n": torch.tensor([3])}, "float16")
    loaded = run.load_weights()
    assert loaded["a"].dtype == torch.float32 and loaded["a"].tolist() == [1.0, 2.5]
    assert loaded["n"].dtype == torch.int64
    before = run.weights_hash()
    run.save_weights({"a": torch.tensor([1.0, 3.5])}, "float16")
    assert run.weights_hash() != before


def test_foreign_folders_are_no_runs(workspace):
    make()
    (workspace / "runs" / "notes").mkdir()
    broken = workspace / "runs" / "broken"
    broken.mkdir()
    (broken / "settings.json").write_text("{")
    shutil.copytree(workspace / "runs" / "one", workspace / "runs" / ".set-aside")
    assert [run.name for run in list_runs()] == ["one"]
