"""What is to be imported: the video files that a folder, a list or a manifest names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from core.config import ImportSettings, cache_root
from core.data.library_store import LibraryError, library_folder, writing
from core.data.subtitles import SUBTITLE_SUFFIXES, CaptionRow, TextError, read_manifest
from core.records import ImportProblem

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v")
TEXT_SUFFIXES = (".csv", ".json", *SUBTITLE_SUFFIXES)
_COPY_BYTES = 1 << 20


@dataclass
class Sources:
    """Files found, text files among them, and what could not be used. Filled while looking."""

    root: Path  # names are shown and matched relative to it
    name: str  # of the folder, file or manifest, for messages
    whole: bool = False  # all of the root was looked through
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)  # where text may lie beside the videos
    text_files: list[Path] = field(default_factory=list)  # named by the user
    rows: list[CaptionRow] = field(default_factory=list)  # a manifest's own text
    problems: list[ImportProblem] = field(default_factory=list)
    problem_places: list[str] = field(default_factory=list)  # where each of them lies

    def report(self, path: Path | str, reason: str) -> None:
        self.problems.append(ImportProblem(self.shown(path), one_line(reason)))
        self.problem_places.append(one_line(str(self.root / path)))

    def leaves(self, places: Iterable[str]) -> set[str]:
        """Of these paths those of which this import says nothing."""
        told = {*map(str, self.files), *self.problem_places}
        root = self.root if self.whole else None
        return {p for p in places if p not in told and not (root and Path(p).is_relative_to(root))}

    def shown(self, path: Path | str) -> str:
        """A file's name for people: relative, on one line."""
        path = Path(path)
        relative = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return one_line(str(relative))


def one_line(text: str) -> str:
    """Text without line breaks and control characters, nor bytes that are no UTF-8."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def find_sources(source: Path | str | list, settings: ImportSettings) -> Sources:
    """Look for videos. Raises LibraryError for a source that is not there or holds none."""
    if isinstance(source, (list, tuple)):
        found = _from_list([_absolute(path) for path in source], settings)
    else:
        found = _from_one(_absolute(source), settings)
    found.files = list(dict.fromkeys(found.files))
    if not found.files and not found.problems:
        raise LibraryError(
            f"No videos in {found.name}: wanted {', '.join(VIDEO_SUFFIXES)} files, in any subfolder."
        )
    return found


def default_name(source: Path | str | list) -> str:
    """The folder's name, or that of a single file."""
    if isinstance(source, (list, tuple)):
        return _absolute(source[0]).parent.name if source else ""
    path = _absolute(source)
    return path.parent.name if path.suffix.lower() in TEXT_SUFFIXES else path.stem


def _absolute(path: Path | str) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))


def _from_one(path: Path, settings: ImportSettings) -> Sources:
    if path.is_dir():
        found = Sources(path, one_line(str(path)), whole=True)
        _walk(path, found, settings)
        return found
    if not path.exists():
        raise LibraryError(f"Nothing at {path}: wanted a folder, a video, or a CSV/JSON manifest.")
    if path.suffix.lower() in (".csv", ".json"):
        return _from_manifest(path)
    found = Sources(path.parent, one_line(str(path)), folders=[path.parent])
    found.files = _videos_of(path) if path.suffix.lower() in SUBTITLE_SUFFIXES else [path]
    return found


def _videos_of(subtitles: Path) -> list[Path]:
    """The video that a subtitle file goes with, so that text can be brought in later."""
    stems = {subtitles.stem, Path(subtitles.stem).stem}
    return [p for p in sorted(subtitles.parent.iterdir()) if _is_video(p) and p.stem in stems]


def _from_list(paths: list[Path], settings: ImportSettings) -> Sources:
    if not paths:
        raise LibraryError("No files given: wanted videos, folders or a manifest.")
    if len(paths) == 1:
        return _from_one(paths[0], settings)
    found = Sources(Path(os.path.commonpath(paths)), f"these {len(paths)} files")
    if not found.root.is_dir():
        found.root = found.root.parent
    for path in paths:
        if path.is_dir():
            _walk(path, found, settings)
        elif not path.exists():
            found.report(path, "There is no such file.")
        elif path.suffix.lower() in SUBTITLE_SUFFIXES:
            found.files += _videos_of(path)
        elif path.suffix.lower() in TEXT_SUFFIXES:
            found.text_files.append(path)
        else:
            found.files.append(path)
            found.folders.append(path.parent)
    found.folders = list(dict.fromkeys(found.folders))
    return found


def _from_manifest(path: Path) -> Sources:
    found = Sources(path.parent, one_line(str(path)), folders=[path.parent])
    try:
        rows, messages = read_manifest(path)
    except TextError as error:
        raise LibraryError(str(error)) from None
    for message in messages:
        found.report(path, message)
    missing: dict[str, int] = {}
    for row in rows:
        file = _absolute(path.parent / row.file)
        if file.exists():
            found.files.append(file)
            found.rows += [row] if row.text or row.start_sec is not None else []
        else:
            missing.setdefault(row.file, row.line)
    for file, line in missing.items():
        found.report(file, f"{path.name}, line {line}, names it, but there is no such file.")
    return found


# ---- folders -----------------------------------------------------------------------------


def _walk(folder: Path, found: Sources, settings: ImportSettings) -> None:
    """Add the folder's videos, sorted; links out of it only where the settings allow them."""
    root, seen = folder.resolve(), set()
    ours = cache_root().resolve()
    inside_ours = root.is_relative_to(ours)

    def unreadable(error: OSError) -> None:
        found.report(error.filename, f"The folder cannot be read: {error.strerror}.")

    walk = os.walk(folder, onerror=unreadable, followlinks=True)
    for place, subfolders, names in walk:
        here = Path(place)
        real = here.resolve()
        if real in seen or (real.is_relative_to(ours) and not inside_ours):
            subfolders.clear()  # a circle of links, or our own previews
            continue
        seen.add(real)
        found.folders.append(here)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and _may_follow(here / name, root, found, settings)
        )
        for name in sorted(names):
            path = here / name
            if _is_video(path) and _may_follow(path, root, found, settings):
                found.files.append(path)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _may_follow(path: Path, root: Path, found: Sources, settings: ImportSettings) -> bool:
    if not path.is_symlink():
        return True
    if not path.exists():
        found.report(path, "A link that leads nowhere.")
        return False
    target = path.resolve()
    if target.is_relative_to(root):
        return not _found_by_itself(target, root)
    if not settings.follow_links_outside:
        found.report(
            path, "A link out of the folder. To follow such links: --set follow_links_outside=true"
        )
    return settings.follow_links_outside


def _found_by_itself(target: Path, root: Path) -> bool:
    """False for links into hidden stores, as git-annex and DVC keep their files."""
    hidden = any(part.startswith(".") for part in target.relative_to(root).parts)
    return not hidden and (target.is_dir() or _is_video(target))


def _found_by_itself(target: Path, root: Path) -> bool:
    """False for links into hidden stores, as git-annex and DVC keep their files."""
    hidden = any(part.startswith(".") for part in target.relative_to(root).parts)
    return not hidden and (target.is_dir() or _is_video(target))


# ---- uploads -----------------------------------------------------------------------------


def add_uploads(name: str, files: list[tuple[str, BinaryIO]]) -> list[Path]:
    """Copy uploaded videos and text files into the library's media folder; return their paths.

    Names are made safe, none is overwritten, contents are streamed. Raises LibraryError for a
    kind of file that a library cannot use; nothing is copied then.
    """
    for file_name, _ in files:
        _check_upload(file_name)
    with writing(name):
        folder = library_folder(name) / "media"
        folder.mkdir(parents=True, exist_ok=True)
        return [_store_upload(folder, file_name, stream) for file_name, stream in files]


def _check_upload(file_name: str) -> None:
    if Path(_safe_file_name(file_name)).suffix.lower() not in VIDEO_SUFFIXES + TEXT_SUFFIXES:
        known = ", ".join(VIDEO_SUFFIXES + TEXT_SUFFIXES)
        raise LibraryError(f"Cannot import '{one_line(file_name)}': wanted one of {known}.")


def _safe_file_name(file_name: str) -> str:
    """The last part of a name, whatever system wrote it, without what file systems dislike."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", file_name)[-1])
    name = "".join(c for c in name if c.isprintable() and c not in '<>:"|?*').strip(" .")
    path = Path(name or "video")
    stem = path.stem.encode()[:120].decode(errors="ignore")
    return stem + path.suffix


def _store_upload(folder: Path, file_name: str, stream: BinaryIO) -> Path:
    partial = folder / f".upload-{os.getpid()}.part"
    try:
        with partial.open("wb") as out:
            while block := stream.read(_COPY_BYTES):
                out.write(block)
        target = _free_path(folder, _safe_file_name(file_name), partial)
        os.replace(partial, target)
        return target
    finally:
        partial.unlink(missing_ok=True)


def _free_path(folder: Path, file_name: str, partial: Path) -> Path:
    """The name itself when free or held by the same bytes, else with a number."""
    stem, suffix = Path(file_name).stem, Path(file_name).suffix
    for candidate in _numbered(stem, suffix):
        path = folder / candidate
        if not path.exists() or _same_bytes(path, partial):
            return path
    raise AssertionError("unreachable: the numbers do not end")


def _numbered(stem: str, suffix: str) -> Iterator[str]:
    yield stem + suffix
    number = 2
    while True:
        yield f"{stem}-{number}{suffix}"
        number += 1


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while block := a.read(_COPY_BYTES):
            if block != b.read(_COPY_BYTES):
                return False
    return True
