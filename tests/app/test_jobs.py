import time

import pytest
from test_media import make_video

from app import jobs
from core.data.video_library import load_library


def wait(job: jobs.Job, seconds: float = 60) -> str:
    until = time.monotonic() + seconds
    while job.state == "running" and time.monotonic() < until:
        time.sleep(0.05)
    return job.state


@pytest.mark.parametrize(
    "line, done",
    [
        ("extract: 12/60  3.2/s  14 s left  kitchen.mp4", "12"),
        ("train teacher: 0/200  0/s  time left unknown", "0"),
        ("Library 'x': 2 videos, 3/4 of them odd.", None),
    ],
)
def test_progress_is_read_from_the_command_lines_own_words(line, done):
    found = jobs.PROGRESS.match(line)
    assert (found and found[1]) == done


def test_a_job_does_its_commands_in_order(workspace, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    make_video(folder / "one.mp4")
    one = ["import", "--name", "lib", "--", str(folder)]
    job = jobs.start("lib", "Import", [one, ["libraries"]])
    assert jobs.start("lib", "Import", [one]) is job  # one at a time
    assert wait(job) == "finished"
    assert job.progress()[0] >= 0.5 and job.step == 1
    assert len(load_library("lib").videos) == 1
    jobs.forget("lib")
    assert jobs.find("lib") is None


def test_a_failed_job_says_why_and_stops_there(workspace):
    job = jobs.start("none", "Extract", [["extract", "--library", "none"], ["libraries"]])
    assert wait(job) == "failed" and job.step == 0
    assert "No library 'none'" in job.last_words()


def test_a_stopped_job_ends(workspace):
    job = jobs.start("world", "Demo", [["demo", "--videos", "200"]])
    while job.process is None:
        time.sleep(0.05)
    time.sleep(1.0)
    job.stop()
    assert job.process.wait(30) != 0
    assert wait(job) == "stopped"
