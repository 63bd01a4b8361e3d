"""Import videos with their text into a named library, and open it again.

    library = import_library(Path("~/videos"), ImportSettings(name="kitchen"))
    library = load_library("kitchen")

Videos are used where they lie and never changed. A file that cannot be used becomes one line
in `library.problems`; it never stops the others.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from core.config import ImportSettings
from core.data.library_sources import Sources, add_uploads, default_name, find_sources, one_line
from core.data.library_store import (
    FileMark,
    LibraryError,
    StoredLibrary,
    check_name,
    delete_library,
    library_folder,
    library_hash,
    list_libraries,
    load_library,
    read_stored,
    safe_name,
    save_library,
    thumbnail_path,
    write_stored,
    writing,
)
from core.data.library_text import Caption, find_captions, make_clips
from core.extraction.decoding import UnreadableVideo, find_end, probe_video, thumbnail
from core.records import Clip, Video, VideoLibrary

__all__ = [
    "LibraryError",
    "add_uploads",
    "delete_library",
    "import_library",
    "library_hash",
    "list_libraries",
    "load_library",
    "save_library",
    "thumbnail_path",
]

Progress = Callable[[int, int, str], None]

THUMBNAIL_SIDE = 320  # pixels, the longer one
# A picture track may end a little before the file does; more than this is worth a word.
_SHORT_SEC = 1.0
_FEWER_THAN_POOL = 3  # files that one process does before a second has started


@dataclass(frozen=True)
class _Job:
    """A file to be looked at. Travels to worker processes."""

    path: Path
    thumbnails: Path


@dataclass(frozen=True)
class _Inspection:
    """What was found in a file: a video without its id yet, or None; and a remark."""

    path: Path
    mark: FileMark | None = None
    video: Video | None = None
    remark: str = ""


def import_library(
    source: Path | str | list, settings: ImportSettings, progress: Progress | None = None
) -> VideoLibrary:
    """Import a folder, a file, a list of either, or a CSV/JSON manifest; return the library.

    A library of that name is added to: unchanged files (same path, size and time of change)
    keep their ids and are not looked at again, changed ones are, those that are gone leave it.
    progress(done, total, message) is called for every file.

    Raises LibraryError for a bad name or setting, or a source without videos.
    """
    name = check_name(settings.name or safe_name(default_name(source)))
    _check(settings)
    sources = find_sources(source, settings)
    captions = find_captions(sources, settings)
    with writing(name):
        before = _before(name)
        inspections = _inspect_all(sources, before, settings, library_folder(name), progress)
        stored = _merge(name, before, sources, captions, inspections, settings)
        write_stored(stored)
        _forget_thumbnails(stored.library)
    return stored.library


def _check(settings: ImportSettings) -> None:
    if not settings.window_sec > 0:
        raise LibraryError(f"Setting 'window_sec' wants more than 0, found {settings.window_sec}.")
    if not settings.min_clip_sec > 0:
        raise LibraryError(
            f"Setting 'min_clip_sec' wants more than 0, found {settings.min_clip_sec}."
        )
    if settings.workers < 1:
        raise LibraryError(f"Setting 'workers' wants 1 or more, found {settings.workers}.")


def _before(name: str) -> StoredLibrary:
    if name in list_libraries():
        return read_stored(name)
    return StoredLibrary(VideoLibrary(name, (), ()), {}, ())


# ---- looking into files ------------------------------------------------------------------


def _inspect_all(
    sources: Sources,
    before: StoredLibrary,
    settings: ImportSettings,
    folder: Path,
    progress: Progress | None,
) -> dict[Path, _Inspection]:
    """An inspection of every source file, in the sources' order; unchanged files cost a stat."""
    thumbnails = folder / "thumbnails"
    thumbnails.mkdir(parents=True, exist_ok=True)
    known = {video.path: video for video in before.library.videos}
    found: dict[Path, _Inspection] = {}
    jobs = []
    for path in sources.files:
        if _is_unchanged(path, known, before, thumbnails):
            found[path] = _Inspection(path, before.marks[path], known[path])
        else:
            jobs.append(_Job(path, thumbnails))
    progress = progress or (lambda done, total, message: None)
    total = len(sources.files)
    progress(len(found), total, "")
    for inspection in _run(jobs, settings.workers):
        found[inspection.path] = inspection
        progress(len(found), total, one_line(inspection.path.name))
    return {path: found[path] for path in sources.files}


def _is_unchanged(path: Path, known: dict[Path, Video], before, thumbnails: Path) -> bool:
    try:
        return (
            path in known
            and FileMark.of(path) == before.marks[path]
            and (thumbnails / known[path].thumbnail).is_file()
        )
    except OSError:
        return False


def _run(jobs: list[_Job], workers: int) -> Iterator[_Inspection]:
    if workers == 1 or len(jobs) < _FEWER_THAN_POOL:
        yield from map(_inspect, jobs)
        return
    done: set[Path] = set()
    try:
        for inspection in _run_pool(jobs, workers):
            done.add(inspection.path)
            yield inspection
    except BrokenProcessPool:
        # A file made the decoder crash. Each of the rest gets a process of its own, so that
        # only the culprit is lost.
        for job in jobs:
            if job.path not in done:
                yield _inspect_apart(job)


def _run_pool(jobs: list[_Job], workers: int) -> Iterator[_Inspection]:
    # Spawned, not forked: a fork copies locks that the decoder's threads may hold.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_inspect, job) for job in jobs]):
            yield future.result()


def _inspect_apart(job: _Job) -> _Inspection:
    try:
        return next(_run_pool([job], 1))
    except BrokenProcessPool:
        return _Inspection(job.path, remark="The decoder crashed on it: the file is damaged.")


def _inspect(job: _Job) -> _Inspection:
    """Hash a file, read its facts, decode its end, draw its thumbnail."""
    if not job.path.is_file():  # reading a pipe would wait for ever
        return _Inspection(job.path, remark="Not a regular file.")
    if _is_no_utf8(job.path):
        return _Inspection(job.path, remark="Its name is not valid UTF-8: rename the file.")
    try:
        mark = FileMark.of(job.path)
        video, remark = _video(job, _content_hash(job.path))
        return _Inspection(job.path, mark, video, remark)
    except UnreadableVideo as error:
        return _Inspection(job.path, remark=str(error))
    except OSError as error:
        return _Inspection(job.path, remark=f"The file cannot be read: {error.strerror}.")


def _is_no_utf8(path: Path) -> bool:
    """Such names come as lone surrogates, which no table and no page can show."""
    return any("\ud800" <= character <= "\udfff" for character in str(path))


def _video(job: _Job, content_hash: str) -> tuple[Video, str]:
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


def _forget_thumbnails(library: VideoLibrary) -> None:
    """Remove pictures of videos that left the library."""
    wanted = {video.thumbnail for video in library.videos}
    for path in (library_folder(library.name) / "thumbnails").iterdir():
        if path.name not in wanted:
            path.unlink()


# ---- merging -----------------------------------------------------------------------------


def _merge(
    name: str,
    before: StoredLibrary,
    sources: Sources,
    captions: dict[Path, list[Caption]],
    inspections: dict[Path, _Inspection],
    settings: ImportSettings,
) -> StoredLibrary:
    """The library before and the files of now, as one."""
    kept = _kept(before, sources, inspections)
    found, captions = _without_copies(kept, sources, captions, inspections)
    new = _with_ids(found, before, kept, sources.root)
    videos = sorted([*kept, *new], key=lambda video: video.video_id)
    clips = _clips_of(before, kept) + _clips_of_new(new, before, captions, settings, sources)
    marks = {video.path: before.marks[video.path] for video in kept}
    marks |= {video.path: inspections[video.path].mark for video in new}
    old = [
        (problem, key)
        for problem, key in zip(before.library.problems, before.problem_sources)
        if key != sources.key
    ]
    problems = (*(problem for problem, _ in old), *sources.problems)
    keys = (*(key for _, key in old), *[sources.key] * len(sources.problems))
    library = VideoLibrary(name, tuple(videos), tuple(clips), problems)
    return StoredLibrary(library, marks, keys)


def _kept(before: StoredLibrary, sources: Sources, inspections: dict) -> list[Video]:
    """Videos of earlier imports that this one does not speak of and that are still there."""
    kept = []
    for video in before.library.videos:
        if video.path in inspections:
            continue
        if video.path.exists():
            kept.append(video)
        else:
            sources.report(video.path, "Was in the library; the file is gone, so it left it.")
    return kept


def _without_copies(
    kept: list[Video], sources: Sources, captions: dict, inspections: dict[Path, _Inspection]
) -> tuple[list[Video], dict[Path, list[Caption]]]:
    """The readable files, each content once; a copy's captions go to the one that stays."""
    owners = {video.content_hash: video.path for video in kept}
    captions = dict(captions)
    found = []
    # Files that have an id already come first: they are the ones that stay.
    for path, inspection in sorted(inspections.items(), key=lambda item: not _has_id(item[1])):
        video = inspection.video
        if inspection.remark:
            sources.report(path, inspection.remark)
        if video is None:
            continue
        owner = owners.setdefault(video.content_hash, path)
        if owner == path:
            found.append(video)
        else:
            sources.report(path, f"The same content as {sources.shown(owner)}: passed over.")
            captions[owner] = captions.get(owner, []) + captions.get(path, [])
    return found, captions


def _has_id(inspection: _Inspection) -> bool:
    return inspection.video is not None and inspection.video.video_id != ""


def _with_ids(
    found: list[Video], before: StoredLibrary, kept: list[Video], root: Path
) -> list[Video]:
    """Old ids for the same path, or for the same content that moved; new ones from the name."""
    by_path = {video.path: video.video_id for video in before.library.videos}
    alive = {video.path for video in [*kept, *found]}
    moved = {v.content_hash: v.video_id for v in before.library.videos if v.path not in alive}
    ids = {v.path: by_path.get(v.path) or moved.get(v.content_hash) for v in found}
    taken = {video.video_id.lower() for video in kept} | {i.lower() for i in ids.values() if i}
    for video in found:
        if not ids[video.path]:
            ids[video.path] = _new_id(video.path, root, taken)
            taken.add(ids[video.path].lower())
    return [replace(video, video_id=ids[video.path]) for video in found]


def _new_id(path: Path, root: Path, taken: set[str]) -> str:
    """The file's name made safe; with a mark of its place where another video has that name."""
    stem = safe_name(path.stem)
    place = path.relative_to(root) if path.is_relative_to(root) else path
    mark = hashlib.sha256(os.fsencode(place)).hexdigest()
    if stem and stem.lower() not in taken:
        return stem
    length = next(n for n in range(6, 64) if f"{stem or 'video'}-{mark[:n]}".lower() not in taken)
    return f"{stem or 'video'}-{mark[:length]}"


def _clips_of(before: StoredLibrary, videos: list[Video]) -> list[Clip]:
    ids = {video.video_id for video in videos}
    return [clip for clip in before.library.clips if clip.video_id in ids]


def _clips_of_new(
    videos: list[Video],
    before: StoredLibrary,
    captions: dict[Path, list[Caption]],
    settings: ImportSettings,
    sources: Sources,
) -> list[Clip]:
    texts_before = {clip.video_id: clip for clip in before.library.clips if clip.caption}
    unchanged = {(video.video_id, video.content_hash) for video in before.library.videos}
    clips: list[Clip] = []
    for video in videos:
        same = (video.video_id, video.content_hash) in unchanged
        if same and not captions.get(video.path) and video.video_id in texts_before:
            # Imported again without its captions file: its text is not thrown away.
            clips += _clips_of(before, [video])
            continue
        made, problems = make_clips(video, captions.get(video.path, []), settings)
        clips += made
        sources.problems += problems
    return clips
