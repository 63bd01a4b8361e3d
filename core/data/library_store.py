"""How a library lies on disk: tables under cached_features/<name>/library/, and their reader.

videos.parquet  clips.parquet  problems.parquet   the tables
thumbnails/  media/                               pictures; uploaded and rendered videos
library.json                                      written last, with the tables' checksums
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import pandas as pd

from core.config import cache_root, library_root
from core.data.video_inspection import FileMark
from core.records import Clip, ImportProblem, Video, VideoLibrary

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_TABLES = ("videos.parquet", "clips.parquet", "problems.parquet")
_READ_TRIES = 20  # a tenth of a second apart: another process may be putting a new version there


class LibraryError(ValueError):
    """A library that is unknown, damaged or misnamed; the message says what to do."""


@dataclass(frozen=True)
class StoredLibrary:
    """A library with what only the next import needs."""

    library: VideoLibrary
    marks: dict[Path, FileMark]
    problem_places: tuple[str, ...]  # the absolute path that each problem speaks of


# ---- names and places --------------------------------------------------------------------


def check_name(name: str) -> str:
    """The name itself; raises LibraryError for one that is not safe as a folder's name."""
    if _NAME.fullmatch(name) and not name.endswith("."):
        return name
    offer = safe_name(name)
    raise LibraryError(
        f"A library's name may hold letters, digits, '.', '_' and '-' (80 at most, a letter or "
        f"digit first), found '{name}'." + (f" Try '{offer}'." if offer else "")
    )


def safe_name(text: str) -> str:
    """The nearest valid name, or "" when nothing is left of it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:80].rstrip(".")


def library_folder(name: str) -> Path:
    """Where the tables lie."""
    return library_root(check_name(name)) / "library"


def thumbnail_path(library_name: str, video: Video) -> Path:
    """Where a video's thumbnail lies (a JPEG, longest side 320 pixels)."""
    return library_folder(library_name) / "thumbnails" / video.thumbnail


def list_libraries() -> list[str]:
    """Names of all imported libraries, sorted."""
    return sorted(path.parent.parent.name for path in cache_root().glob("*/library/library.json"))


@contextmanager
def writing(name: str):
    """Only one import at a time writes to a library; the others wait."""
    folder = library_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        yield folder


def delete_library(name: str) -> None:
    """Remove a library with its features, embeddings and uploads; source files stay.

    Raises LibraryError for an unknown or unsafe name.
    """
    folder = library_root(check_name(name))
    if name not in list_libraries():
        raise unknown_library(name)
    if folder.is_symlink() or folder.resolve().parent != cache_root().resolve():
        raise LibraryError(f"{folder} leads out of {cache_root()}: remove it by hand.")
    # Renamed first: a reader sees the whole library or none of it.
    doomed = folder.with_name(f".deleted-{name}-{os.getpid()}-{time.time_ns()}")
    os.replace(folder, doomed)
    shutil.rmtree(doomed)


def unknown_library(name: str) -> LibraryError:
    known = ", ".join(list_libraries()) or "none yet"
    return LibraryError(
        f"No library '{name}' under {cache_root()}. Known: {known}. "
        f"Run: python -m core import FOLDER --name {name}"
    )


# ---- writing -----------------------------------------------------------------------------


def save_library(library: VideoLibrary) -> VideoLibrary:
    """Write a library's tables; raises LibraryError for a bad name. Returns the library."""
    marks = {video.path: FileMark.of(video.path) for video in library.videos}
    with writing(library.name):
        write_stored(StoredLibrary(library, marks, ("",) * len(library.problems)))
    return library


def write_stored(stored: StoredLibrary) -> None:
    library = stored.library
    folder = library_folder(library.name)
    tables = dict(zip(_TABLES, (_videos(stored), _clips(library), _problems(stored))))
    checksums = {}
    for name, table in tables.items():
        partial = folder / f".{name}.{os.getpid()}"
        table.to_parquet(partial, index=False)
        checksums[name] = hashlib.sha256(partial.read_bytes()).hexdigest()
    for name in tables:
        os.replace(folder / f".{name}.{os.getpid()}", folder / name)
    # Last, so that tables of two versions are never taken for one library.
    _write_json(
        folder / "library.json",
        {
            "format": FORMAT,
            "name": library.name,
            "hash": library_hash(library),
            "num_videos": len(library.videos),
            "num_clips": len(library.clips),
            "tables": checksums,
        },
    )


def _videos(stored: StoredLibrary) -> pd.DataFrame:
    rows = [
        {**asdict(video), "path": str(video.path), **asdict(stored.marks[video.path])}
        for video in stored.library.videos
    ]
    columns = [*Video.__dataclass_fields__, *FileMark.__dataclass_fields__]
    return pd.DataFrame(rows, columns=columns)


def _clips(library: VideoLibrary) -> pd.DataFrame:
    return pd.DataFrame(map(vars, library.clips), columns=list(Clip.__dataclass_fields__))


def _problems(stored: StoredLibrary) -> pd.DataFrame:
    problems = stored.library.problems
    table = pd.DataFrame(map(vars, problems), columns=list(ImportProblem.__dataclass_fields__))
    return table.assign(place=list(stored.problem_places))


def _write_json(path: Path, content: dict) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1))
    os.replace(partial, path)


# ---- reading -----------------------------------------------------------------------------


def load_library(name: str) -> VideoLibrary:
    """Read a library by name. Raises LibraryError, with the command that mends it."""
    return read_stored(name).library


def read_stored(name: str) -> StoredLibrary:
    folder = library_folder(name)
    if not (folder / "library.json").exists():
        raise unknown_library(name)
    videos, clips, problems = _read_tables(name, folder)
    library = VideoLibrary(
        name,
        tuple(_video(row) for row in videos[list(Video.__dataclass_fields__)].to_dict("records")),
        tuple(Clip(**row) for row in clips.to_dict("records")),
        tuple(ImportProblem(row["file"], row["reason"]) for row in problems.to_dict("records")),
    )
    rows = videos[list(FileMark.__dataclass_fields__)].to_dict("records")
    marks = {Path(path): FileMark(**row) for path, row in zip(videos["path"], rows)}
    return StoredLibrary(library, marks, tuple(problems["place"]))


def _video(row: dict) -> Video:
    return Video(**{**row, "path": Path(row["path"])})


def _read_tables(name: str, folder: Path) -> list[pd.DataFrame]:
    for attempt in range(_READ_TRIES):
        try:
            description = json.loads((folder / "library.json").read_text())
            contents = [(folder / table).read_bytes() for table in _TABLES]
        except (OSError, json.JSONDecodeError) as error:
            raise _damaged(name, folder, str(error)) from None
        if description.get("format") != FORMAT:
            raise _damaged(name, folder, f"format {description.get('format')}, wanted {FORMAT}")
        found = [hashlib.sha256(content).hexdigest() for content in contents]
        if found == [description["tables"].get(table) for table in _TABLES]:
            return [pd.read_parquet(pd.io.common.BytesIO(content)) for content in contents]
        if attempt + 1 < _READ_TRIES:
            time.sleep(0.1)
    raise _damaged(name, folder, "a table does not match its checksum")


def _damaged(name: str, folder: Path, what: str) -> LibraryError:
    return LibraryError(
        f"Library '{name}' at {folder} is damaged ({what}). Delete {folder / 'library.json'} and "
        f"run: python -m core import FOLDER --name {name}"
    )


# ---- identity ----------------------------------------------------------------------------


def library_hash(library: VideoLibrary) -> str:
    """sha256 hex over videos (id, content) and clips (id, times, caption), whatever their order."""
    videos = sorted([video.video_id, video.content_hash] for video in library.videos)
    clips = sorted(
        [
            clip.clip_id,
            clip.video_id,
            round(clip.start_sec, 3),
            round(clip.end_sec, 3),
            clip.caption,
        ]
        for clip in library.clips
    )
    return hashlib.sha256(json.dumps([videos, clips]).encode()).hexdigest()
