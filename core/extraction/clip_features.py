"""Extract both feature streams of a library, resumably, and read them back.

    extract(ExtractSettings(library="kitchen"))
    features = load_features("kitchen", "efficientnet-lite0", "motion")
    features.video("boiling-water")  # float32 [seconds, dim]

Each stream is one cache entry, cached_features/<library>/{frame,temporal}-<backbone>-<hash>/,
keyed by the videos' content hash: a renamed file keeps its features, a changed one loses them.
torch is needed to extract, not to read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import filelock
import numpy as np

from core.config import ExtractSettings, SettingsError, library_root
from core.data.video_library import load_library
from core.extraction import backbones, video_features, worker_pool
from core.extraction.decoding import DECODERS, UnreadableVideo
from core.extraction.feature_store import (
    STREAMS,
    FeatureStore,
    MissingFeatures,
    extract_command,
    feature_state,
    load_features,
)
from core.feature_cache import (
    CacheError,
    FeatureCache,
    entry_name,
)
from core.records import Video, VideoLibrary

__all__ = [
    "ExtractError",
    "ExtractReport",
    "FeatureStore",
    "MissingFeatures",
    "extract",
    "extract_command",
    "feature_state",
    "load_features",
]

Progress = Callable[[int, int, str], None]

KILLED = "The process that read it ended"
_WAIT_SEC = 600.0  # for other ranks, without a new shard from any of them
_MODULE = "core.extraction.extraction_worker"


class ExtractError(RuntimeError):
    """Extraction could not be done or finished; the message says what to do."""


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction left behind."""

    library: str
    num_videos: int
    failed: dict[str, str] = field(default_factory=dict)  # video id -> why it has no features


# ---- extracting ------------------------------------------------------------------------------


def extract(settings: ExtractSettings, progress: Progress | None = None) -> ExtractReport:
    """Compute both streams for every video of a library that lacks them.

    May be killed at any moment and run again. Under torchrun each rank takes its share of the
    shards. progress(done, total, message) is called for every video.

    Raises ExtractError when nothing could be read, a rank or worker failed, or another
    extraction of the same library is running; BackboneError for a backbone that is not there.
    """
    progress = progress or (lambda done, total, message: None)
    if settings.decoder not in DECODERS:
        known = ", ".join(DECODERS)
        raise SettingsError(f"Unknown decoder '{settings.decoder}'. Known: {known}.")
    library = load_library(settings.library)
    if not library.videos:
        raise ExtractError(
            f"Library '{library.name}' has no videos. Run: python -m core import FOLDER"
        )
    with _only_one(settings.library, _rank()):
        caches = plan(settings, library)
        _plan_retries(caches, library)
        jobs = _pending_jobs(caches)
        mine = [job for i, job in enumerate(jobs) if i % _world_size() == _rank()]
        _run(settings, library, caches, mine, progress)
        _finish(caches, progress)
    return _report(library, caches)


def plan(settings: ExtractSettings, library: VideoLibrary) -> dict[str, FeatureCache]:
    """The cache entry of each stream, planned for all videos of the library."""
    weights = {video.content_hash: float(video.num_steps) for video in library.videos}
    caches = {}
    for stream, kind in STREAMS.items():
        name = backbone_name(settings, stream)
        entry = entry_settings(settings, stream)
        folder = entry_name(kind, backbones.folder_name(name), entry)
        caches[stream] = FeatureCache.create(
            library_root(settings.library) / folder,
            settings=entry,
            keys=sorted(weights),
            weights=weights,
            command=extract_command(settings),
        )
    return caches


def entry_settings(settings: ExtractSettings, stream: str) -> dict:
    """All that a stream's features depend on besides the videos."""
    kind = STREAMS[stream]
    facts = backbones.describe_backbone(kind, backbone_name(settings, stream))
    return facts | {"kind": kind, "decoder": settings.decoder}


def backbone_name(settings: ExtractSettings, stream: str) -> str:
    return settings.frame_backbone if stream == "2d" else settings.temporal_backbone


def _pending_jobs(caches: dict[str, FeatureCache]) -> list[dict]:
    """Shards to write, both streams together where they lack the same keys.

    Whatever a crash or a bad disk did to finished shards is found here by their checksums.
    """
    jobs: dict[tuple[str, ...], dict[str, int]] = {}
    for stream, cache in caches.items():
        for shard in cache.pending_shards("full"):
            jobs.setdefault(shard.keys, {})[stream] = shard.index
    return [{"keys": list(keys), "shards": shards, "failed": {}} for keys, shards in jobs.items()]


def _run(settings, library, caches, jobs: list[dict], progress: Progress) -> None:
    if not jobs:
        return
    counter = _Counter(library, sum(len(job["keys"]) for job in jobs), progress)
    if settings.workers <= 1 or _world_size() > 1:
        encoder = ShardEncoder(settings, library, caches)
        for job in jobs:
            encoder.encode(job, counter.hear)
        return
    setup = {"settings": vars(settings), "folders": _folders(caches)}
    # Bad videos are few; one that kills its worker twice is passed over.
    deaths: dict[str, int] = {}

    def on_death(job: dict, how: str) -> dict | None:
        key = counter.current(job)
        deaths[key] = deaths.get(key, 0) + 1
        counter.take_back(job)
        progress(counter.done, counter.total, f"a worker ended: {how}; its part is begun anew")
        if deaths[key] < 2:
            return job
        if key in job["failed"]:  # it dies without that video too: the shard stays unwritten
            return None
        return job | {"failed": job["failed"] | {key: f"{KILLED}: {how}."}}

    worker_pool.run_jobs(
        _MODULE, setup, jobs, settings.workers, lambda job, m: counter.hear(m), on_death
    )


def _folders(caches: dict[str, FeatureCache]) -> dict[str, str]:
    return {stream: str(cache.directory) for stream, cache in caches.items()}


class _Counter:
    """Counts videos for the progress bar and knows which one each shard is at."""

    def __init__(self, library: VideoLibrary, total: int, progress: Progress):
        self.names = {video.content_hash: video.video_id for video in library.videos}
        self.total, self.done, self.progress = total, 0, progress
        self._at: dict[str, int] = {}  # first key of a job -> videos of it that are done

    def hear(self, message: dict) -> None:
        """A video was begun (or skipped): those before it are done."""
        job, position = message["job"], message["position"]
        self.done += position - self._at.get(job, 0)
        self._at[job] = position
        key = message.get("key", "")
        self.progress(self.done, self.total, self.names.get(key, ""))

    def current(self, job: dict) -> str:
        """The key at which the job's worker died; the last one if it died while writing."""
        position = self._at.get(job["keys"][0], 0)
        return job["keys"][min(position, len(job["keys"]) - 1)]

    def take_back(self, job: dict) -> None:
        """The job starts anew."""
        self.done -= self._at.pop(job["keys"][0], 0)


class ShardEncoder:
    """Encodes whole shards with loaded backbones; one per process."""

    def __init__(self, settings: ExtractSettings, library: VideoLibrary, caches: dict):
        self.settings, self.caches = settings, caches
        self.videos = {video.content_hash: video for video in library.videos}
        self.backbones = {
            "2d": backbones.load_frame_backbone(settings.frame_backbone),
            "temporal": backbones.load_temporal_backbone(settings.temporal_backbone),
        }

    def encode(self, job: dict, hear: Callable[[dict], None]) -> None:
        """Encode the job's videos and write its shard of each stream."""
        rows: dict[str, dict[str, np.ndarray]] = {stream: {} for stream in job["shards"]}
        failed: dict[str, str] = dict(job["failed"])
        name = job["keys"][0]
        for position, key in enumerate(job["keys"]):
            if key in failed:
                continue
            hear({"job": name, "position": position, "key": key})
            try:
                for stream, array in self._encode_video(key, job["shards"]).items():
                    rows[stream][key] = array
            except UnreadableVideo as error:
                failed[key] = str(error)
        for stream, index in job["shards"].items():
            self.caches[stream].write_shard(index, rows[stream], failed)
        hear({"job": name, "position": len(job["keys"])})

    def _encode_video(self, key: str, streams) -> dict[str, np.ndarray]:
        if key not in self.videos:
            raise UnreadableVideo(f"{video_features.GONE}: it has left the library.")
        chosen = {stream: self.backbones[stream] for stream in streams}
        settings = self.settings
        found = video_features.encode_video(
            self.videos[key], chosen, settings.decoder, settings.batch_frames
        )
        for stream, array in found.items():
            _check_range(stream, array, self.caches[stream].dtype)
        return found


def _check_range(stream: str, array: np.ndarray, dtype: np.dtype) -> None:
    """Features that half precision cannot hold would be kept as infinity."""
    with np.errstate(over="ignore"):
        if not np.isfinite(array.astype(dtype)).all():
            raise UnreadableVideo(f"Its {stream} features are not finite as {dtype}.")


# ---- second attempts -------------------------------------------------------------------------


def _plan_retries(caches: dict[str, FeatureCache], library: VideoLibrary) -> None:
    """Plan another attempt at videos whose failure may be over: files back, memory free."""
    if _world_size() > 1:
        return
    videos = {video.content_hash: video for video in library.videos}
    for cache in caches.values():
        # While shards are missing the first attempt is still going on.
        if cache.pending_shards():
            continue
        failures = cache.failures()
        again = [k for k, why in failures.items() if k in videos and _is_over(videos[k], why)]
        if again:
            cache.retry(again)


def _is_over(video: Video, reason: str) -> bool:
    if reason.startswith((video_features.GONE, video_features.CHANGED)):
        return video.path.is_file() and video_features.file_hash(video.path) == video.content_hash
    return reason.startswith(KILLED)


# ---- one of several processes ----------------------------------------------------------------


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def _only_one(library: str, rank: int) -> Iterator[None]:
    """Hold the extraction's lock; the system frees it even when its holder is killed."""
    lock = filelock.FileLock(library_root(library) / f".extract-{rank}.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ExtractError(
            f"Features of '{library}' are being extracted by another process. "
            "Wait until it is done, or end it, then run the command again."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _finish(caches: dict[str, FeatureCache], progress: Progress) -> None:
    """Write the manifests, once all ranks' shards are there."""
    _wait(caches, _pending_of_others, "shards of other processes", progress)
    if _rank() == 0:
        for cache in caches.values():
            if not is_finished(cache):
                cache.finish()
    _wait(caches, _unfinished, "process 0 to finish", progress)


def is_finished(cache: FeatureCache) -> bool:
    """Whether the entry can be read and holds all that is planned."""
    try:
        return FeatureCache.open(cache.directory).is_complete()
    except CacheError:
        return False


def _pending_of_others(caches: dict[str, FeatureCache]) -> int:
    return sum(len(cache.pending_shards()) for cache in caches.values())


def _unfinished(caches: dict[str, FeatureCache]) -> int:
    return sum(not is_finished(cache) for cache in caches.values())


def _wait(caches, count: Callable[[dict], int], what: str, progress: Progress) -> None:
    """Wait until `count` is 0; raise ExtractError when it stays as it is for ten minutes."""
    left, since = count(caches), time.monotonic()
    while left:
        if _world_size() == 1 or time.monotonic() - since > _WAIT_SEC:
            directories = ", ".join(str(cache.directory) for cache in caches.values())
            raise ExtractError(
                f"Waited for {what}: {left} still missing in {directories}. "
                f"Run again: {next(iter(caches.values())).command}"
            )
        progress(0, left, f"waiting for {what}: {left} to go")
        time.sleep(0.5)
        before, left = left, count(caches)
        if left < before:
            since = time.monotonic()


def _report(library: VideoLibrary, caches: dict[str, FeatureCache]) -> ExtractReport:
    failures: dict[str, str] = {}
    for cache in caches.values():
        failures |= cache.failures()
    failed = {
        v.video_id: failures[v.content_hash] for v in library.videos if v.content_hash in failures
    }
    if len(failed) == len(library.videos):
        first = next(iter(failed))
        raise ExtractError(
            f"None of the {len(failed)} videos of '{library.name}' could be read. "
            f"'{first}': {failed[first]}"
        )
    return ExtractReport(library.name, len(library.videos), failed)
