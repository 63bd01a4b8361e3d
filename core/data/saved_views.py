"""Named views of a workspace: what to show and what was selected, as a link would say it.

One small JSON file for each page under cached_features/.views/. A view holds words and geometry,
never rows, so that it means the same after a map was computed anew.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock

from core import config
from core.models.run_folder import write_json

MOST_VIEWS = 500
MOST_CHARACTERS = 60  # of a name
MOST_BYTES = 20_000  # of one view


class SavedViewError(ValueError):
    """A view that cannot be kept under this name; the message says why."""


@dataclass(frozen=True)
class SavedView:
    """A view with its name; `query` are the parts of its link."""

    name: str
    query: Mapping[str, str]


def list_views(page: str) -> list[SavedView]:
    """All views of a page, in the order they were saved."""
    return [SavedView(each["name"], each["query"]) for each in _read(_file(page))]


def save_view(page: str, name: str, query: Mapping[str, str]) -> SavedView:
    """Keep a view under a name; one that has the name already is replaced.

    Raises SavedViewError for a name that is empty or too long, and when there are too many.
    """
    name = " ".join(name.split())
    if not name or len(name) > MOST_CHARACTERS:
        raise SavedViewError(
            f"A view's name has 1 to {MOST_CHARACTERS} characters; this has {len(name)}."
        )
    view = SavedView(name, {key: str(value) for key, value in query.items()})
    if len(json.dumps(dict(view.query))) > MOST_BYTES:
        raise SavedViewError("This selection has too many corners to be kept. Draw a simpler one.")
    with _writing(page) as path:
        others = [each for each in _read(path) if each["name"] != name]
        if len(others) >= MOST_VIEWS:
            raise SavedViewError(f"There are {MOST_VIEWS} saved views. Delete one first.")
        write_json(path, [*others, {"name": name, "query": dict(view.query)}])
    return view


def delete_view(page: str, name: str) -> None:
    """Forget a view; one that is gone already is no fault."""
    with _writing(page) as path:
        write_json(path, [each for each in _read(path) if each["name"] != name])


def _file(page: str) -> Path:
    return config.cache_root() / ".views" / f"{page}.json"


@contextlib.contextmanager
def _writing(page: str) -> Iterator[Path]:
    """The page's file, held against other writers."""
    path = _file(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_suffix(".lock")):
        yield path


def _read(path: Path) -> list[dict]:
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text())
        return [
            each
            for each in found
            if isinstance(each["name"], str) and each["query"].items() is not None
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SavedViewError(
            f"The saved views at {path} cannot be read: {error}. Mend or delete the file."
        ) from error
