"""Several processes train as one does on the same global batch: every loss, every gradient."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.config import REPO_ROOT
from core.models.run_folder import RunFolder

SCRIPT = Path(__file__).with_name("rank_run.py")
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def train(home: Path, kind: str, name: str, rows: int, launcher=()) -> RunFolder:
    paths = os.pathsep.join([str(REPO_ROOT), str(SCRIPT.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(SCRIPT), str(home), kind, name, str(rows)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return RunFolder.open(name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["teacher", "student", "student-of-cached"])
def test_two_ranks_have_the_losses_and_weights_of_one_process(in_tiny_home, kind):
    one = train(in_tiny_home, kind, f"one-{kind}", 32)
    two = train(in_tiny_home, kind, f"two-{kind}", 16, TWO)
    pairs = [(a, b) for a, b in zip(one.metrics(), two.metrics()) if a["split"] == "train"]
    assert len(pairs) == 20
    for a, b in pairs:
        assert a["terms"] == pytest.approx(b["terms"], abs=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
    first, second = one.load_weights(), two.load_weights()
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=2e-3, rtol=1e-2)
