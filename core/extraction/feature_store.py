"""Read extracted features back: all streams of a video side by side, one row a second.

    features = load_features("kitchen", "efficientnet-lite0", "motion")
    features.video("boiling-water")  # float32 [seconds, dim]

Reading needs no torch. A row that is not there is an error with the command that makes it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from core.config import ExtractSettings, library_root
from core.data.video_library import load_library
from core.extraction import backbones
from core.feature_cache import CacheError, FeatureCache, find_entries, settings_hash
from core.records import Video, VideoLibrary

STREAMS = {"2d": "frame", "temporal": "temporal"}  # stream -> kind of its entry and backbone


class MissingFeatures(CacheError):
    """Features that were not extracted; the message has the command that does it."""


class FeatureStore:
    """The features of a library's videos, all chosen streams side by side."""

    def __init__(self, library: VideoLibrary, caches: dict[str, FeatureCache]):
        self.library = library.name
        self._caches = caches
        self._videos = {video.video_id: video for video in library.videos}
        self.stream_dims = {stream: cache.dim for stream, cache in caches.items()}
        self.dim = sum(self.stream_dims.values())
        self.video_ids = tuple(
            v.video_id
            for v in library.videos
            if all(v.content_hash in cache for cache in caches.values())
        )

    @property
    def key(self) -> str:
        """Hash of all that the features depend on besides the videos: for provenance."""
        parts = {stream: settings_hash(c.settings) for stream, c in self._caches.items()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def failed(self) -> dict[str, str]:
        """Video id -> why it has no features."""
        reasons: dict[str, str] = {}
        for cache in self._caches.values():
            reasons |= cache.failed
        return {
            v.video_id: reasons[v.content_hash]
            for v in self._videos.values()
            if v.content_hash in reasons
        }

    def video(self, video_id: str) -> np.ndarray:
        """One row a second: float32 [S, dim]. Raises MissingFeatures, naming the command."""
        video = self._videos.get(video_id)
        if video is None:
            raise MissingFeatures(f"No video '{video_id}' in library '{self.library}'.")
        parts = [self._read(video, stream) for stream in self._caches]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _read(self, video: Video, stream: str) -> np.ndarray:
        cache = self._caches[stream]
        if video.content_hash not in cache:
            why = cache.failed.get(video.content_hash, "it was not extracted")
            raise MissingFeatures(
                f"No {stream} features for video '{video.video_id}' in {cache.directory}: {why}. "
                f"Run: {cache.command}"
            )
        rows = cache.read(video.content_hash)
        if len(rows) != video.num_steps:
            raise MissingFeatures(
                f"Video '{video.video_id}' has {video.num_steps} seconds, its {stream} features "
                f"{len(rows)}. Delete {cache.directory}, then run: {cache.command}"
            )
        return rows


def load_features(
    library: str | VideoLibrary,
    frame: str = ExtractSettings.frame_backbone,
    temporal: str = ExtractSettings.temporal_backbone,
    streams: str = "2d+temporal",
) -> FeatureStore:
    """Open a library's features. streams: "2d", "temporal" or "2d+temporal".

    Where a backbone was extracted more than once (other weights or decoder), the entry that
    covers most of the library is taken, the newest of these. Raises MissingFeatures.
    """
    library = load_library(library) if isinstance(library, str) else library
    names = {"2d": frame, "temporal": temporal}
    caches = {
        stream: _open_entry(library, stream, names[stream], _command(library, frame, temporal))
        for stream in split_streams(streams)
    }
    store = FeatureStore(library, caches)
    if not store.video_ids:
        command = next(iter(caches.values())).command
        raise MissingFeatures(
            f"No video of library '{library.name}' has {streams} features. Run: {command}"
        )
    return store


def feature_state(
    library: str | VideoLibrary, frame: str | None = None, temporal: str | None = None
) -> dict[str, dict[str, bool]]:
    """Which streams each video has: {video_id: {"2d": True, "temporal": False}}.

    Without a backbone's name any backbone counts. Entries that cannot be read count as absent.
    """
    library = load_library(library) if isinstance(library, str) else library
    entries = {
        "2d": _readable(library, "2d", frame),
        "temporal": _readable(library, "temporal", temporal),
    }
    return {
        v.video_id: {
            stream: any(v.content_hash in cache for cache in caches)
            for stream, caches in entries.items()
        }
        for v in library.videos
    }


def split_streams(streams: str) -> tuple[str, ...]:
    """ "2d+temporal" -> ("2d", "temporal"), always in this order."""
    parts = streams.split("+")
    if not parts or sorted(set(parts)) != sorted(parts) or not set(parts) <= STREAMS.keys():
        raise ValueError(f"Wanted streams '2d', 'temporal' or '2d+temporal', found '{streams}'.")
    return tuple(stream for stream in STREAMS if stream in parts)


def extract_command(settings: ExtractSettings) -> str:
    """The command line that extracts with these settings."""
    default = ExtractSettings()
    words = ["python -m core extract", f"--library {settings.library}"]
    flags = {"frame_backbone": "frame", "temporal_backbone": "temporal", "decoder": "decoder"}
    for name, flag in flags.items():
        if getattr(settings, name) != getattr(default, name):
            words.append(f"--{flag} {getattr(settings, name)}")
    return " ".join(words)


def _command(library: VideoLibrary, frame: str, temporal: str) -> str:
    return extract_command(
        ExtractSettings(library=library.name, frame_backbone=frame, temporal_backbone=temporal)
    )


def _open_entry(library: VideoLibrary, stream: str, name: str, command: str) -> FeatureCache:
    found, complaints = [], []
    for directory in _entries(library, stream, name):
        try:
            cache = FeatureCache.open(directory, command=command)
            _refuse_old_recipe(cache, stream, name)
        except CacheError as error:
            complaints.append(str(error))
            continue
        covered = sum(video.content_hash in cache for video in library.videos)
        found.append((covered, (directory / "manifest.json").stat().st_mtime_ns, cache))
    if found:
        return max(found, key=lambda entry: entry[:2])[2]
    if complaints:
        raise MissingFeatures(complaints[0])
    raise MissingFeatures(
        f"No {stream} features by '{name}' for library '{library.name}' in "
        f"{library_root(library.name)}. Run: {command}"
    )


def _refuse_old_recipe(cache: FeatureCache, stream: str, name: str) -> None:
    wanted = backbones.recipe_of(STREAMS[stream], name)
    found = cache.settings.get("recipe")
    if found != wanted:
        raise CacheError(
            f"Stale: {cache.directory} was made by recipe {found} of '{name}', which is at "
            f"{wanted} now. Run: {cache.command}"
        )


def _readable(library: VideoLibrary, stream: str, name: str | None) -> list[FeatureCache]:
    caches = []
    for directory in _entries(library, stream, name):
        try:
            caches.append(FeatureCache.open(directory))
        except CacheError:
            continue  # unfinished or damaged: for a view of what there is, absent
    return caches


def _entries(library: VideoLibrary, stream: str, name: str | None) -> list[Path]:
    kind, root = STREAMS[stream], library_root(library.name)
    if name is not None:
        return find_entries(root, kind, backbones.folder_name(name))
    return sorted(path for path in root.glob(f"{kind}-*") if path.is_dir())
