"""Workers may be killed or fail; jobs get done, faults are told, nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from core.config import REPO_ROOT
from core.extraction.worker_pool import WorkerError, run_jobs

WORKER = """
import os, signal, sys, time
from pathlib import Path
from core.extraction.worker_pool import serve

def start(setup):
    if setup.get("broken"):
        raise ValueError("no such model")
    if setup.get("dies at start"):
        os.kill(os.getpid(), signal.SIGKILL)
    def work(job, say):
        print("a library that talks on stdout")
        say({"begun": job["number"], "pid": os.getpid()})
        marker = Path(setup["folder"]) / f"tried-{job['number']}"
        first = not marker.exists()
        marker.touch()
        if job.get("kill") == "always" or (job.get("kill") == "once" and first):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.get("fault"):
            raise ValueError("bad number")
        time.sleep(job.get("sleep", 0))
        say({"done": job["number"]})
    return work

if __name__ == "__main__":
    serve(start)
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    (tmp_path / "a_worker.py").write_text(textwrap.dedent(WORKER))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "a_worker"


def run(module, tmp_path, jobs, workers=2, deaths=None, **setup) -> list[dict]:
    heard: list[dict] = []

    def on_death(job, how):
        deaths.append((job["number"], how))
        return job if len([d for d in deaths if d[0] == job["number"]]) < 2 else None

    setup = {"folder": str(tmp_path)} | setup
    run_jobs(module, setup, jobs, workers, lambda job, m: heard.append(m), on_death)
    return heard


def done(heard: list[dict]) -> list[int]:
    return sorted(m["done"] for m in heard if "done" in m)


def test_all_jobs_are_done_by_several_processes(module, tmp_path):
    jobs = [{"number": i, "sleep": 0.05} for i in range(8)]
    heard = run(module, tmp_path, jobs)
    assert done(heard) == list(range(8))
    assert len({m["pid"] for m in heard if "pid" in m} - {os.getpid()}) == 2


def test_a_killed_worker_is_replaced_and_its_job_done_again(module, tmp_path):
    deaths: list = []
    jobs = [{"number": i, "kill": "once" if i == 1 else ""} for i in range(5)]
    heard = run(module, tmp_path, jobs, deaths=deaths)
    assert done(heard) == [0, 1, 2, 3, 4]
    assert [number for number, _ in deaths] == [1]
    assert "killed (signal 9), perhaps for lack of memory" in deaths[0][1]


def test_a_job_that_kills_every_worker_is_given_up_and_the_rest_goes_on(module, tmp_path):
    deaths: list = []
    jobs = [{"number": i, "kill": "always" if i == 2 else ""} for i in range(5)]
    for workers in (1, 2):
        deaths.clear()
        heard = run(module, tmp_path, jobs, workers=workers, deaths=deaths)
        assert done(heard) == [0, 1, 3, 4] and len(deaths) == 2


def test_a_fault_in_a_worker_stops_the_run_with_its_message(module, tmp_path):
    jobs = [{"number": i, "fault": i == 1} for i in range(4)]
    with pytest.raises(WorkerError, match="ValueError: bad number"):
        run(module, tmp_path, jobs)


def test_workers_that_cannot_begin_are_an_error_not_a_loop(module, tmp_path):
    with pytest.raises(WorkerError, match="no such model"):
        run(module, tmp_path, [{"number": 0}], broken=True)
    with pytest.raises(WorkerError, match="before they can begin.*killed"):
        run(module, tmp_path, [{"number": 0}], **{"dies at start": True})


def test_no_process_is_left_behind(module, tmp_path):
    jobs = [{"number": i, "fault": i == 0, "sleep": 30} for i in range(2)]
    with pytest.raises(WorkerError):
        run(module, tmp_path, jobs)
    listing = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True).stdout
    ours = [line for line in listing.splitlines() if "a_worker" in line]
    assert not [line for line in ours if int(line.split()[0]) == os.getpid()]


def test_workers_leave_when_their_parent_is_killed(module, tmp_path):
    code = (
        "from core.extraction.worker_pool import run_jobs; import os, signal;"
        "jobs = [{'number': i, 'sleep': 0.2} for i in range(100)];"
        f"setup = {{'folder': {str(tmp_path)!r}}};"
        "heard = lambda job, m: print(m['pid'], flush=True) if 'pid' in m else None;"
        "run_jobs('a_worker', setup, jobs, 2, heard, None)"
    )
    path = os.pathsep.join([str(REPO_ROOT), str(tmp_path)])
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    workers = {int(parent.stdout.readline()) for _ in range(4)}
    parent.kill()
    parent.wait()
    for process in workers:
        _wait_for_end(process)


def _wait_for_end(process: int) -> None:
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().split()[2]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    raise AssertionError(f"worker {process} outlived its parent by ten seconds")
