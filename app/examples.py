"""Sentences of the library that no teacher learned from, to begin with."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from core.analysis.evaluation import FUNCTION_WORDS
from core.data.splits import split_videos
from core.records import Clip, VideoLibrary

MAX_EXAMPLES = 40
HELD_OUT_SHARE = 0.1  # TeacherSettings.validation_fraction, where the library has no own split
FALLBACK = "Someone picks it up and puts it down."


def choose_examples(
    library: VideoLibrary, clips_of: Mapping[str, Sequence[Clip]]
) -> tuple[Clip, ...]:
    """The fullest caption of each held-out video, no two the same, always in the same order."""
    _, held_out = split_videos(library, HELD_OUT_SHARE)
    order = random.Random(0)
    videos = list(held_out or (video.video_id for video in library.videos))
    order.shuffle(videos)
    found: dict[str, Clip] = {}
    for video in videos:
        captioned = [clip for clip in clips_of[video] if clip.caption]
        if captioned and len(found) < MAX_EXAMPLES:
            best = max(captioned, key=_content)
            found.setdefault(best.caption.lower(), best)
    return tuple(found.values())


def _content(clip: Clip) -> tuple[int, int]:
    """More words that name something, then fewer words in all."""
    words = [word.strip(".,;:!?").lower() for word in clip.caption.split()]
    return len({word for word in words if word not in FUNCTION_WORDS}), -len(words)
