"""What an import learns of one file: readable or why not, facts, content hash, thumbnail.

Kept apart from the tables so that worker processes start without loading those.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from core.extraction.decoding import UnreadableVideo, find_end, probe_video, thumbnail
from core.orphans import end_with_parent
from core.records import Video

THUMBNAIL_SIDE = 320  # pixels, the longer one
# A picture track may end a little before the file does; more than this is worth a word.
_SHORT_SEC = 1.0
_FEWER_THAN_POOL = 3  # files that one process does before a second has started


@dataclass(frozen=True)
class FileMark:
    """How a file looked when it was imported: unchanged marks spare a new look at it."""

    size: int  # bytes
    mtime_ns: int
    remark: str = field(default="", compare=False)  # what was odd, though the file could be used

    @staticmethod
    def of(path: Path) -> FileMark:
        stat = path.stat()
        return FileMark(stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True)
class Job:
    """A file to be looked at. Travels to worker processes."""

    path: Path
    thumbnails: Path


@dataclass(frozen=True)
class Inspection:
    """What was found in a file: a video, not yet with an id, or the reason why it is none."""

    path: Path
    mark: FileMark | None = None
    video: Video | None = None
    reason: str = ""


def inspect_files(jobs: list[Job], workers: int) -> Iterator[Inspection]:
    """Look into files, several at once; results come as they are ready, one for every job."""
    if workers == 1 or len(jobs) < _FEWER_THAN_POOL:
        yield from map(inspect_file, jobs)
        return
    done: set[Path] = set()
    try:
        for inspection in _run_pool(jobs, workers):
            done.add(inspection.path)
            yield inspection
    except BrokenProcessPool:
        # A file made the decoder crash and took its neighbours along: find out which it is.
        yield from _one_by_one([job for job in jobs if job.path not in done])


def _run_pool(jobs: list[Job], workers: int) -> Iterator[Inspection]:
    # Spawned, not forked: a fork copies locks that the decoder's threads may hold.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=end_with_parent) as pool:
        for future in as_completed([pool.submit(inspect_file, job) for job in jobs]):
            yield future.result()


def _one_by_one(jobs: list[Job]) -> Iterator[Inspection]:
    """In one process, in order: the first result that is missing is the culprit's."""
    waiting = deque(jobs)
    while waiting:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            for future in [pool.submit(inspect_file, job) for job in waiting]:
                job = waiting.popleft()
                try:
                    yield future.result()
                except BrokenProcessPool:
                    reason = "The decoder crashed on it: the file is damaged."
                    yield Inspection(job.path, reason=reason)
                    break


def inspect_file(job: Job) -> Inspection:
    """Hash a file, read its facts, decode its end, draw its thumbnail."""
    if not job.path.is_file():  # reading a pipe would wait for ever
        return Inspection(job.path, reason="Not a regular file.")
    if _is_no_utf8(job.path):
        return Inspection(job.path, reason="Its name is not valid UTF-8: rename the file.")
    try:
        mark = FileMark.of(job.path)
        video, remark = _video(job, _content_hash(job.path))
        return Inspection(job.path, replace(mark, remark=remark), video)
    except UnreadableVideo as error:
        return Inspection(job.path, reason=str(error))
    except OSError as error:
        return Inspection(job.path, reason=f"The file cannot be read: {error.strerror}.")


def _is_no_utf8(path: Path) -> bool:
    """Such names come as lone surrogates, which no table and no page can show."""
    return any("\ud800" <= character <= "\udfff" for character in str(path))


def _video(job: Job, content_hash: str) -> tuple[Video, str]:
    facts, end_sec = probe_video(job.path), find_end(job.path)
    remark = ""
    if end_sec < facts.duration_sec - _SHORT_SEC:
        if end_sec < 1.0:
            raise UnreadableVideo(
                f"Damaged: only {end_sec:.1f} s of {facts.duration_sec:.1f} s decode."
            )
        remark = (
            f"The picture ends at {end_sec:.1f} s though the file says {facts.duration_sec:.1f} s: "
            "damaged or cut short. Kept up to there."
        )
    picture = f"{content_hash[:20]}.jpg"
    _draw_thumbnail(job.path, end_sec / 3, job.thumbnails / picture)
    video = Video(
        video_id="",
        path=job.path,
        duration_sec=round(end_sec, 4),
        frame_rate=round(facts.frame_rate, 4),
        width=facts.width,
        height=facts.height,
        rotation=facts.rotation,
        codec=facts.codec,
        content_hash=content_hash,
        thumbnail=picture,
    )
    return video, remark


def _content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _draw_thumbnail(path: Path, sec: float, out: Path) -> None:
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    picture = Image.fromarray(thumbnail(path, sec, longest_side=THUMBNAIL_SIDE))
    picture.save(partial, "JPEG", quality=85)
    os.replace(partial, out)
