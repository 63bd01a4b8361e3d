"""The set on which a story of the demo world is acted out: where what is in every frame.

Lengths are pixels of the 256-pixel picture (y down), angles degrees clockwise, times seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from core.data.demo_shapes import shape_of
from core.data.demo_story import Beat, Story

PICTURE = 256
FLOOR = 212.0
SHELF_TOP, SHELF_EDGE = 116.0, 124.0
SHELF_FLOOR = 236.0
WATER_TOP, WATER_BOTTOM = 126.0, 238.0
BOWL_X, BOWL_TOP = 182.0, 178.0


@dataclass
class Track:
    """Where one thing is in every frame; float arrays [frames]. x, y is the sprite's middle."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    wide: np.ndarray  # scale across
    high: np.ndarray  # scale down
    visible: np.ndarray  # bool

    @staticmethod
    def still(frames: int, x: float, y: float, scale: float) -> Track:
        full = np.full(frames, 1.0)
        return Track(x * full, y * full, 0 * full, scale * full, scale * full, full > 0)


@dataclass
class Shard:
    """A piece of a broken thing; `piece` numbers the cells of the sprite."""

    piece: int
    track: Track


@dataclass
class Take:
    """Everything that moves in one video. Frame numbers count from 0."""

    frames: int
    frame_rate: int
    floor: np.ndarray  # [frames] the level under the prop: a shelf ends
    prop: Track
    base: Track | None = None
    hand: Track | None = None  # its fingertips
    board_x: np.ndarray | None = None  # the board's middle; off the picture when away
    sites: np.ndarray | None = None  # [pieces, 2] seeds of the shards' cells, in units
    shards: list[Shard] = field(default_factory=list)
    splashes: list[tuple[int, float, float]] = field(default_factory=list)  # frame, x, strength
    puffs: list[tuple[int, float, float]] = field(default_factory=list)
    bubbles: tuple[int, int] | None = None  # first and last frame
    stream: np.ndarray | None = None  # [frames, 3]: mouth x, y and flow 0 to 1
    bowl_level: np.ndarray | None = None  # [frames] 0 to 1


class Set:
    """Builds a take beat by beat; each beat starts from where the last one left the prop."""

    def __init__(self, story: Story, frame_rate: int):
        self.story, self.rate = story, frame_rate
        self.rng = np.random.default_rng([story.seed, 6])
        self.frames = max(1, round(story.duration_sec * frame_rate))
        self.hull = shape_of(story.prop.thing).hull
        self.scale = float(self.rng.uniform(*_SCALES.get(story.script, (0.94, 1.06))))
        self.floor = {"shelf": SHELF_TOP, "water": WATER_BOTTOM}.get(story.script, FLOOR)
        x = float(self.rng.uniform(*_STARTS.get(story.script, (112, 144))))
        y = self.floor - self.support(0)
        if story.script == "drop":
            y = 30 + self.height()
        if story.script == "water":
            y = max(20 + self.height(), WATER_TOP - 34 - self.support(0))
        self.take = Take(
            self.frames,
            frame_rate,
            np.full(self.frames, self.floor),
            Track.still(self.frames, x, y, self.scale),
        )

    def support(self, angle: float, high: float = 1.0) -> float:
        """Pixels from the middle down to the lowest point when turned by `angle` degrees."""
        turn = np.radians(angle)
        down = self.hull[:, 0] * np.sin(turn) + self.hull[:, 1] * np.cos(turn)
        return float(down.max() * 100 * self.scale * high)

    def height(self) -> float:
        """Pixels from the middle up to the highest point."""
        return float(-self.hull[:, 1].min() * 100 * self.scale)

    def half_width(self) -> float:
        return float(self.hull[:, 0].max() * 100 * self.scale)

    def span(self, beat: Beat) -> tuple[slice, np.ndarray]:
        """The beat's frames, and seconds since its start in each."""
        first, last = round(beat.start_sec * self.rate), round(beat.end_sec * self.rate)
        return slice(first, last), np.arange(last - first) / self.rate

    def hold(self, beat: Beat, **final: float) -> None:
        """From the beat's end on, the prop rests where it is (or where `final` says)."""
        after = round(beat.end_sec * self.rate)
        for name in ("x", "y", "angle", "wide", "high"):
            values = getattr(self.take.prop, name)
            values[after:] = final.get(name, values[after - 1])


_SCALES = {
    "water": (0.80, 0.88),
    "shelf": (0.80, 0.86),
    "stack": (0.76, 0.82),
    "pour": (0.84, 0.90),
    "drop": (0.86, 0.96),
}
_STARTS = {
    "push": (60, 68),
    "shelf": (46, 50),
    "stack": (64, 70),
    "pour": (78, 86),
    "shake-hide": (104, 136),
}
