"""Killing the demo while its students train leaves nobody at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.config import REPO_ROOT, runs_root
from core.demo import STUDENTS
from core.models.run_folder import RunFolder

SCRIPT = Path(__file__).with_name("demo_students.py")


@pytest.fixture
def students(saved):
    """The demo's own stage, two lanes for four students that would train for hours."""
    saved.teacher("demo-teacher")
    paths = os.pathsep.join([str(REPO_ROOT), str(SCRIPT.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(SCRIPT)], env=environment)
    yield process
    process.kill()
    process.wait()


def training() -> dict[str, int]:
    """Process ids of the students that have made a step."""
    names = [name for name in STUDENTS if (runs_root() / name / "metrics.jsonl").is_file()]
    return {name: RunFolder.open(name).status["pid"] for name in names}


def wait_until(found, what: str, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)
    return value


def is_gone(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # dead, though nobody has asked for it yet


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_students_stop_with_a_checkpoint_when_the_demo_is_killed(students, number):
    two = wait_until(lambda: len(found := training()) == 2 and found, "two students in training")
    assert not any(map(is_gone, two.values()))
    students.send_signal(number)
    wait_until(lambda: all(map(is_gone, two.values())), "workers gone", seconds=30)
    assert training().keys() == two.keys()  # and no other student was begun
    for name in two:
        run = RunFolder.open(name)
        assert run.status["state"] == "stopped"
        assert list(run.checkpoints.glob("step-*"))
