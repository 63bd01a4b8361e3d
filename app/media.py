"""Pieces of video that a browser can play and seek in, served by Streamlit's media files.

Only files of an imported library are served, found by their id: no path comes from the page.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from core import config
from core.records import Video

WHOLE_SEC = 60.0  # shorter videos are served whole
PIECE_SEC = 45.0  # of a longer one, this much around the moment
GRID_SEC = 15.0  # pieces start on this grid, so that near moments share a file
MAX_DIRECT_BYTES = 8_000_000  # a served file is held in memory while a page shows it
MAX_PREVIEW_BYTES = 2_000_000_000  # of one library; the oldest previews go first


@dataclass(frozen=True)
class Piece:
    """A served part of a video: where it lies in the original and where the browser gets it."""

    url: str
    start_sec: float
    length_sec: float


def piece_around(library: str, video: Video, at_sec: float, key: str) -> Piece:
    """The piece of the video that shows `at_sec`, made on first use (seconds), then kept.

    `key` names the place on the page; the file is served as long as a page has it there.
    Raises core's UnreadableVideo when nothing decodes, FileNotFoundError when it is gone.
    """
    start, end = piece_span(video, at_sec)
    if end - start >= video.duration_sec - 1e-6 and plays_directly(video):
        path = video.path
    else:
        path = preview(library, video, start, end)
    return Piece(serve(path, "video/mp4", key), start, end - start)


def piece_span(video: Video, at_sec: float) -> tuple[float, float]:
    """Start and end of the piece that holds `at_sec`, in seconds of the video."""
    if video.duration_sec <= WHOLE_SEC:
        return 0.0, video.duration_sec
    start = GRID_SEC * max(0.0, (at_sec - 5.0) // GRID_SEC)
    start = max(0.0, min(start, video.duration_sec - PIECE_SEC))
    return start, min(start + PIECE_SEC, video.duration_sec)


def plays_directly(video: Video) -> bool:
    """Whether every browser plays the file as it is: a small upright 8-bit H.264 MP4."""
    if video.codec != "h264" or video.path.suffix.lower() != ".mp4" or video.rotation:
        return False
    if video.path.stat().st_size > MAX_DIRECT_BYTES:
        return False
    return _pixel_format(str(video.path), video.content_hash) in ("yuv420p", "yuvj420p")


def preview(library: str, video: Video, start_sec: float, end_sec: float) -> Path:
    """An H.264 cut of the video under the library's previews/, made when missing."""
    from core.extraction.decoding import cut_preview

    folder = config.library_root(library) / "previews"
    out = folder / f"{video.content_hash[:20]}-{start_sec * 10:.0f}-{end_sec * 10:.0f}.mp4"
    with _LOCKS.of(str(out)):  # two pages that want the same cut wait; others do not
        if not out.exists():
            cut_preview(video.path, start_sec, end_sec, out)
            prune(folder, keep=out)
    return out


def prune(folder: Path, keep: Path, max_bytes: int = MAX_PREVIEW_BYTES) -> None:
    """Delete the oldest previews until the folder is within its bound."""
    whole = (path for path in folder.glob("*.mp4") if not path.name.startswith("."))
    files = sorted(whole, key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        if total <= max_bytes:
            return
        if path != keep:
            total -= path.stat().st_size
            path.unlink()


def serve(file: Path | bytes, mimetype: str, key: str) -> str:
    """A URL for a file, valid while the page shows it at `key`; byte ranges are answered."""
    import streamlit as st
    from streamlit import runtime

    if not runtime.exists():
        return ""
    content = file if isinstance(file, bytes) else str(file)
    url = runtime.get_instance().media_file_mgr.add(content, mimetype, f"vidlankd.{key}")
    base = st.get_option("server.baseUrlPath").strip("/")
    return f"/{base}{url}" if base else url


class KeyedLocks:
    """A lock for each name, a bounded number of them."""

    def __init__(self, max_entries: int = 512):
        self._locks: OrderedDict[str, threading.Lock] = OrderedDict()
        self._guard = threading.Lock()
        self._max_entries = max_entries

    def of(self, name: str) -> threading.Lock:
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
            self._locks.move_to_end(name)
            for old in list(self._locks)[: -self._max_entries]:
                if not self._locks[old].locked():
                    del self._locks[old]
            return lock


_LOCKS = KeyedLocks()


@lru_cache(maxsize=4096)
def _pixel_format(path: str, content_hash: str) -> str:
    """By content hash too, so that a replaced file is looked at again."""
    import av

    with av.open(path) as container:
        return container.streams.video[0].codec_context.pix_fmt or ""
