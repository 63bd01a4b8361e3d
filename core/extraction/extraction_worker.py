"""The process that worker_pool starts for extraction: loads the backbones, encodes shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.config import ExtractSettings, from_dict
from core.data.video_library import load_library
from core.extraction import worker_pool
from core.extraction.clip_features import ShardEncoder
from core.feature_cache import FeatureCache


def start(setup: dict) -> Callable[[dict, Callable[[dict], None]], None]:
    """Set up from ExtractSettings and the entries' folders; returns what does one job."""
    import cv2
    import torch

    # One process a core: threads would only take turns.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    settings = from_dict(ExtractSettings, setup["settings"])
    caches = {s: FeatureCache.planned(Path(folder)) for s, folder in setup["folders"].items()}
    return ShardEncoder(settings, load_library(settings.library), caches).encode


if __name__ == "__main__":
    worker_pool.serve(start)
