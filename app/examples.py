"""Sentences of the library that no teacher learned from, to begin with."""

from __future__ import annotations

import random

from app import resources
from core.analysis.evaluation import FUNCTION_WORDS
from core.data.splits import split_videos
from core.records import Clip

MAX_EXAMPLES = 40
FALLBACK = "Someone picks it up and puts it down."


def example_clips(library: str, held_out_share: float = 0.1) -> list[Clip]:
    """Captioned clips of held-out videos, of different videos first, always in the same order."""
    shelf = resources.shelf(library)
    _, held_out = split_videos(shelf.library, held_out_share)
    chosen = held_out or list(shelf.videos)
    order = random.Random(0)
    by_video = {video: [c for c in shelf.clips_of[video] if c.caption] for video in chosen}
    videos = [video for video in chosen if by_video[video]]
    order.shuffle(videos)
    best = [max(by_video[video], key=_content) for video in videos]
    # Two different sentences at least say more than forty of the same.
    unique = {clip.caption.lower(): clip for clip in reversed(best)}
    return sorted(unique.values(), key=best.index)[:MAX_EXAMPLES]


def _content(clip: Clip) -> tuple[int, int]:
    """More words that name something, then fewer words in all."""
    words = [word.strip(".,;:!?").lower() for word in clip.caption.split()]
    return len({word for word in words if word not in FUNCTION_WORDS}), -len(words)
