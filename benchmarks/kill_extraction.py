"""Kill extraction twenty times at random moments; the bytes must be as if nothing had happened.

    python -m benchmarks.kill_extraction [--kills 20] [--videos 256] [--workers 2] [--seed 0]

A library of short made-up videos goes through `python -m core extract` once undisturbed and once
with `kill -9`, of the command alone or with its workers: while it starts, plans, encodes, or has
just written some file. Runs in a temporary folder; exit code 1 when a byte differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from core.config import REPO_ROOT, ImportSettings, library_root
from core.data.video_library import import_library
from core.feature_cache import FeatureCache

NAME = "kills"
FRAMES = 15  # at 10 frames/s: one and a half seconds, two rows


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VIDLANKD_HOME"] = folder
        make_library(Path(folder) / "videos", arguments.videos, arguments.seed)
        began = time.monotonic()
        start(arguments.workers).wait()
        undisturbed, seconds = contents(), time.monotonic() - began
        for path in entries():
            shutil.rmtree(path)
        kills = kill_and_finish(arguments, seconds)
        differing = compare(undisturbed, contents())
    print(f"{kills} kills, {len(undisturbed)} files, {len(differing)} differ")
    sys.exit(bool(differing) or kills < arguments.kills)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--videos", type=int, default=256, help="16 make a shard")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_library(folder: Path, videos: int, seed: int) -> None:
    """Import videos of coloured noise that drifts."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(videos):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        write_video(folder / f"video-{number:04d}.mp4", np.kron(coarse, np.ones((8, 8, 1))))
    import_library(folder, ImportSettings(name=NAME))


def write_video(path: Path, picture: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for number in range(FRAMES):
            shifted = np.roll(picture, number, axis=1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shifted, format="rgb24")))
        container.mux(stream.encode(None))


def start(workers: int) -> subprocess.Popen:
    words = ["extract", "--library", NAME, "--workers", str(workers)]
    return subprocess.Popen(
        [sys.executable, "-m", "core", *words],
        cwd=REPO_ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that it can be killed together with its workers
    )


def kill_and_finish(arguments: argparse.Namespace, seconds: float) -> int:
    """Kill that many times, then let the command end. Returns how many kills hit it running."""
    rng = random.Random(arguments.seed)
    kills = 0
    for number in range(1, arguments.kills + 1):
        process = start(arguments.workers)
        when = wait_for_a_moment(process, rng, seconds)
        whom = kill(process, rng)
        kills += process.returncode == -signal.SIGKILL
        done = len(list(library_root(NAME).glob("*/shards/*.parquet")))
        print(f"  kill {number}: {when}, {whom}; {done} shards are whole", flush=True)
    process = start(arguments.workers)
    if process.wait():
        raise SystemExit(f"The last run failed with code {process.returncode}.")
    return kills


def wait_for_a_moment(process: subprocess.Popen, rng: random.Random, seconds: float) -> str:
    """Wait for a random time, or until some files more have been written."""
    if rng.random() < 0.3:
        delay = rng.random() * seconds / 3
        time.sleep(delay)
        return f"after {delay:.2f} s"
    goal = rng.randint(1, 5)
    before = written()
    while process.poll() is None and len(written() - before) < goal:
        time.sleep(0.001)
    time.sleep(rng.random() * rng.choice([0, 0.003, 0.3]))
    return f"{goal} files later"


def written() -> set[tuple[str, int]]:
    """Files of the entries, whole and temporary, with the time of their last change."""
    found = set()
    for path in library_root(NAME).glob("*/**/*"):
        try:
            found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue  # a temporary file that has just got its name
    return found


def kill(process: subprocess.Popen, rng: random.Random) -> str:
    together = rng.random() < 0.5
    if process.poll() is None:
        send = os.killpg if together else os.kill
        send(process.pid, signal.SIGKILL)
    process.wait()
    return "with its workers" if together else "the command alone"


def entries() -> list[Path]:
    root = library_root(NAME)
    return [p for kind in ("frame-*", "temporal-*") for p in root.glob(kind)]


def contents() -> dict[str, bytes]:
    """Bytes of all entries, each opened with its checksums first; locks are empty."""
    found = {}
    for entry in entries():
        FeatureCache.open(entry, verify="full")
        files = [p for p in sorted(entry.rglob("*")) if p.is_file() and p.name != ".lock"]
        found |= {str(p.relative_to(entry.parent)): p.read_bytes() for p in files}
    return found


def compare(wanted: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    differing = [n for n in sorted(wanted | found) if wanted.get(n) != found.get(n)]
    for name in differing:
        print(f"  differs: {name}")
    return differing


if __name__ == "__main__":
    main()
