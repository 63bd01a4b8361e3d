"""Plans the demo world's videos: who does what when, before a pixel is drawn or a word said.

Scripts are dealt out by quota, and things, materials and actions greedily to where they are
rarest, so that even two dozen videos cover the world as evenly as they can.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from core.data.demo_facts import (
    COLOURS,
    MATERIALS,
    ORDER_FAMILIES,
    THINGS,
    order_of,
    outcome_of,
)

HELD_OUT_FRACTION = 0.2

SCRIPT_WEIGHTS = {
    "drop": 0.20,
    "water": 0.18,
    "push": 0.20,
    "shelf": 0.08,  # pushed along a shelf, off its edge, and down
    "spin-jump": 0.12,
    "shake-hide": 0.12,
    "pour": 0.05,
    "stack": 0.05,
}
SCENES = {
    "drop": ("kitchen", "lawn", "workshop", "stage"),
    "water": ("tank", "pool"),
    "push": ("kitchen", "lawn", "workshop", "stage"),
    "shelf": ("shelf",),
    "spin-jump": ("kitchen", "lawn", "workshop", "stage"),
    "shake-hide": ("kitchen", "lawn", "workshop", "stage"),
    "pour": ("kitchen", "workshop"),
    "stack": ("kitchen", "lawn", "workshop", "stage"),
}
POURING_THINGS = ("bottle", "vase", "cup")
STACKING_BASES = ("box",)


@dataclass(frozen=True)
class Prop:
    """One thing on the set."""

    thing: str
    material: str
    colour: str


@dataclass(frozen=True)
class Beat:
    """One action and when it truly happens, in seconds of its video."""

    action: str
    start_sec: float
    end_sec: float


@dataclass(frozen=True)
class Story:
    """One video's plan. `base` is what the prop is stacked on, in that script."""

    name: str
    seed: int
    script: str
    scene: str
    prop: Prop
    base: Prop | None
    beats: tuple[Beat, ...]
    duration_sec: float
    split: str = "train"

    def beat(self, action: str) -> Beat | None:
        return next((b for b in self.beats if b.action == action), None)


def plan_stories(videos: int, seed: int, frame_rate: int) -> tuple[Story, ...]:
    """All stories of a world, with their split; the same for the same seed."""
    rng = np.random.default_rng([seed, 1])
    used: Counter = Counter()
    stories = []
    for number, script in enumerate(_deal_scripts(videos, rng)):
        story_seed = int(rng.integers(2**31))
        stories.append(_plan_story(number, story_seed, script, used, rng, frame_rate))
    return _split(stories)


def _deal_scripts(videos: int, rng: np.random.Generator) -> list[str]:
    wanted = {name: weight * videos for name, weight in SCRIPT_WEIGHTS.items()}
    counts = {name: int(amount) for name, amount in wanted.items()}
    by_remainder = sorted(wanted, key=lambda name: counts[name] - wanted[name])
    for name in by_remainder[: videos - sum(counts.values())]:
        counts[name] += 1
    scripts = [name for name, count in counts.items() for _ in range(count)]
    return [scripts[i] for i in rng.permutation(len(scripts))]


def _plan_story(number, story_seed, script, used, rng, frame_rate) -> Story:
    prop, actions = _cast(script, used, rng)
    base = None
    if script == "stack":
        base = Prop("box", _rarest(MATERIALS, used, rng), _rarest(COLOURS, used, rng))
        while base.colour == prop.colour:  # the narrator must not mean either
            base = replace(base, colour=COLOURS[int(rng.integers(len(COLOURS)))])
    scene = _rarest(SCENES[script], used, rng)
    beats, duration = _schedule(script, actions, np.random.default_rng(story_seed), frame_rate)
    used.update([prop.thing, prop.material, prop.colour, scene, *actions])
    if base:
        used.update([base.material, base.colour])
    name = f"demo_{number:04d}.mp4"
    return Story(name, story_seed, script, scene, prop, base, beats, duration)


def _cast(script: str, used: Counter, rng: np.random.Generator) -> tuple[Prop, list[str]]:
    """The rarest prop for a script, by its own words and by the actions it will perform."""
    candidates = []
    for thing in _things(script):
        for material in MATERIALS:
            actions = _actions(script, thing, material)
            rarity = used[thing] + used[material] + sum(used[a] for a in actions) / len(actions)
            # Each fact's subject meets its own trigger equally often.
            rarity += 3 * used[script, thing] + 3 * used[script, material]
            candidates.append((rarity + 0.5 * rng.random(), thing, material, actions))
    _, thing, material, actions = min(candidates)
    used.update([(script, thing), (script, material)])
    opener = {"push": 0.6, "pour": 0.7}.get(script, 0.0)
    if rng.random() < opener:
        choices = ("shake",) if script == "pour" else ("spin", "jump", "shake")
        actions = [_rarest(choices, used, rng), *actions]
    return Prop(thing, material, _rarest(COLOURS, used, rng)), actions


def _things(script: str) -> tuple[str, ...]:
    if script == "pour":
        return POURING_THINGS
    if script == "stack":
        return tuple(t for t in THINGS if t not in STACKING_BASES)
    if script == "shelf":
        return tuple(t for t in THINGS if outcome_of("push", t) != "tip")
    return THINGS


def _actions(script: str, thing: str, material: str) -> list[str]:
    if script in ORDER_FAMILIES:
        return list(order_of(script, material if script == "spin-jump" else thing))
    return {
        "drop": ["fall", outcome_of("drop", material)],
        "water": ["fall", outcome_of("water", material)],
        "push": [outcome_of("push", thing)],
        "shelf": [outcome_of("push", thing), "fall", outcome_of("drop", material)],
        "pour": ["pour"],
        "stack": ["stack"],
    }[script]


def _rarest(choices, used: Counter, rng: np.random.Generator) -> str:
    return min(choices, key=lambda choice: used[choice] + rng.random())


# Seconds (shortest, longest). "show" comes first, "rest" last; a script's own numbers win.
_LENGTHS = {
    "show": (1.0, 1.5),
    "rest": (0.3, 0.7),
    "fall": (0.64, 0.84),
    "bounce": (1.7, 2.3),
    "shatter": (1.3, 1.8),
    "collapse": (1.2, 1.7),
    "float": (2.0, 2.8),
    "sink": (2.0, 2.6),
    "roll": (1.5, 2.0),
    "slide": (1.3, 1.8),
    "tip": (1.2, 1.5),
    "spin": (1.4, 2.0),
    "jump": (1.4, 2.0),
    "shake": (1.3, 1.8),
    "hide": (1.8, 2.4),
    "pour": (2.0, 2.8),
    "stack": (1.6, 2.2),
}
_PAUSE = 0.24  # between two actions that a prop begins by itself
_CHAINED = {"fall", "bounce", "shatter", "collapse", "float", "sink"}  # begin where the last ended


def _schedule(script, actions, rng, frame_rate) -> tuple[tuple[Beat, ...], float]:
    def length(name: str) -> float:
        return float(rng.uniform(*_LENGTHS[name]))

    now = length("show")
    beats = []
    for position, action in enumerate(actions):
        chained = action in _CHAINED or position == 0
        now += 0.0 if chained else _PAUSE
        start = _on_frame(now, frame_rate)
        now += length(action)
        beats.append(Beat(action, start, _on_frame(now, frame_rate)))
        now = beats[-1].end_sec
    return tuple(beats), _on_frame(now + length("rest"), frame_rate)


def _on_frame(seconds: float, frame_rate: int) -> float:
    return round(seconds * frame_rate) / frame_rate


def _split(stories: list[Story]) -> tuple[Story, ...]:
    """Hold out a fifth, again and again the video that brings all labels closest to a fifth."""
    totals = Counter(label for story in stories for label in _labels(story))
    held, counts = set(), Counter()

    def cost(index: int) -> float:
        """Change of the squared relative distance to the target when this video is held out."""
        change = 0.0
        for label in _labels(stories[index]):
            target = HELD_OUT_FRACTION * totals[label]
            change += (2 * (counts[label] - target) + 1) / target
            change += 100.0 * (counts[label] + 1 >= totals[label])  # leave one to learn from
        return change

    for _ in range(round(HELD_OUT_FRACTION * len(stories))):
        best = min((i for i in range(len(stories)) if i not in held), key=cost)
        held.add(best)
        counts.update(_labels(stories[best]))
    return tuple(
        replace(story, split="held-out" if index in held else "train")
        for index, story in enumerate(stories)
    )


def _labels(story: Story) -> set[str]:
    prop = story.prop
    actions = (beat.action for beat in story.beats)
    return {story.script, story.scene, prop.thing, prop.material, prop.colour, *actions}
