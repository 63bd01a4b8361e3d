"""Which text goes with which video, and the clips that follow from it."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from core.config import ImportSettings
from core.data.library_sources import Sources
from core.data.library_store import LibraryError
from core.data.subtitles import (
    SUBTITLE_SUFFIXES,
    CaptionRow,
    TextError,
    read_captions_leniently,
    read_howto100m,
    read_subtitles,
)
from core.records import Clip, Video

# Captions are often set by ear: this much past the end is cut off without a word.
_LATE_SEC = 1.0
_LANGUAGE = re.compile(r"\.[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*")
_MISSING_SHOWN = 20  # a captions file of a whole data set may name thousands
_CAPTION_PATTERNS = ("captions*.csv", "segments*.csv", "caption*.json")


@dataclass(frozen=True)
class Caption:
    """A text for one video; times are None when it speaks of the whole."""

    start_sec: float | None
    end_sec: float | None
    text: str
    origin: str  # "captions.csv, line 7", for messages


def find_captions(sources: Sources, settings: ImportSettings) -> dict[Path, list[Caption]]:
    """Every caption of every file, from the manifest, caption files and subtitles beside.

    Files and rows that cannot be used become problems of `sources`. Raises LibraryError when
    the captions file of the settings is missing or no captions file.
    """
    matcher = _Matcher(sources)
    captions: dict[Path, list[Caption]] = defaultdict(list)
    for row in sources.rows:
        _add_row(captions, matcher, row, sources.root, Path(sources.name).name)
    for path in _caption_files(sources, settings):
        _add_file(captions, matcher, path, sources, named=bool(settings.captions))
    matcher.report_missing()
    subtitles = _subtitles_by_stem(sources)
    for file in sources.files:
        captions[file] += _subtitles_of(file, subtitles, sources)
    return captions


def _caption_files(sources: Sources, settings: ImportSettings) -> list[Path]:
    if settings.captions:
        path = Path(settings.captions).expanduser().absolute()
        if not path.is_file():
            raise LibraryError(f"No captions file at {path}: give a CSV or a caption.json.")
        return [path]
    named = [path for path in sources.text_files if path.suffix.lower() in (".csv", ".json")]
    if named:
        return named
    if sources.rows:
        return []  # the manifest brings its own text
    found = [
        path
        for folder in sources.folders
        for pattern in _CAPTION_PATTERNS
        for path in sorted(folder.glob(pattern))
    ]
    return list(dict.fromkeys(found))


def _add_file(captions, matcher: _Matcher, path: Path, sources: Sources, named: bool) -> None:
    try:
        if path.suffix.lower() == ".json":
            _add_narration(captions, matcher, path, sources)
            return
        rows, messages = read_captions_leniently(path)
    except TextError as error:
        if named:
            raise LibraryError(str(error)) from None
        sources.report(path, str(error))
        return
    for message in messages:
        sources.report(path, message)
    for row in rows:
        _add_row(captions, matcher, row, path.parent, path.name)


def _add_row(captions, matcher: _Matcher, row: CaptionRow, base: Path, name: str) -> None:
    file = matcher.find(row.file, base)
    if file is not None:
        origin = f"{name}, line {row.line}"
        captions[file].append(Caption(row.start_sec, row.end_sec, row.text, origin))
    elif not _exists(base / row.file):
        matcher.missing.setdefault(row.file, f"{name}, line {row.line}")


def _add_narration(captions, matcher: _Matcher, path: Path, sources: Sources) -> None:
    absent = 0
    narration = read_howto100m(path)
    for video, spoken in narration.items():
        file = matcher.find(video, path.parent)
        absent += file is None
        if file is not None:
            origin = f"{path.name}, video '{video}'"
            captions[file] += [Caption(start, end, text, origin) for start, end, text in spoken]
    if absent == len(narration) > 0:
        sources.report(path, f"None of its {absent:,} videos is among the files: names must match.")


def _subtitles_by_stem(sources: Sources) -> dict[tuple[Path, str], list[Path]]:
    """Subtitle files by the folder and stem of the video they go with, the best one first.

    For video.mp4: video.srt, video.vtt, then those with a language, English first, as video.en.srt.
    """
    found: dict[tuple[Path, str], list[tuple[int, str]]] = defaultdict(list)
    for folder in {file.parent for file in sources.files}:
        for name in _names_in(folder):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in SUBTITLE_SUFFIXES:
                found[folder, stem].append((0, name))
                stem, language = os.path.splitext(stem)
                if _LANGUAGE.fullmatch(language):
                    found[folder, stem].append((1 if language.startswith(".en") else 2, name))
    return {key: [key[0] / name for _, name in sorted(ranked)] for key, ranked in found.items()}


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # finding the videos has reported it


def _subtitles_of(file: Path, subtitles: dict, sources: Sources) -> list[Caption]:
    for path in subtitles.get((file.parent, file.stem), []):
        try:
            spoken = read_subtitles(path)
        except TextError as error:
            sources.report(path, str(error))
            continue
        return [
            Caption(start, end, text, f"{path.name}, {start:.1f} s") for start, end, text in spoken
        ]
    return []


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long or with a zero byte
        return False


class _Matcher:
    """Finds the file that a caption row means: by its path, else by its name or stem if unique."""

    def __init__(self, sources: Sources):
        self.sources, self.root = sources, sources.root
        self.by_path = {file: file for file in sources.files}
        self.by_real = {file.resolve(): file for file in sources.files}
        self.by_name = _unique((file.name, file) for file in sources.files)
        self.by_stem = _unique((file.stem, file) for file in sources.files)
        self.missing: dict[str, str] = {}  # file -> where it is named first

    def report_missing(self) -> None:
        for file, place in list(self.missing.items())[:_MISSING_SHOWN]:
            self.sources.report(file, f"{place}, has a caption for it, but there is no such video.")
        if (more := len(self.missing) - _MISSING_SHOWN) > 0:
            self.sources.report(
                "captions", f"{more:,} further videos that they name are not there."
            )

    def find(self, name: str, base: Path) -> Path | None:
        for folder in (base, self.root):
            path = Path(folder / name)
            if path in self.by_path:
                return path
        try:
            real = (base / name).resolve()
        except (OSError, ValueError):
            return None
        last = name.replace("\\", "/").rsplit("/", 1)[-1]
        return self.by_real.get(real) or self.by_name.get(last) or self.by_stem.get(last)


def _unique(pairs) -> dict[str, Path]:
    found: dict[str, Path | None] = {}
    for key, file in pairs:
        found[key] = None if key in found else file
    return {key: file for key, file in found.items() if file is not None}


# ---- clips -------------------------------------------------------------------------------


def make_clips(
    video: Video, captions: list[Caption], settings: ImportSettings
) -> tuple[list[Clip], list[str]]:
    """A clip for each caption, in order of time; without captions, windows of equal length.

    Captions that begin after the end of the video are left out and reported, as is what was cut.
    """
    late = [c for c in captions if c.start_sec is not None and not _begins_inside(c, video)]
    overlong = [c for c in captions if c.start_sec is not None and _ends_late(c, video)]
    spans = [(*_span(c, video, settings), c.text) for c in captions if c not in late]
    spans = sorted(set(spans)) or _windows(video, settings)
    clips = [_clip(video, *span) for span in spans]
    cut = [c for c in overlong if c not in late]
    return clips, [*_late(video, late, "begin", "left out"), *_late(video, cut, "end", "cut off")]


def _begins_inside(caption: Caption, video: Video) -> bool:
    return caption.start_sec < video.duration_sec - 1e-2


def _ends_late(caption: Caption, video: Video) -> bool:
    return caption.end_sec > video.duration_sec + _LATE_SEC


def _span(caption: Caption, video: Video, settings: ImportSettings) -> tuple[float, float]:
    if caption.start_sec is None:
        return 0.0, video.duration_sec
    start, end = max(0.0, caption.start_sec), min(caption.end_sec, video.duration_sec)
    if end - start < settings.min_clip_sec:
        middle = (start + end) / 2
        start = max(0.0, middle - settings.min_clip_sec / 2)
        end = min(video.duration_sec, start + settings.min_clip_sec)
        start = max(0.0, end - settings.min_clip_sec)
    return round(start, 3), round(end, 3)


def _windows(video: Video, settings: ImportSettings) -> list[tuple[float, float, str]]:
    """Windows one after another; a rest shorter than a second joins the last one."""
    count = max(1, math.ceil((video.duration_sec - 1.0) / settings.window_sec))
    starts = [k * settings.window_sec for k in range(count)]
    return [(s, e, "") for s, e in zip(starts, [*starts[1:], video.duration_sec])]


def _clip(video: Video, start_sec: float, end_sec: float, caption: str) -> Clip:
    # The id tells what the clip is, so links to it outlive a repeated import.
    mark = hashlib.sha256(caption.encode()).hexdigest()[:6]
    clip_id = f"{video.video_id}@{round(start_sec, 3)}-{round(end_sec, 3)}-{mark}"
    return Clip(clip_id, video.video_id, start_sec, end_sec, caption)


def _late(video: Video, late: list[Caption], verb: str, done: str) -> list[str]:
    if not late:
        return []
    first, end_sec = late[0], video.duration_sec
    one = len(late) == 1
    return [
        f"{len(late)} caption{'' if one else 's'} {verb}{'s' if one else ''} after the end at "
        f"{end_sec:.1f} s and {'was' if one else 'were'} {done}; first: {first.origin}, "
        f"{first.start_sec:g} to {first.end_sec:g} s."
    ]
