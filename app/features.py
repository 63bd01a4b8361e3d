"""What was computed of a library's videos: features, and embeddings for which runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app import preparation, resources
from app.wording import count, escape
from core import config
from core.feature_cache import CacheError, FeatureCache
from core.records import Video

ENTRY = re.compile(r"(frame|temporal|embeddings)-(.+)-([0-9a-f]{8})")


@dataclass(frozen=True)
class Entry:
    """One finished or unfinished cache entry of a library."""

    kind: str  # "frame" | "temporal" | "embeddings"
    name: str  # backbone or run
    path: Path
    finished: bool


def entries(library: str) -> list[Entry]:
    """Found by their folders' names; contents are not read."""
    found = []
    for path in sorted(config.library_root(library).iterdir()):
        match = ENTRY.fullmatch(path.name)
        if match and (path / "plan.json").exists():
            finished = (path / "manifest.json").exists()
            found.append(Entry(match[1], match[2], path, finished))
    return found


def show_state(shelf: resources.Shelf) -> None:
    """A line on features and embeddings, and the button that computes what is missing."""
    found = entries(shelf.name)
    done = {(entry.kind, entry.name) for entry in found if entry.finished}
    names = {kind: sorted({n for k, n in done if k == kind}) for kind in ("frame", "temporal")}
    existing = {run.name for run in resources.runs()}
    runs = sorted({n for kind, n in done if kind == "embeddings"} & existing)
    badges = []
    if not names["frame"] and not names["temporal"]:
        badges.append(":orange-badge[:material/pending: no features yet]")
    else:
        backbones = escape(" + ".join(names["frame"] + names["temporal"]))
        missing = len(shelf.videos) - len(with_features(shelf))
        some = f", not for {count(missing, 'video')}" if missing else ""
        badges.append(f":green-badge[:material/check: features: {backbones}{some}]")
    if runs:
        badges.append(f":green-badge[:material/check: searchable with {escape(', '.join(runs))}]")
    st.markdown(" ".join(badges))
    teachers = {run.name for run in resources.trained_runs() if run.kind == "teacher"}
    if not done or (teachers and not teachers <= set(runs)):
        preparation.offer(
            shelf.name, label="Prepare for search" if teachers else "Extract features"
        )


def with_features(shelf: resources.Shelf) -> set[str]:
    """Ids of the videos that every finished feature entry has rows for."""
    keys = [set(cache.keys()) for cache in _opened(shelf.name)]
    if not keys:
        return set()
    whole = set.intersection(*keys)
    return {v.video_id for v in shelf.library.videos if v.content_hash in whole}


def remarks(shelf: resources.Shelf, videos: list[Video]) -> dict[str, str]:
    """Short words on the videos that lack features, by id; none where nothing is extracted."""
    caches = _opened(shelf.name)
    if not caches:
        return {}
    able = with_features(shelf)
    failed = {key: why for cache in caches for key, why in cache.failed.items()}
    return {
        video.video_id: "cannot be decoded" if video.content_hash in failed else "no features"
        for video in videos
        if video.video_id not in able
    }


def _opened(library: str) -> list[FeatureCache]:
    """The finished feature entries; a damaged one counts as missing, its command says more."""
    caches = []
    for entry in entries(library):
        if entry.kind != "embeddings" and entry.finished:
            try:
                caches.append(resources.feature_cache(entry.path))
            except CacheError:
                continue
    return caches
