"""The text that comes with videos: subtitles, captions CSV, HowTo100M caption.json.

Times are seconds from the video's start. Every error names the file, the line and the field.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pysubs2

SUBTITLE_SUFFIXES = (".srt", ".vtt")

TimedText = tuple[float, float, str]  # start_sec, end_sec, text

_FILE_NAMES = ("file", "filename", "file_name", "video", "video_path", "path")
_TEXT_NAMES = ("text", "caption", "sentence")
_START_NAMES = ("start", "start_sec", "start_time")
_END_NAMES = ("end", "end_sec", "end_time")

# Captions that roll up repeat their last line for this long without saying anything new.
_FLASH_SEC = 0.05


class TextError(ValueError):
    """A text file that cannot be read; says which line and field, and what was wanted."""


@dataclass(frozen=True)
class CaptionRow:
    """One row of a captions file. Times are None for a caption of the whole video."""

    file: str  # as written: a path relative to the captions file, or a video's name
    start_sec: float | None
    end_sec: float | None
    text: str
    line: int  # where it stands in the file, for messages; 0 where lines mean nothing


# ---- subtitles -------------------------------------------------------------------------


def read_subtitles(path: Path) -> list[TimedText]:
    """Read .srt or .vtt: plain text without tags, no empty lines, rolling captions unrolled.

    Raises TextError for a file that holds no subtitles.
    """
    path = Path(path)
    # Word times such as <00:01:02.340>: pysubs2 takes a line with two of them for a cue's times.
    content = re.sub(r"<[\d:.]+>", "", _read_text(path))
    try:
        parsed = pysubs2.SSAFile.from_string(content, format_=path.suffix[1:].lower())
    except Exception as error:  # pysubs2 lets its parsers' own errors through
        raise TextError(f"{path.name}: wanted {path.suffix} subtitles, found {error}.") from None
    events = sorted((e for e in parsed if not e.is_comment), key=lambda e: (e.start, e.end))
    timed = [(e.start / 1000, e.end / 1000, _lines(e.plaintext)) for e in events]
    spoken = _unroll([(start, end, lines) for start, end, lines in timed if lines])
    if not spoken and path.stat().st_size:
        raise TextError(f"{path.name}: wanted subtitles with times and text, found none.")
    return spoken


def _lines(text: str) -> list[str]:
    plain = html.unescape(re.sub(r"<[^<>]*>", "", text))
    return [line for line in (" ".join(part.split()) for part in plain.splitlines()) if line]


def _unroll(events: list[tuple[float, float, list[str]]]) -> list[TimedText]:
    """Drop what a rolling caption repeats: each event keeps only the lines that are new.

    Auto-generated subtitles show two lines, the upper one being the former event's lower one,
    with short events between that repeat the lower line alone.
    """
    spoken: list[TimedText] = []
    shown: list[str] = []
    shown_until = -math.inf
    for start, end, lines in events:
        touches = start <= shown_until + _FLASH_SEC
        new = lines[_overlap(shown, lines) :] if touches else lines
        if new:
            spoken.append((start, max(start, end), " ".join(new)))
        elif spoken:  # the same words stay on screen
            spoken[-1] = (spoken[-1][0], max(spoken[-1][1], end), spoken[-1][2])
        shown, shown_until = lines, max(end, shown_until if touches else end)
    return _trimmed(spoken) if _rolls(events) else spoken


def _overlap(shown: list[str], lines: list[str]) -> int:
    """How many of the first lines are the last ones of what was on screen before."""
    for count in range(min(len(shown), len(lines)), 0, -1):
        if shown[-count:] == lines[:count]:
            return count
    return 0


def _rolls(events: list[tuple[float, float, list[str]]]) -> bool:
    pairs = list(zip(events, events[1:]))
    return 2 * sum(_overlap(a[2], b[2]) > 0 for a, b in pairs) > len(pairs) > 0


def _trimmed(spoken: list[TimedText]) -> list[TimedText]:
    """In rolling captions a line stays up while the next is spoken: it ends where that begins."""
    starts = [start for start, _, _ in spoken[1:]] + [math.inf]
    return [(s, min(e, n) if n > s else e, text) for (s, e, text), n in zip(spoken, starts)]


# ---- captions CSV ----------------------------------------------------------------------


def read_captions_csv(path: Path) -> list[CaptionRow]:
    """Read `file,caption` or `file,start,end,text`; other columns are left alone.

    Comma, semicolon or tab; with or without a byte-order mark; times in seconds or HH:MM:SS.
    Rows without text are dropped. Raises TextError naming line and field.
    """
    rows, problems = read_captions_leniently(path)
    if problems:
        raise TextError(problems[0])
    return rows


def read_captions_leniently(path: Path) -> tuple[list[CaptionRow], list[str]]:
    """As read_captions_csv, but bad rows become messages; the file's own faults still raise."""
    path = Path(path)
    records = list(_csv_records(path))
    header = list(records[0][1]) if records else _csv_header(path)
    for wanted in (_FILE_NAMES, _TEXT_NAMES):
        _column(path, header, wanted)
    rows, problems = _rows(path, records)
    return [row for row in rows if row.text], problems


def read_manifest(path: Path) -> tuple[list[CaptionRow], list[str]]:
    """Rows of a manifest, CSV or JSON: file and, if given, start, end and text or caption.

    JSON: a list of objects with these keys, or of file names. Bad rows become messages. Raises
    TextError for a file that is no manifest.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        return _rows(path, list(_json_records(path)))
    _column(path, _csv_header(path), _FILE_NAMES)
    return _rows(path, list(_csv_records(path)))


def _rows(path: Path, records: list[tuple[int, dict]]) -> tuple[list[CaptionRow], list[str]]:
    rows, problems = [], []
    for line, record in records:
        try:
            rows.append(_row(path, line, record))
        except TextError as error:
            problems.append(str(error))
    return rows, problems


def _row(path: Path, line: int, record: dict) -> CaptionRow:
    names = [name for name in record if name is not None]
    file = _cell(path, line, record, _column(path, names, _FILE_NAMES, line))
    if not file:
        raise TextError(f"{_where(path, line)}: field 'file' is empty.")
    if record.get(None):
        raise TextError(
            f"{_where(path, line)}: {len(record[None])} fields too many after '{names[-1]}'; "
            "put quotes around text that holds a delimiter."
        )
    text_column = _find(names, _TEXT_NAMES)
    text = _cell(path, line, record, text_column) if text_column else ""
    start_sec, end_sec = _times(path, line, record, names)
    return CaptionRow(file, start_sec, end_sec, " ".join(text.split()), line)


def _times(path: Path, line: int, record: dict, names: list[str]) -> tuple:
    start = _find(names, _START_NAMES)
    if start is None:
        return None, None
    end = _column(path, names, _END_NAMES, line)
    cells = [_cell(path, line, record, column) for column in (start, end)]
    if not any(cells):
        return None, None  # a caption of the whole video among timed ones
    start_sec = _seconds(path, line, start, cells[0])
    end_sec = _seconds(path, line, end, cells[1])
    if end_sec <= start_sec:
        raise TextError(
            f"{_where(path, line)}: field '{end}' wants a time after {start_sec:g} s, "
            f"found {end_sec:g} s."
        )
    return start_sec, end_sec


def parse_seconds(text: str) -> float:
    """Seconds of "12.5", "1:02.5" or "00:01:02,500". Raises ValueError for anything else."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)", text.strip())
    if not match:
        raise ValueError(f"Wanted seconds or HH:MM:SS, found '{text}'.")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds.replace(",", "."))


def _seconds(path: Path, line: int, field: str, text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError:
        raise TextError(
            f"{_where(path, line)}: field '{field}' wants seconds or HH:MM:SS, found '{text}'."
        ) from None


def _cell(path: Path, line: int, record: dict, column: str) -> str:
    if record[column] is None:
        raise TextError(
            f"{_where(path, line)}: the row ends before field '{column}'; "
            "put quotes around text that holds a delimiter."
        )
    return record[column].strip()


def _column(path: Path, names: list[str], wanted: tuple[str, ...], line: int = 1) -> str:
    column = _find(names, wanted)
    if column is None:
        found = ", ".join(names) or "nothing"
        raise TextError(
            f"{_where(path, line)}: wanted a column '{wanted[0]}', found: {found[:200]!r}. "
            "Forms: file,caption or file,start,end,text."
        )
    return column


def _find(names: list[str], wanted: tuple[str, ...]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _where(path: Path, line: int) -> str:
    return f"{path.name}, {'entry' if path.suffix.lower() == '.json' else 'line'} {line}"


def _csv_records(path: Path) -> Iterator[tuple[int, dict]]:
    """(line, record) with lower-case names; extra cells under None, missing ones None."""
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), **_dialect(path))
    reader.fieldnames = _csv_header(path)
    next(reader, None)
    line = reader.line_num
    try:
        for record in reader:
            yield reader.line_num, record
            line = reader.line_num
    except csv.Error as error:
        raise TextError(f"{path.name}, after line {line}: not a CSV row: {error}.") from None


def _csv_header(path: Path) -> list[str]:
    text = _read_text(path)
    _check_quotes(path, text)
    rows = csv.reader(io.StringIO(text, newline=""), **_dialect(path))
    return [name.strip().lower() for name in next(rows, [])]


def _check_quotes(path: Path, text: str) -> None:
    """A quote that is never closed would swallow all rows after it."""
    reader = csv.reader(io.StringIO(text, newline=""), **_dialect(path), strict=True)
    line = 0
    try:
        for _ in reader:
            line = reader.line_num
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise TextError(f"{path.name}, line {line + 1}: a quote is never closed.") from None


def _dialect(path: Path) -> dict:
    """The delimiter that the header line uses."""
    header = _read_text(path).partition("\n")[0]
    return {"delimiter": max(",;\t", key=header.count), "skipinitialspace": True}


def _json_records(path: Path) -> Iterator[tuple[int, dict]]:
    records = _read_json(path)
    if not isinstance(records, list):
        raise TextError(
            f"{path.name}: wanted a list of objects with a 'file', found {type(records).__name__}. "
            "A HowTo100M caption.json goes with the videos: --captions."
        )
    for place, record in enumerate(records, start=1):
        record = {"file": record} if isinstance(record, str) else record
        kept = record if isinstance(record, dict) else {}
        yield place, {str(k).lower(): "" if v is None else str(v) for k, v in kept.items()}


# ---- HowTo100M -------------------------------------------------------------------------


def read_howto100m(path: Path) -> dict[str, list[TimedText]]:
    """Read caption.json: {video_id: {"start": [...], "end": [...], "text": [...]}}, in seconds.

    Miech et al. 2019, HowTo100M. Narration there overlaps; texts are kept as they are, empty
    ones dropped. Raises TextError for another shape.
    """
    path = Path(path)
    videos = _read_json(path)
    if not isinstance(videos, dict):
        raise TextError(f"{path.name}: wanted {{video_id: {{start, end, text}}}}, found a list.")
    return {str(video): _narration(path, video, entry) for video, entry in videos.items()}


def _narration(path: Path, video: str, entry) -> list[TimedText]:
    lists = [
        entry.get(key) if isinstance(entry, dict) else None for key in ("start", "end", "text")
    ]
    if not all(isinstance(values, list) for values in lists):
        raise TextError(f"{path.name}, video '{video}': wanted lists 'start', 'end' and 'text'.")
    if len({len(values) for values in lists}) > 1:
        lengths = ", ".join(str(len(values)) for values in lists)
        raise TextError(
            f"{path.name}, video '{video}': 'start', 'end' and 'text' differ in length ({lengths})."
        )
    spoken = []
    for place, (start, end, text) in enumerate(zip(*lists)):
        try:
            times = float(start), float(end)
        except (TypeError, ValueError):
            raise TextError(
                f"{path.name}, video '{video}', entry {place}: wanted seconds, "
                f"found {start!r} to {end!r}."
            ) from None
        words = " ".join(str(text).split())
        if words and all(map(math.isfinite, times)) and times[1] > times[0] >= 0:
            spoken.append((*times, words))
    return spoken


# ---- files -----------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    """UTF-8 with or without a mark, UTF-16 with one, else Windows-1252 as old subtitles are."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TextError(f"{Path(path).name}: cannot be read: {error.strerror}.") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _read_json(path: Path):
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise TextError(f"{path.name}, line {error.lineno}: not JSON: {error.msg}.") from None
