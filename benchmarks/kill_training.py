"""Kill training twenty times at random moments; the end must be as if nothing had happened.

    python -m benchmarks.kill_training [--kills 20] [--seed 0]

A teacher is trained and a student distilled from it (NST and CRD with its queue), once
undisturbed and once with `kill -9` at random steps and delays; weights and curves are compared
bit by bit. Runs in a temporary folder; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import tiny_world
from core import config
from core.config import REPO_ROOT, DistillSettings, TeacherSettings
from core.models.run_folder import RunFolder

STEPS = 240
CLOCKS = ("elapsed_sec", "tokens_per_sec")


def teacher_settings(name: str) -> TeacherSettings:
    settings = config.preset(TeacherSettings, "demo")
    return dataclasses.replace(
        settings,
        name=name,
        library=tiny_world.NAME,
        text=_small_text(),
        video_hidden=48,
        joint_size=32,
        training=_training(settings),
    )


def student_settings(name: str) -> DistillSettings:
    settings = config.preset(DistillSettings, "demo")
    return dataclasses.replace(
        settings,
        name=name,
        teacher="teacher-undisturbed",
        corpus=str(config.home() / "corpus.txt"),
        text=_small_text(),
        crd_negatives="queue",
        training=_training(settings),
    )


def _small_text() -> config.TextEncoderSettings:
    return config.TextEncoderSettings(
        num_layers=1, hidden_size=48, num_heads=4, intermediate_size=96, max_tokens=32
    )


def _training(settings) -> config.TrainingSettings:
    # Checkpoints so often that some kills fall into the writing of one.
    return dataclasses.replace(
        settings.training,
        steps=STEPS,
        batch_size=16,
        log_every=4,
        evaluate_every=20,
        checkpoint_every=3,
        num_threads=1,
    )


def train_one(kind: str, name: str) -> None:
    """Train a run to its end in this process."""
    if kind == "teacher":
        from core.training.train_teacher import train_teacher

        train_teacher(teacher_settings(name))
    else:
        from core.training.distill_student import distill

        distill(student_settings(name))


def start(kind: str, name: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.kill_training", "--train", kind, name]
    return subprocess.Popen(command, cwd=REPO_ROOT, stderr=subprocess.PIPE, text=True)


def finish(kind: str, name: str) -> None:
    process = start(kind, name)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"Training of {name} failed:\n{errors}")


def kill_and_finish(kind: str, name: str, kills: int, rng: random.Random) -> None:
    """Kill at random steps, each later than the last, then let the run end."""
    path = config.runs_root() / name
    for number, step in enumerate(sorted(rng.sample(range(4, STEPS - 8), kills)), start=1):
        process = start(kind, name)
        _wait_for_step(RunFolder(path), step, process)
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.communicate()
        kept = sorted(p.name for p in (path / "checkpoint").glob("step-*"))
        print(f"  kill {number}: past step {step}, checkpoint {kept[-1] if kept else 'none yet'}")
    finish(kind, name)


def _wait_for_step(run: RunFolder, step: int, process: subprocess.Popen) -> None:
    # Lines from before the restart are there already; only a new one counts.
    before = run.path / "metrics.jsonl"
    known = before.stat().st_mtime_ns if before.exists() else 0
    while process.poll() is None:
        lines = run.metrics()
        fresh = before.exists() and before.stat().st_mtime_ns != known
        if fresh and lines and lines[-1]["step"] >= step:
            return
        time.sleep(0.002)


def same(one: RunFolder, two: RunFolder) -> bool:
    """Whether weights, heads and curves are equal to the last bit."""
    files = ["model.safetensors"] + (["heads.safetensors"] if one.kind == "student" else [])
    weights = all((one.path / f).read_bytes() == (two.path / f).read_bytes() for f in files)
    curves = _without_clocks(one) == _without_clocks(two)
    print(f"  {two.name}: weights {_word(weights)}, curves {_word(curves)}")
    return weights and curves


def _without_clocks(run: RunFolder) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in run.metrics()]


def _word(equal: bool) -> str:
    return "equal" if equal else "DIFFER"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="for both runs together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", nargs=2, metavar=("KIND", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train_one(*arguments.train)
        return
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as home:
        os.environ["VIDLANKD_HOME"] = home
        tiny_world.make_library()
        (Path(home) / "corpus.txt").write_text(tiny_world.corpus_text())
        equal = []
        for kind in ("teacher", "student"):
            print(f"{kind}, {arguments.kills // 2} kills in {STEPS} steps")
            finish(kind, f"{kind}-undisturbed")
            kill_and_finish(kind, f"{kind}-killed", arguments.kills // 2, rng)
            pair = (f"{kind}-undisturbed", f"{kind}-killed")
            equal.append(same(*(RunFolder.open(name) for name in pair)))
    print("Nothing was lost." if all(equal) else "SOMETHING WAS LOST.")
    sys.exit(0 if all(equal) else 1)


if __name__ == "__main__":
    main()
