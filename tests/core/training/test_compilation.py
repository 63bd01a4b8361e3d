"""Compiled layers compute and keep what plain ones do."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
import torch
from loop_task import fit
from training_settings import TEACHER, TEXT

from core.config import REPO_ROOT, DistillSettings, SettingsError
from core.models.run_folder import RunFolder
from core.training.distill_student import distill
from core.training.loop import TrainingStopped

TRAINING = dataclasses.replace(
    TEACHER.training, steps=12, log_every=1, evaluate_every=6, checkpoint_every=4, compile=True
)


@pytest.fixture(autouse=True)
def afresh():
    yield
    torch.compiler.reset()


def student(home, name: str, compiled: bool) -> DistillSettings:
    return DistillSettings(
        name=name,
        teacher=TEACHER.name,
        corpus=str(home / "corpus.txt"),
        text=dataclasses.replace(TEXT, num_layers=2, hidden_size=32),
        training=dataclasses.replace(TRAINING, compile=compiled),
    )


@pytest.mark.slow
def test_a_compiled_student_walks_the_plain_ones_way_through_a_stop(in_tiny_home):
    """Same losses with dropout, same checkpoint, same names; stopped compiled, continued plain."""
    plain = distill(student(in_tiny_home, "plain", False))

    def stop(done, *_):
        if done == 5:
            os.kill(os.getpid(), signal.SIGINT)

    settings = student(in_tiny_home, "compiled", True)
    with pytest.raises(TrainingStopped):
        distill(settings, stop)
    checkpoint = RunFolder.open("compiled").checkpoints
    assert any(checkpoint.glob("step-*"))
    run = distill(settings)
    pairs = list(zip(plain.metrics(), run.metrics()))
    assert len(pairs) == len(plain.metrics()) == len(run.metrics())
    for a, b in pairs:
        assert (a["step"], a["split"]) == (b["step"], b["split"])
        assert a["terms"] == pytest.approx(b["terms"], rel=1e-3, abs=1e-4)
    one, two = plain.load_weights(), run.load_weights()
    assert one.keys() == two.keys() and not any("_orig_mod" in name for name in two)
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-3, rtol=1e-2)


@pytest.mark.slow
def test_a_run_begun_compiled_goes_on_without(in_tiny_home):
    settings = student(in_tiny_home, "half-compiled", True)
    with pytest.raises(TrainingStopped):
        distill(settings, lambda done, *_: done == 5 and os.kill(os.getpid(), signal.SIGINT))
    run = distill(student(in_tiny_home, "half-compiled", False))
    assert run.status["state"] == "finished"


def test_a_task_without_our_layers_is_refused(workspace):
    with pytest.raises(SettingsError, match="found none. Give: --set compile=false"):
        fit("nothing-to-compile", compile=True)


@pytest.mark.slow
def test_without_a_compiler_the_error_says_what_to_do(tmp_path):
    code = (
        "import torch; from core.training.compilation import check_compiler;"
        "check_compiler(torch.device('cpu'))"
    )
    environment = os.environ | {
        "CXX": "no-such-compiler",
        "PATH": str(tmp_path),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO_ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode
    assert "SettingsError: torch.compile does not work here" in done.stderr
    assert "g++" in done.stderr and "--set compile=false" in done.stderr
