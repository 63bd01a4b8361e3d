"""A library of made-up features and captions for tests and timing of training.

Every second of a video shows one thing in one action; its features are the sum of two fixed
random directions and noise, so a teacher can learn them in seconds. Library and features are
written by the same functions as real ones; only the pixels are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.config import ExtractSettings, library_root
from core.data.video_library import save_library
from core.extraction.clip_features import plan
from core.records import Clip, Video, VideoLibrary

NAME = "tiny"
THINGS = ["ball", "cube", "vase", "bottle", "ring", "cone", "barrel", "plate"]
ACTIONS = ["bounces", "rolls", "slides", "falls", "spins", "floats"]
SIZES = {"2d": 48, "temporal": 32}
CLIP_STEPS = 2


def make_library(videos: int = 48, clips_each: int = 3, seed: int = 0) -> VideoLibrary:
    """Write the library "tiny" with its features under the current home and return it."""
    rng = np.random.default_rng(seed)
    media = library_root(NAME) / "media"
    media.mkdir(parents=True, exist_ok=True)
    shown = rng.integers((len(THINGS), len(ACTIONS)), size=(videos, clips_each, 2))
    made = [_video(number, clips_each, media) for number in range(videos)]
    clips = [
        _clip(video, place, *shown[number, place])
        for number, video in enumerate(made)
        for place in range(clips_each)
    ]
    library = save_library(VideoLibrary(NAME, tuple(made), tuple(clips)))
    _write_features(library, shown, rng)
    return library


def corpus_text(sentences: int = 400, seed: int = 1) -> str:
    """Text about the same things, one sentence a line."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(sentences):
        thing, action = rng.choice(THINGS), rng.choice(ACTIONS)
        tail = rng.choice(["and then it stops", "near the wall", "once more", "for a while"])
        lines.append(f"The {thing} {action} across the wooden table {tail}.")
    return "\n".join(lines) + "\n"


def caption(thing: int, action: int) -> str:
    return f"now the {THINGS[thing]} {ACTIONS[action]} on the table"


def _video(number: int, clips_each: int, media: Path) -> Video:
    path = media / f"v{number}.mp4"
    path.write_bytes(f"video {number}".encode())
    seconds = float(CLIP_STEPS * clips_each)
    return Video(f"v{number}", path, seconds, 25.0, 64, 64, 0, "h264", f"{number:064x}", "")


def _clip(video: Video, place: int, thing: int, action: int) -> Clip:
    start = CLIP_STEPS * place
    clip_id = f"{video.video_id}-{place}"
    return Clip(clip_id, video.video_id, start, start + CLIP_STEPS, caption(thing, action))


def _write_features(library: VideoLibrary, shown: np.ndarray, rng: np.random.Generator) -> None:
    directions = {
        stream: (rng.normal(size=(len(THINGS), size)), rng.normal(size=(len(ACTIONS), size)))
        for stream, size in SIZES.items()
    }
    numbers = {video.content_hash: n for n, video in enumerate(library.videos)}
    for stream, cache in plan(ExtractSettings(library=NAME), library).items():
        things, actions = directions[stream]
        for shard in cache.pending_shards():
            arrays = {}
            for key in shard.keys:
                seconds = shown[numbers[key]].repeat(CLIP_STEPS, axis=0)
                clean = things[seconds[:, 0]] + actions[seconds[:, 1]]
                arrays[key] = clean + 0.3 * rng.normal(size=clean.shape)
            cache.write_shard(shard.index, arrays)
        cache.finish()
