"""Import videos with their text into a named library, and open it again.

    library = import_library(Path("~/videos"), ImportSettings(name="kitchen"))
    library = load_library("kitchen")

Videos are used where they lie and never changed. A file that cannot be used becomes one line
in `library.problems`; it never stops the others.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.config import ImportSettings
from core.data.library_sources import Sources, add_uploads, default_name, find_sources, one_line
from core.data.library_store import (
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
from core.data.video_inspection import FileMark, Inspection, Job, inspect_files
from core.records import Clip, ImportProblem, Video, VideoLibrary

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
) -> dict[Path, Inspection]:
    """An inspection of every source file, in the sources' order; unchanged files cost a stat."""
    thumbnails = folder / "thumbnails"
    thumbnails.mkdir(parents=True, exist_ok=True)
    known = {video.path: video for video in before.library.videos}
    found: dict[Path, Inspection] = {}
    jobs = []
    for path in sources.files:
        if _is_unchanged(path, known, before, thumbnails):
            found[path] = Inspection(path, before.marks[path], known[path])
        else:
            jobs.append(Job(path, thumbnails))
    progress = progress or (lambda done, total, message: None)
    total = len(sources.files)
    progress(len(found), total, "")
    for inspection in inspect_files(jobs, settings.workers):
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
    inspections: dict[Path, Inspection],
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
    problems = _problems_left(before, sources) | dict(zip(sources.problems, sources.problem_places))
    library = VideoLibrary(name, tuple(videos), tuple(clips), tuple(problems))
    return StoredLibrary(library, marks, tuple(problems.values()))


def _problems_left(before: StoredLibrary, sources: Sources) -> dict[ImportProblem, str]:
    """Problems of earlier imports whose files are still there and were not looked at now."""
    left = {place for place in sources.leaves(before.problem_places) if os.path.exists(place)}
    pairs = zip(before.library.problems, before.problem_places)
    return {problem: place for problem, place in pairs if place in left}


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
    kept: list[Video], sources: Sources, captions: dict, inspections: dict[Path, Inspection]
) -> tuple[list[Video], dict[Path, list[Caption]]]:
    """The readable files, each content once; a copy's captions go to the one that stays."""
    owners = {video.content_hash: video.path for video in kept}
    captions = dict(captions)
    found = []
    # Files that have an id already come first: they are the ones that stay.
    for path, inspection in sorted(inspections.items(), key=lambda item: not _has_id(item[1])):
        video = inspection.video
        if video is None:
            sources.report(path, inspection.reason)
            continue
        if inspection.mark.remark:
            sources.report(path, inspection.mark.remark)
        owner = owners.setdefault(video.content_hash, path)
        if owner == path:
            found.append(video)
        else:
            sources.report(path, f"The same content as {sources.shown(owner)}: passed over.")
            captions[owner] = captions.get(owner, []) + captions.get(path, [])
    return found, captions


def _has_id(inspection: Inspection) -> bool:
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
        made, messages = make_clips(video, captions.get(video.path, []), settings)
        clips += made
        for message in messages:
            sources.report(video.path, message)
    return clips
