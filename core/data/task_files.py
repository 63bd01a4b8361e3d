"""Readers of the formats that tasks are published in: a file becomes rows that know their line.

A row is a dict of the file's own fields; what they mean is said by the task's description.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.config import SettingsError


class TaskDataError(SettingsError):
    """A task's file that is not what the description says."""


@dataclass(frozen=True)
class Row:
    """One example as its file has it."""

    fields: dict
    where: str  # file and line, for errors

    def get(self, name: str):
        """A field's value; "a.b" looks inside. Raises TaskDataError, naming what there is."""
        value = self.fields
        for part in name.split("."):
            if not isinstance(value, dict) or value.get(part) is None:
                have = ", ".join(map(str, self.fields)) or "nothing"
                raise TaskDataError(
                    f"{self.where}: the field '{name}' is missing. Found: {have}. Is it the file "
                    "of another task?"
                )
            value = value[part]
        return value


def read_rows(path: Path, file_format: str, labels: Path | None = None) -> list[Row]:
    """All rows of a file. `labels` is a file with one label a line, added as the field "label".

    Raises TaskDataError naming file and line.
    """
    if file_format not in READERS:
        known = ", ".join(READERS)
        raise TaskDataError(f"Unknown file format '{file_format}'. Known: {known}.")
    rows = list(READERS[file_format](path))
    if not rows:
        raise TaskDataError(f"{path} has no examples. Is it cut off?")
    return rows if labels is None else _labelled(rows, path, labels)


def _labelled(rows: list[Row], path: Path, labels: Path) -> list[Row]:
    values = _text(labels).split()
    if len(values) != len(rows):
        raise TaskDataError(
            f"Wanted one label per example, found {len(values)} in {labels} for the {len(rows)} of "
            f"{path}. Are they of the same split?"
        )
    return [Row({**row.fields, "label": value}, row.where) for row, value in zip(rows, values)]


# ---- formats -------------------------------------------------------------------------------


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        yield Row(_mapping(line, f"{path}:{number}"), f"{path}:{number}")


def _tab_separated(path: Path) -> Iterator[Row]:
    # Quotes are part of the text in GLUE's files.
    yield from _table(path, delimiter="\t", quoting=csv.QUOTE_NONE)


def _comma_separated(path: Path) -> Iterator[Row]:
    yield from _table(path)


def _table(path: Path, **dialect) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_text(path)), strict=True, **dialect)
    try:
        header = next(reader, [])
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if not cells:  # a blank line, as some editors leave one at the end
                continue
            if len(cells) != len(header):
                raise TaskDataError(
                    f"{where}: wanted {len(header)} columns ({', '.join(header)}), found "
                    f"{len(cells)}."
                )
            yield Row(dict(zip(header, cells)), where)
    except csv.Error as fault:
        raise TaskDataError(f"{path}:{reader.line_num}: {fault}") from fault


TRACIE_LINE = re.compile(
    r"event: (?P<event>.*?) (?P<point>starts|ends) (?P<relation>before|after) (?P<other>.*?) "
    r"story: (?P<story>.*?)\s*\tanswer: (?P<answer>positive|negative)\s*"
)


def _tracie(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        found = TRACIE_LINE.fullmatch(line)
        if found is None:
            raise TaskDataError(
                f"{path}:{number}: wanted 'event: … starts|ends before|after … story: …<tab>answer: "
                f"positive|negative', found '{line[:80]}'."
            )
        parts = {name: " ".join(text.split()) for name, text in found.groupdict().items()}
        parts["hypothesis"] = "{event} {point} {relation} {other}".format(**parts)
        yield Row(parts, f"{path}:{number}")


def _squad(path: Path) -> Iterator[Row]:
    top, number = Row(_mapping(_text(path), str(path)), str(path)), 0
    for article in _inside(top, "data"):
        for paragraph in _inside(article, "paragraphs"):
            shared = {"context": paragraph.get("context"), "title": article.fields.get("title", "")}
            for question in _inside(paragraph, "qas"):
                number += 1
                place = f"{path}: question {number} (id {question.fields.get('id', 'missing')})"
                yield Row({**question.fields, **shared}, place)


def _adv_glue(path: Path) -> Iterator[Row]:
    """One JSON object with a list of examples for each task; each row gets its "task"."""
    top = Row(_mapping(_text(path), str(path)), str(path))
    for task in top.fields:
        for example in _inside(top, task):
            yield Row({**example.fields, "task": task}, example.where)


READERS = {
    "jsonl": _json_lines,
    "tsv": _tab_separated,
    "csv": _comma_separated,
    "tracie": _tracie,
    "squad": _squad,
    "adv-glue": _adv_glue,
}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not empty; only a line feed ends one, as texts may hold U+2028."""
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _inside(row: Row, name: str) -> Iterator[Row]:
    """The objects of a field that is a list. Raises TaskDataError for anything else."""
    found = row.get(name)
    for number, value in enumerate(found if isinstance(found, list) else [found]):
        where = f"{row.where}: {name}[{number}]"
        if not isinstance(value, dict):
            raise TaskDataError(f"{where}: wanted a JSON object, found {str(value)[:40]!r}.")
        yield Row(value, where)


def _mapping(text: str, where: str) -> dict:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as fault:
        raise TaskDataError(f"{where}: no JSON ({fault}).") from fault
    if not isinstance(content, dict):
        raise TaskDataError(f"{where}: wanted a JSON object, found {type(content).__name__}.")
    return content


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
        return content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as fault:
        raise TaskDataError(f"{path}: no text in UTF-8 ({fault}). Fetch it again.") from fault
