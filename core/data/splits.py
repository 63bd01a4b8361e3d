"""Which videos a teacher learns from, and which are kept to judge it."""

from __future__ import annotations

import hashlib

from core import config
from core.data.video_library import load_library
from core.records import VideoLibrary

SPLIT_SEED = 0  # one split for all training seeds, so that runs can be compared on the same videos


def split_videos(
    library: VideoLibrary | str, fraction: float, seed: int = SPLIT_SEED
) -> tuple[list[str], list[str]]:
    """Ids of the training videos and of the held-out ones; both in the library's order.

    A library with known ground truth brings its own split; there `fraction` and `seed` do not
    count. Otherwise a hash of the content decides, so copies of one video are never on both
    sides. Videos without ground truth in a library that has one are for training.
    """
    library = load_library(library) if isinstance(library, str) else library
    truth = config.library_root(library.name) / "demo" / "ground_truth.parquet"
    if truth.is_file():
        held_out = _named_held_out(library, truth)
    else:
        held_out = _hashed(library, fraction, seed)
    train = [v.video_id for v in library.videos if v.video_id not in held_out]
    return train, [v.video_id for v in library.videos if v.video_id in held_out]


def _named_held_out(library: VideoLibrary, truth) -> set[str]:
    import pandas as pd

    table = pd.read_parquet(truth, columns=["video", "split"])
    names = set(table.loc[table["split"] == "held-out", "video"])
    return {v.video_id for v in library.videos if v.path.name in names}


def _hashed(library: VideoLibrary, fraction: float, seed: int) -> set[str]:
    """The asked share of the videos, at least one and never all where there are several."""
    contents = sorted({v.content_hash for v in library.videos}, key=lambda h: _order(h, seed))
    count = round(len(contents) * fraction)
    if fraction > 0 and len(contents) > 1:
        count = min(max(count, 1), len(contents) - 1)
    chosen = set(contents[:count])
    return {v.video_id for v in library.videos if v.content_hash in chosen}


def _order(content_hash: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{content_hash}".encode()).hexdigest()
