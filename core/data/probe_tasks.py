"""Downstream tasks as data: a task is one description in core/data/tasks/.

    name, title, about, source    what people read
    kind                          choice | classification | span
    fields                        what is called how in the file; `{a} {b}` joins fields
    labels, label_values          the classes in order, and how the files write them
    files                         format, and for each split its file below the data folder
    hub                           the dataset's name on the hub, where it has one
    evaluation, training          the splits that are meant when none is named
    zero_shot                     whether a masked LM can be asked without training
    template                      fields that make up a template, for the answer-by-template line
    metadata, categories          fields kept with each item; fields that hold tags, joined by ";"
    note                          a limit that every result says

A split has a `file`; and, where needed, `labels` (a file of one label a line), `format`, `rename`
(its columns to those of `fields`), `where` (values that its rows have), `unlabelled: true`. A split
`of` another is its `part`, as [0, 0.8] of it by a hash of the fields in `by`, so that rows that share
these are never on both sides.

Files are read in place, in the layout of the `files` entries, below VIDLANKD_DATA (or data/).
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from core import config
from core.config import SettingsError
from core.data.task_files import Row, TaskDataError, read_rows
from core.records import ProbeItem, SpanItem, TextItem

Item = ProbeItem | TextItem | SpanItem
TASKS = Path(__file__).parent / "tasks"
KINDS = ("choice", "classification", "span")
HUB = "hub"  # in place of a folder: fetch the dataset by its name


class TaskDataMissing(SettingsError):
    """A task's files are not where they were looked for."""


@dataclass(frozen=True)
class ProbeTask:
    """A task's description."""

    name: str
    title: str
    about: str
    source: str  # the paper
    kind: str
    fields: dict
    files: dict  # {"format": …, "root": "data" | "demo", "splits": {split: {"file": …}}}
    evaluation: str
    labels: tuple[str, ...] = ()
    label_values: dict = field(default_factory=dict)
    training: str = ""
    metrics: tuple[str, ...] = ("accuracy",)
    zero_shot: bool = False
    template: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()  # fields that are kept with each item
    categories: tuple[str, ...] = ()  # fields whose values, joined by ";", are categories
    hub: dict = field(default_factory=dict)
    note: str = ""  # a limit that every result says

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files["splits"])


# ---- descriptions --------------------------------------------------------------------------


def task_names() -> list[str]:
    """All tasks with a description, the demo's first."""
    names = sorted(path.stem for path in TASKS.glob("*.yaml"))
    return sorted(names, key=lambda name: (not name.startswith("demo_"), name))


@cache
def load_task(name: str) -> ProbeTask:
    """A task's description. Raises SettingsError for an unknown name, with the close ones."""
    import yaml

    path = TASKS / f"{name}.yaml"
    if not path.is_file():
        close = difflib.get_close_matches(name, task_names(), n=2, cutoff=0.4)
        hint = (
            f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(task_names())}."
        )
        raise SettingsError(f"Unknown task '{name}'. {hint}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    task = config.from_dict(ProbeTask, {"name": name, **content})
    if task.kind not in KINDS:
        raise SettingsError(f"{path}: wanted kind {', '.join(KINDS)}, found '{task.kind}'.")
    return task


def data_root() -> Path:
    """Where the tasks' files are looked for: VIDLANKD_DATA, else data/ in the home folder."""
    return Path(os.environ.get("VIDLANKD_DATA") or config.home() / "data")


def available(name: str, split: str = "", data: Path | str | None = None) -> bool:
    """Whether the split's files are there; reads none of them. On the hub: whether it is named."""
    task = load_task(name)
    if _is_hub(data):
        return bool(task.hub)
    spec = _file_spec(task, split or task.evaluation)
    return all(path.is_file() for path in _paths(task, spec, data))


# ---- items ---------------------------------------------------------------------------------


def load_items(
    name: str,
    split: str = "",
    form: str = "",
    data: Path | str | None = None,
    limit: int = 0,
    seed: int = 0,
) -> list[Item]:
    """A split's items in the order of its file; "" is the evaluation split.

    `form` is choice (forced choice by score), classification or span; "" is choice where the
    task can be asked without training, else the task's kind. `data` is a folder, "hub", or
    "hub:NAME" for another dataset of the same fields; None is data_root(). `limit` draws so
    many items by `seed`. Raises TaskDataMissing, TaskDataError (file, line, field), or
    SettingsError for a split or form that the task does not have.
    """
    task = load_task(name)
    split = split or task.evaluation
    form = form or ("choice" if task.zero_shot else task.kind)
    if _is_hub(data):
        rows = _hub_rows(task, split, str(data).partition(":")[2])
    else:
        rows = _file_rows(task, split, data)
    items = list(_items(task, form, rows, split))
    if 0 < limit < len(items):
        chosen = np.random.default_rng(seed).choice(len(items), limit, replace=False)
        items = [items[row] for row in np.sort(chosen)]
    return items


def _is_hub(data: Path | str | None) -> bool:
    """A folder named hub/ is still a folder when it is given as ./hub."""
    return str(data) == HUB or str(data).startswith(f"{HUB}:")


def items_hash(items: Sequence[Item]) -> str:
    """sha256 over the items' content, hex."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(dataclasses.asdict(item), sort_keys=True).encode())
    return digest.hexdigest()


def _items(task: ProbeTask, form: str, rows: Sequence[Row], split: str) -> Iterator[Item]:
    makers = {
        ("choice", "choice"): _choice_item,
        ("classification", "classification"): _text_item,
        ("span", "span"): _span_item,
    }
    if task.files["format"] == "tracie" and form == "choice":
        return _tracie_pairs(task, rows, split)
    if (task.kind, form) not in makers:
        raise SettingsError(
            f"The task '{task.name}' is of kind {task.kind}; it has no form '{form}'."
        )
    make = makers[task.kind, form]
    return (make(task, row, f"{task.name}-{split}-{n}") for n, row in enumerate(rows))


def _choice_item(task: ProbeTask, row: Row, item_id: str) -> ProbeItem:
    if task.fields.get("items"):  # the demo's files hold whole items
        values = {key: row.get(key) for key in ("item_id", "task", "context", "choices", "label")}
        values["choices"] = tuple(values["choices"])
        return ProbeItem(**values, metadata=row.fields.get("metadata", {}))
    choices = tuple(_joined(row, pattern) for pattern in task.fields["choices"])
    label = _label(task, row, len(choices))
    context = _joined(row, task.fields["context"])
    return ProbeItem(item_id, task.name, context, choices, label, _metadata(task, row))


def _text_item(task: ProbeTask, row: Row, item_id: str) -> TextItem:
    second = task.fields.get("second_text", "")
    return TextItem(
        item_id,
        task.name,
        _joined(row, task.fields["text"]),
        _joined(row, second) if second else "",
        _label(task, row, len(task.labels)),
        _metadata(task, row),
    )


def _span_item(task: ProbeTask, row: Row, item_id: str) -> SpanItem:
    answers = row.fields.get("answers")
    if answers is None:
        raise TaskDataError(f"{row.where}: the field 'answers' is missing.")
    if isinstance(answers, dict):  # as the hub has them
        answers = Row(answers, row.where)
        pairs = list(zip(answers.get("text"), answers.get("answer_start")))
    else:
        found = [Row(answer, row.where) for answer in answers]
        pairs = [(answer.get("text"), int(answer.get("answer_start"))) for answer in found]
    context = row.get("context")
    for text, start in pairs:
        if context[start : start + len(text)] != text:
            raise TaskDataError(
                f"{row.where}: the answer '{text[:40]}' does not stand at character {start}."
            )
    item_id = str(row.fields.get("id", item_id))
    metadata = {"title": row.fields.get("title", "")}
    return SpanItem(
        item_id, task.name, row.get("question"), context, tuple(dict.fromkeys(pairs)), metadata
    )


def _tracie_pairs(task: ProbeTask, rows: Sequence[Row], split: str) -> Iterator[ProbeItem]:
    """The before and after forms of each hypothesis as one forced choice.

    The files hold both forms, one positive and one negative: two rows are one question. A
    hypothesis that stands there twice is two questions.
    """
    found: dict[tuple, dict[str, Row]] = {}
    times: Counter = Counter()
    for row in rows:
        key = tuple(row.get(name) for name in ("story", "event", "point", "other"))
        times[key, row.get("relation")] += 1
        found.setdefault((*key, times[key, row.get("relation")]), {})[row.get("relation")] = row
    for number, ((story, event, point, other, _), forms) in enumerate(found.items()):
        right = {
            relation if row.get("answer") == "positive" else _OPPOSITE[relation]
            for relation, row in forms.items()
        }
        if len(right) != 1:
            raise TaskDataError(
                f"{next(iter(forms.values())).where}: both forms of '{event} {point} … {other}' "
                "have the same answer."
            )
        choices = tuple(f"{event} {point} {relation} {other}" for relation in _OPPOSITE)
        metadata = _metadata(task, next(iter(forms.values()))) | {"rows": len(forms)}
        metadata["template"] = point
        label = list(_OPPOSITE).index(right.pop())
        item_id = f"{task.name}-{split}-pair-{number}"
        yield ProbeItem(item_id, task.name, story, choices, label, metadata)


_OPPOSITE = {"before": "after", "after": "before"}


def _joined(row: Row, pattern: str) -> str:
    """A field's text, or "{a} {b}" with the fields put in."""
    if "{" not in pattern:
        return str(row.get(pattern))
    names = [part.split("}")[0] for part in pattern.split("{")[1:]]
    for name in names:
        pattern = pattern.replace("{" + name + "}", str(row.get(name)))
    return pattern


def _label(task: ProbeTask, row: Row, count: int) -> int | None:
    name = task.fields.get("label", "label")
    if name not in row.fields:
        row.get(name)  # says what is missing
    value = row.fields[name]
    if value is None or str(value) in ("-1", ""):  # the hub's sign for a hidden answer
        return None
    if task.label_values:
        known = {str(key): number for key, number in task.label_values.items()}
        if str(value) in known:
            return known[str(value)]
        wanted = ", ".join(known)
    else:
        if str(value).isdigit() and int(value) < count:
            return int(value)
        wanted = ", ".join(map(str, range(count)))
    raise TaskDataError(f"{row.where}: wanted the label {wanted}, found '{value}'.")


def _metadata(task: ProbeTask, row: Row) -> dict:
    found = {name: row.fields[name] for name in task.metadata if row.fields.get(name) is not None}
    if task.template:
        found["template"] = "/".join(str(row.get(name)) for name in task.template)
    if task.categories:
        found["categories"] = [
            f"{name}: {value.strip()}"
            for name in task.categories
            for value in str(row.fields.get(name) or "").split(";")
            if value.strip()
        ]
    if task.files["format"] == "tracie":
        found["point"] = row.get("point").removesuffix("s")  # "start" or "end"
        found["story"] = _short_hash(row.get("story"))
        key = json.dumps([row.get(n) for n in ("story", "event", "point", "other")])
        found["pair"] = _short_hash(key)
    return found


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# ---- where rows come from ------------------------------------------------------------------


def _file_spec(task: ProbeTask, split: str) -> dict:
    """The entry of a split, with what it takes over from the one that it is a part of."""
    splits = task.files["splits"]
    if split not in splits:
        raise SettingsError(
            f"The task '{task.name}' has no split '{split}'. Its splits: {', '.join(splits)}."
        )
    spec = splits[split]
    return {**splits[spec["of"]], **spec} if "of" in spec else spec


def _paths(task: ProbeTask, spec: dict, data: Path | str | None) -> list[Path]:
    if task.files.get("root") == "demo":
        root = config.library_root("demo") / "demo"
    else:
        root = Path(data) if data else data_root()
    return [root / spec[key] for key in ("file", "labels") if key in spec]


def _file_rows(task: ProbeTask, split: str, data: Path | str | None) -> list[Row]:
    spec = _file_spec(task, split)
    paths = _paths(task, spec, data)
    for path in paths:
        if not path.is_file():
            raise TaskDataMissing(_how_to_get(task, path))
    rows = read_rows(paths[0], spec.get("format", task.files["format"]), *paths[1:])
    rows = [_renamed(row, spec.get("rename", {})) for row in _chosen(rows, spec)]
    return [_without_label(task, row) for row in rows] if spec.get("unlabelled") else rows


def _without_label(task: ProbeTask, row: Row) -> Row:
    """Only a split that is described so may lack its labels: elsewhere the file is wrong."""
    return Row({**row.fields, task.fields.get("label", "label"): None}, row.where)


def _renamed(row: Row, names: dict) -> Row:
    if not names:
        return row
    return Row({names.get(key, key): value for key, value in row.fields.items()}, row.where)


def _chosen(rows: list[Row], spec: dict) -> list[Row]:
    """The rows of a split: those with the wanted values, and of these its part."""
    for name, value in spec.get("where", {}).items():
        rows = [row for row in rows if str(row.fields.get(name)) == str(value)]
    if "part" in spec:
        low, high = spec["part"]
        rows = [row for row in rows if low <= _place(row, spec.get("by", ())) < high]
    return rows


def _place(row: Row, by: Sequence[str]) -> float:
    """A place in [0, 1) that a row keeps whatever stands around it; rows alike in `by` share it."""
    content = [row.get(name) for name in by] if by else row.fields
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _how_to_get(task: ProbeTask, path: Path) -> str:
    if task.files.get("root") == "demo":
        return f"No items of '{task.name}' at {path}. Run: python -m core demo"
    hub = f", or online --data hub ({task.hub['path']})" if task.hub else ""
    return (
        f"No file of '{task.name}' at {path}. Put the published files below a folder and give "
        f"--data FOLDER or set VIDLANKD_DATA{hub}."
    )


def _hub_rows(task: ProbeTask, split: str, name: str) -> list[Row]:
    """Rows of the hub's dataset, with the names that the files have."""
    if not (task.hub or name):
        raise SettingsError(
            f"The task '{task.name}' has no dataset on the hub. Give --data FOLDER."
        )
    spec = task.files["splits"].get(split, {})
    base = spec.get("of", split)
    hub_split = task.hub.get("splits", {}).get(base, base)
    if name:
        found = _hub_dataset(name, hub_split)
    else:
        own = task.hub
        found = _hub_dataset(own["path"], hub_split, own.get("config"), own.get("revision"))
    rows = [Row(dict(row), f"{name or task.hub['path']}/{hub_split}:{n}") for n, row in found]
    renamed = [_renamed(row, task.hub.get("rename", {})) for row in rows]
    return _chosen(renamed, {key: spec[key] for key in ("part", "by") if key in spec})


def _hub_dataset(path: str, split: str, subset: str | None = None, revision: str | None = None):
    """Numbered rows; `path` is a name on the hub or a folder that holds a dataset."""
    from datasets import load_dataset

    try:
        found = load_dataset(path, subset, split=split, revision=revision)
    except Exception as fault:  # the library raises many kinds; all mean that it cannot be had
        raise TaskDataMissing(
            f"The dataset '{path}' ({split}) could not be had: {' '.join(str(fault).split())[:200]} "
            "Go online, or give the published files with --data FOLDER."
        ) from fault
    return enumerate(found, start=1)
