"""Commands that run beside the app, in processes of their own, with their progress.

A job outlives the page that started it. Its output goes to a file; the command line writes a
plain line of progress there every few seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core import config

PROGRESS = re.compile(r"^[^:]+: (\d+)/(\d+)\s+\S+/s\s+(.* left|time left unknown)(?:\s+(.*))?$")
TAIL_BYTES = 4000
PATIENCE_SEC = 5.0  # between asking a process to end and asking louder


@dataclass
class Job:
    """Commands run one after another. Only its own thread changes it."""

    name: str  # what it works on: one job of a name at a time
    title: str
    commands: Sequence[Sequence[str]]  # arguments of `python -m core`
    log: Path
    state: str = "running"  # "running" | "finished" | "failed" | "stopped"
    step: int = 0
    began: float = field(default_factory=time.monotonic)
    process: subprocess.Popen | None = None

    def run(self) -> None:
        for step, arguments in enumerate(self.commands):
            self.step = step
            if self.state != "running" or self._run_one(arguments) != 0:
                break
        if self.state == "running":
            self.state = "finished" if self.process.returncode == 0 else "failed"

    def _run_one(self, arguments: Sequence[str]) -> int:
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "core", *arguments],
                cwd=config.REPO_ROOT,
                env={**os.environ, "VIDLANKD_PROGRESS_SEC": "1", "COLUMNS": "500"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its workers can be stopped with it
            )
        return self.process.wait()

    def stop(self) -> None:
        """Interrupt it as Ctrl-C would: what is done is kept, and it can be gone on with."""
        self.state = "stopped"
        threading.Thread(target=self._end, name=f"stop {self.name}", daemon=True).start()

    def _end(self) -> None:
        # A process started from a background shell ignores the first of these.
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self.process is None or self.process.poll() is not None:
                return
            os.killpg(self.process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_SEC)

    # ---- what it says

    def progress(self) -> tuple[float, str]:
        """Share done of all its commands in [0, 1], and a line about it."""
        found = next(filter(None, map(PROGRESS.match, reversed(self.lines()))), None)
        command = self.title
        if len(self.commands) > 1:
            command = f"step {self.step + 1} of {len(self.commands)}: {self.commands[self.step][0]}"
        if not found:
            return self.step / len(self.commands), f"{command} …"
        done, total, left, message = found.groups()
        inside = int(done) / max(1, int(total))
        detail = " · ".join(filter(None, (left, message)))
        return (self.step + inside) / len(self.commands), f"{command} · {detail}"

    def last_words(self) -> str:
        """The output's last line that is not progress: of a failed job, why it failed."""
        said = [line for line in self.lines() if not PROGRESS.match(line)]
        return said[-1].removeprefix("Error: ") if said else "It ended without a word."

    def lines(self) -> list[str]:
        if not self.log.exists():
            return []
        with open(self.log, "rb") as file:
            file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]


_jobs: dict[tuple[str, str], Job] = {}
_guard = threading.Lock()


def start(library: str, title: str, commands: Sequence[Sequence[str]]) -> Job:
    """Start the commands for a library, or return the job that works on it already."""
    key = (str(config.home()), library)
    with _guard:
        job = _jobs.get(key)
        if job and job.state == "running":
            return job
        folder = config.cache_root() / ".jobs"
        folder.mkdir(parents=True, exist_ok=True)
        job = _jobs[key] = Job(library, title, commands, folder / f"{library}.log")
        threading.Thread(target=job.run, name=f"job {library}", daemon=True).start()
        return job


def find(library: str) -> Job | None:
    """The library's last job of this app, running or ended."""
    return _jobs.get((str(config.home()), library))


def forget(library: str) -> None:
    """Drop an ended job, once its page has told how it ended."""
    with _guard:
        job = find(library)
        if job and job.state != "running":
            del _jobs[str(config.home()), library]
