"""Worker processes that may die: jobs in, results out, and nothing waits for the dead.

Each worker is a Python process with a pipe each way, one JSON object a line. There is no
shared queue whose lock a killed process could take with it; a death shows as the end of its
pipe. When the parent dies, its workers find their pipes closed and leave.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator

from core.config import REPO_ROOT


class WorkerError(RuntimeError):
    """A worker failed in a way that would befall every other as well."""


class Worker:
    """One process that runs `module` with a pipe each way."""

    def __init__(self, module: str, setup: dict, inbox: queue.Queue):
        self.job: dict | None = None
        self.is_ready = False
        path = os.pathsep.join(filter(None, [str(REPO_ROOT), os.environ.get("PYTHONPATH", "")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            text=True,
        )
        self.send(setup)
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()

    def send(self, message: dict) -> None:
        # A worker that has just died is reported by its other pipe.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def _listen(self, inbox: queue.Queue) -> None:
        for line in self.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # the last line of a killed process
                inbox.put((self, json.loads(line)))
        self.process.wait()
        inbox.put((self, None))

    def dismiss(self) -> None:
        """Nothing is left for it: at the end of its pipe it leaves by itself."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def stop(self) -> None:
        """End it now, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.dismiss()


def run_jobs(
    module: str,
    setup: dict,
    jobs: list[dict],
    workers: int,
    on_message: Callable[[dict, dict], None],
    on_death: Callable[[dict, str], dict | None],
) -> None:
    """Give the jobs to `workers` processes until all are done.

    on_message(job, message) hears what a worker says between start and end of a job;
    on_death(job, how it ended) answers with the job to try instead, or None to give it up.
    Raises WorkerError when a worker reports a fault, or when workers die without one of them
    becoming ready for a job.
    """
    inbox: queue.Queue = queue.Queue()
    waiting = deque(jobs)
    team = [Worker(module, setup, inbox) for _ in range(min(workers, len(jobs)))]
    stillborn = 0
    try:
        while team:
            worker, message = inbox.get()
            if message is None:
                team.remove(worker)
                stillborn += not worker.is_ready
                how = _how_it_ended(worker.process.returncode)
                if stillborn > workers:
                    raise WorkerError(f"Workers end before they can begin: {how}.")
                _take_up(worker.job, how, waiting, on_death)
                if waiting:
                    team.append(Worker(module, setup, inbox))
            elif "error" in message:
                raise WorkerError(message["error"])
            elif message.get("event") == "ready":
                worker.is_ready, worker.job, stillborn = True, None, 0
                _give(worker, waiting)
            else:
                on_message(worker.job, message)
    finally:
        for worker in team:
            worker.stop()


def _give(worker: Worker, waiting: deque) -> None:
    if waiting:
        worker.job = waiting.popleft()
        worker.send(worker.job)
    else:
        worker.dismiss()


def _take_up(job: dict | None, how: str, waiting: deque, on_death) -> None:
    """Put back what a dead worker had in hand, or what on_death wants instead."""
    another = None if job is None else on_death(job, how)
    if another is not None:
        waiting.append(another)  # last: by then the others need less memory


def _how_it_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "it was killed (signal 9), perhaps for lack of memory"
    if code < 0:
        return f"it was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"it left with code {code}"


# ---- the worker's side -----------------------------------------------------------------------


def serve(start: Callable[[dict], Callable[[dict, Callable[[dict], None]], None]]) -> None:
    """Be a worker: `start(setup)` gives the function that does one job, reporting as it goes."""
    # Libraries that print to stdout must not be taken for our messages.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(message: dict) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    lines = _lines()
    try:
        work = start(next(lines))
        say({"event": "ready"})
        for job in lines:
            work(job, say)
            say({"event": "ready"})
    except BrokenPipeError:
        os._exit(1)  # the parent is gone, and nobody is left to tell
    except Exception as error:
        if not type(error).__module__.startswith("core."):
            import traceback

            traceback.print_exc()
        say({"error": f"{type(error).__name__}: {error}"})
        sys.exit(1)


def _lines() -> Iterator[dict]:
    for line in sys.stdin:
        yield json.loads(line)
