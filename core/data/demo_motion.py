"""How the demo world's things move: one pose per frame, from a story's beats.

Gravity is chosen so that a fall lasts as long as its beat says; everything else follows.
"""

from __future__ import annotations

import numpy as np

from core.data.demo_set import (
    FLOOR,
    SHELF_EDGE,
    SHELF_FLOOR,
    WATER_BOTTOM,
    WATER_TOP,
    Set,
    Shard,
    Take,
    Track,
)
from core.data.demo_shapes import shape_of
from core.data.demo_story import Beat, Story


def stage_take(story: Story, frame_rate: int) -> Take:
    """Act out a story."""
    s = Set(story, frame_rate)
    if story.script == "stack":
        _place_base(s)
    if story.script == "pour":
        s.take.bowl_level = np.zeros(s.frames)
    if story.script in ("drop", "water"):
        _held(s, story.beats[0])
    for beat in story.beats:
        _ACTS[beat.action](s, beat)
    return s.take


# ---- hands -----------------------------------------------------------------------------


def _held(s: Set, fall: Beat) -> None:
    """A hand holds the prop by its top with a slight sway, then opens and draws back."""
    release = round(fall.start_sec * s.rate)
    track, time = s.take.prop, np.arange(s.frames) / s.rate
    sway = np.sin(2 * np.pi * 0.7 * time + s.rng.uniform(0, 6)) * np.clip(
        (fall.start_sec - time) * 2.5, 0, 1
    )
    track.x += 3.0 * sway
    track.angle += 2.0 * sway
    hand = Track.still(s.frames, 0, 0, 1)
    hand.x = track.x.copy()
    hand.y = track.y - s.height() + 10
    away = np.clip(time - release / s.rate, 0, None)
    hand.y = hand.y - 260 * away**1.6
    s.take.hand = hand


def _pushing_hand(s: Set, beat: Beat, length: float = 0.3) -> None:
    """A hand comes from the left, moves along with the prop for `length` seconds and leaves."""
    track, time = s.take.prop, np.arange(s.frames) / s.rate
    contact, release = beat.start_sec, beat.start_sec + length
    touch = track.x - s.half_width() + 4
    at_release = touch[min(round(release * s.rate), s.frames - 1)]
    before = touch - 150 * np.clip(contact - time, 0, None) ** 1.2
    after = at_release - 170 * np.clip(time - release, 0, None) ** 1.3
    hand = s.take.hand or Track.still(s.frames, -200, 0, 1)
    near = time > contact - 1.2
    hand.x = np.where(near, np.where(time < release, before, after), hand.x)
    hand.y = np.where(near, s.floor - s.support(0) - 6, hand.y)
    hand.angle[:] = -90
    s.take.hand = hand


# ---- actions ---------------------------------------------------------------------------


def _fall(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    start_y, duration = track.y[frames.start], beat.end_sec - beat.start_sec
    if s.story.script == "water":
        land = WATER_TOP - s.support(0) * 0.7
    else:
        s.floor = SHELF_FLOOR if s.story.script == "shelf" else FLOOR
        s.take.floor[frames.start :] = s.floor
        land = s.floor - s.support(0)
    track.y[frames] = start_y + (land - start_y) * (time / duration) ** 2
    if s.story.script == "shelf":
        track.x[frames] = track.x[frames.start - 1] + 34 * time / duration
        lean = 10.0 * np.sin(np.pi * time / duration)
        track.angle[frames] = track.angle[frames.start - 1] + lean
    s.hold(beat, y=land)


def _fall_facts(s: Set, beat: Beat) -> tuple[float, float]:
    """Duration and height of the fall that came before."""
    fall = s.story.beat("fall")
    first = round(fall.start_sec * s.rate)
    height = s.take.prop.y[round(fall.end_sec * s.rate)] - s.take.prop.y[first]
    return fall.end_sec - fall.start_sec, float(height)


def _bounce(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    fall_time, height = _fall_facts(s, beat)
    gravity = 2 * height / fall_time**2
    hops = _hops(fall_time, beat.end_sec - beat.start_sec)
    lift, press, start = np.zeros_like(time), np.zeros_like(time), 0.0
    for air in hops:
        inside = (time >= start) & (time < start + air)
        since = time[inside] - start
        lift[inside] = 0.5 * gravity * since * (air - since)
        press += 0.26 * (air / hops[0]) * np.exp(-(((time - start) / 0.055) ** 2))
        start += air
    tilt = 16 * np.sin(2 * np.pi * time / max(hops[0], 0.2)) * np.exp(-1.6 * time)
    base = track.angle[frames.start - 1]
    track.angle[frames] = base + tilt
    track.high[frames] = s.scale * (1 - press)
    track.wide[frames] = s.scale * (1 + 0.7 * press)
    for i, frame in enumerate(range(frames.start, frames.stop)):
        track.y[frame] = s.floor - s.support(track.angle[frame], 1 - press[i]) - lift[i]
    drift = 10 * (1 - np.exp(-1.2 * time)) * s.rng.choice([-1, 1])
    track.x[frames] = track.x[frames.start - 1] + drift
    s.take.puffs.append((frames.start, float(track.x[frames.start]), 0.6))
    s.hold(beat, high=s.scale, wide=s.scale, angle=base, y=s.floor - s.support(base))


def _hops(fall_time: float, total: float) -> list[float]:
    """Flight times of the hops after a fall: each hop keeps less, and they fill the beat."""
    low, high = 0.2, 0.95
    for _ in range(30):
        keep = (low + high) / 2
        hops, air, share = [], 2 * fall_time, keep
        while air * share > 0.06:
            air *= share
            hops.append(air)
            share *= 0.9
        low, high = (keep, high) if sum(hops) < total else (low, keep)
    return hops


def _shatter(s: Set, beat: Beat) -> None:
    frames, _ = s.span(beat)
    track = s.take.prop
    track.visible[frames.start :] = False
    low, high = s.hull.min(0), s.hull.max(0)
    count = 15
    s.take.sites = s.rng.uniform(low, high, (count, 2))
    x0, y0 = track.x[frames.start], s.floor - s.support(track.angle[frames.start])
    time = np.arange(s.frames - frames.start) / s.rate
    for piece, site in enumerate(s.take.sites):
        turn = np.radians(track.angle[frames.start])
        cos, sin = np.cos(turn), np.sin(turn)
        offset = (
            100 * s.scale * np.array([cos * site[0] - sin * site[1], sin * site[0] + cos * site[1]])
        )
        shard = Track.still(s.frames, x0, y0, s.scale)
        _throw(s, shard, frames.start, time, (x0, y0), offset, beat.end_sec - beat.start_sec)
        shard.visible[: frames.start] = False
        s.take.shards.append(Shard(piece, shard))
    s.take.puffs.append((frames.start, float(x0), 1.0))


def _throw(s: Set, shard: Track, first: int, time, middle, offset, duration) -> None:
    """A shard's flight from its place in the whole to the floor, where it slides to rest."""
    rng = s.rng
    speed_x = 1.9 * offset[0] + rng.normal(0, 34)
    speed_y = -rng.uniform(30, 150) + 0.5 * offset[1]
    gravity = 520.0
    drop = max(s.floor - 4 + rng.uniform(0, 10) - (middle[1] + offset[1]), 2.0)
    landing = (-speed_y + np.sqrt(speed_y**2 + 2 * gravity * drop)) / gravity
    up = 0.26 * (speed_y + gravity * landing)
    hop = 2 * up / gravity
    airborne = np.minimum(time, landing)
    y = speed_y * airborne + 0.5 * gravity * airborne**2
    after = np.clip(time - landing, 0, hop)
    y = y - up * after + 0.5 * gravity * after**2
    slide = np.clip(time - landing, 0, max(duration - landing, 0.2))
    x = speed_x * airborne + speed_x * 0.45 * (1 - np.exp(-3.2 * slide)) / 3.2
    spin = rng.normal(0, 240)
    angle = spin * airborne + spin * 0.3 * (1 - np.exp(-4.0 * slide)) / 4.0
    shard.x[first:] = middle[0] + offset[0] + x
    shard.y[first:] = middle[1] + offset[1] + y
    shard.angle[first:] = angle


def _collapse(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    duration = beat.end_sec - beat.start_sec
    sag = 1 - np.exp(-4.2 * time / duration) * np.cos(2 * np.pi * 1.6 * time / duration)
    base = track.angle[frames.start - 1]
    track.high[frames] = s.scale * (1 - 0.66 * np.clip(sag, 0, 1.25))
    track.wide[frames] = s.scale * (1 + 0.30 * np.clip(sag, 0, 1.25))
    lean = s.rng.choice([-1, 1]) * 5
    track.angle[frames] = base + lean * np.clip(sag, 0, 1)
    for frame in range(frames.start, frames.stop):
        squeezed = track.high[frame] / s.scale
        track.y[frame] = s.floor - s.support(track.angle[frame], squeezed)
    s.take.puffs.append((frames.start, float(track.x[frames.start]), 0.9))
    s.hold(beat)


def _float(s: Set, beat: Beat) -> None:
    first = round(beat.start_sec * s.rate)
    time = np.arange(s.frames - first) / s.rate  # it bobs on to the end of the video
    track = s.take.prop
    start_y = track.y[first - 1]
    level = WATER_TOP + 0.12 * s.support(0) - 0.30 * s.support(0)
    swing = np.exp(-1.5 * time) * np.sin(2 * np.pi * 0.95 * time) * 30
    settle = 1 - np.exp(-5 * time)
    bob = 3.2 * np.sin(2 * np.pi * 0.75 * time + 0.4) * settle
    track.y[first:] = start_y + (level - start_y) * settle + swing + bob
    rock = 9 * np.sin(2 * np.pi * 0.62 * time) * (0.45 + np.exp(-0.9 * time))
    track.angle[first:] = rock * settle
    track.x[first:] = track.x[first - 1] + 9 * np.sin(2 * np.pi * 0.16 * time)
    s.take.splashes.append((first, float(track.x[first - 1]), 0.8))


def _sink(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    duration = beat.end_sec - beat.start_sec
    lean = s.rng.choice([-1, 1]) * s.rng.uniform(8, 16)
    end_y = WATER_BOTTOM - s.support(lean)
    start_y = track.y[frames.start - 1]
    share = time / duration
    track.y[frames] = start_y + (end_y - start_y) * (1 - (1 - share) ** 1.7)
    sway = np.sin(2 * np.pi * 1.3 * share) * np.sin(np.pi * share)
    track.x[frames] = track.x[frames.start - 1] + 12 * sway
    track.angle[frames] = lean * share**1.5 + 9 * sway
    s.take.splashes.append((frames.start, float(track.x[frames.start - 1]), 1.0))
    s.take.bubbles = (frames.start, frames.stop)
    s.hold(beat, y=end_y, angle=lean)


def _travel(s: Set) -> float:
    """How far a pushed thing gets."""
    if s.story.script == "shelf":
        return SHELF_EDGE + 4 - s.take.prop.x[-1]
    return float(s.rng.uniform(106, 122))


def _glide(s: Set, beat: Beat) -> np.ndarray:
    """Distance covered in each frame: a short push, then friction."""
    _, time = s.span(beat)
    share = (time + 1 / s.rate) / (beat.end_sec - beat.start_sec)
    power = 1.15 if s.story.script == "shelf" else 2.0  # it leaves a shelf still moving
    eased = 1 - (1 - np.clip(share, 0, 1)) ** power
    return _travel(s) * eased * np.clip(time / 0.12 + 0.3, 0, 1)


def _roll(s: Set, beat: Beat) -> None:
    frames, _ = s.span(beat)
    track = s.take.prop
    distance = _glide(s, beat)
    start = track.angle[frames.start - 1]
    track.x[frames] = track.x[frames.start - 1] + distance
    track.angle[frames] = start + np.degrees(distance / s.support(0))
    for frame in range(frames.start, frames.stop):
        track.y[frame] = s.floor - s.support(track.angle[frame])
    s.hold(beat)
    _pushing_hand(s, beat)


def _slide(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    track.x[frames] = track.x[frames.start - 1] + _glide(s, beat)
    lean = -5.0 * np.exp(-5 * time) * np.clip(time / 0.1, 0, 1)
    track.angle[frames] = lean + 0.5 * np.sin(2 * np.pi * 9 * time) * np.exp(-2 * time)
    for frame in range(frames.start, frames.stop):
        track.y[frame] = s.floor - s.support(track.angle[frame])
    s.take.puffs += [
        (f, float(track.x[f] - s.half_width()), 0.35)
        for f in range(frames.start + 4, frames.stop - 8, 6)
    ]
    s.hold(beat, angle=0.0, y=s.floor - s.support(0))
    _pushing_hand(s, beat)


def _tip(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    duration = beat.end_sec - beat.start_sec
    fall = 0.62 * duration
    falling = 90 * np.sinh(3.0 * np.clip(time / fall, 0, 1)) / np.sinh(3.0)
    after = np.clip(time - fall, 0, None)
    rebound = 9 * np.abs(np.sin(np.pi * after / 0.22)) * np.exp(-7 * after)
    angle = np.where(time < fall, falling, 90 - rebound)
    corner = _corner(s)
    track.angle[frames] = angle
    turn = np.radians(angle)
    pivot_x = track.x[frames.start - 1] + corner[0]
    track.x[frames] = pivot_x - (corner[0] * np.cos(turn) - corner[1] * np.sin(turn))
    for frame in range(frames.start, frames.stop):
        track.y[frame] = s.floor - s.support(track.angle[frame])
    landed = frames.start + round(fall * s.rate)
    s.take.puffs.append((landed, float(pivot_x + 20), 0.6))
    s.hold(beat, angle=90.0, y=s.floor - s.support(90))
    _pushing_hand(s, beat, 0.35)


def _corner(s: Set) -> np.ndarray:
    """The foot's right corner from the sprite's middle, in pixels."""
    foot = s.hull[s.hull[:, 1] > s.hull[:, 1].max() - 0.05]
    return np.array([foot[:, 0].max(), s.hull[:, 1].max()]) * 100 * s.scale


def _spin(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    share = time / (beat.end_sec - beat.start_sec)
    turns = 720 * (share - np.sin(2 * np.pi * share) / (2 * np.pi))
    start = track.angle[frames.start - 1]
    track.angle[frames] = start + turns * s.rng.choice([-1, 1])
    lift = 20 * np.sin(np.pi * share) ** 0.7
    reach = float(np.linalg.norm(s.hull, axis=1).max() * 100 * s.scale)
    # Its middle rises to where it can turn freely, as if tossed by its own swing.
    low = s.floor - s.support(start)
    high = s.floor - reach
    rise = np.clip(np.minimum(share, 1 - share) * 5, 0, 1)
    track.y[frames] = low + (high - low) * rise * rise * (3 - 2 * rise) - lift * 0.4
    s.hold(beat, angle=start, y=low)


def _jump(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    duration = beat.end_sec - beat.start_sec
    each = duration / 2
    phase = (time % each) / each
    crouch, flight = 0.24, 0.60
    air = np.clip((phase - crouch) / flight, 0, 1)
    lift = 62 * 4 * air * (1 - air)
    ready = np.sin(np.pi * np.clip(phase / crouch, 0, 1)) * (phase < crouch)
    landed = np.clip((phase - crouch - flight) / (1 - crouch - flight), 0, 1)
    press = 0.24 * ready + 0.2 * np.sin(np.pi * landed) - 0.10 * np.sin(np.pi * air)
    track.high[frames] = s.scale * (1 - press)
    track.wide[frames] = s.scale * (1 + 0.6 * press)
    base = track.angle[frames.start - 1]
    for i, frame in enumerate(range(frames.start, frames.stop)):
        track.y[frame] = s.floor - s.support(base, 1 - press[i]) - lift[i]
    s.hold(beat, high=s.scale, wide=s.scale, y=s.floor - s.support(base))


def _shake(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    duration = beat.end_sec - beat.start_sec
    swell = np.sin(np.pi * time / duration) ** 0.5
    swing = np.sin(2 * np.pi * 3.6 * time) * swell
    base = track.angle[frames.start - 1]
    start_x = track.x[frames.start - 1]
    track.angle[frames] = base + 13 * swing
    track.x[frames] = start_x + 9 * np.sin(2 * np.pi * 3.6 * time + 0.5) * swell
    for frame in range(frames.start, frames.stop):
        track.y[frame] = s.floor - s.support(track.angle[frame])
    s.hold(beat, angle=base, x=start_x, y=s.floor - s.support(base))


def _hide(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    share = time / (beat.end_sec - beat.start_sec)
    x = track.x[frames.start - 1]
    away = 330.0
    covered = _ease(np.clip(share / 0.32, 0, 1)) - _ease(np.clip((share - 0.68) / 0.32, 0, 1))
    s.take.board_x = np.full(s.frames, away)
    s.take.board_x[frames] = away + (x - away) * covered
    duck = 0.14 * covered
    track.high[frames] = s.scale * (1 - duck)
    track.wide[frames] = s.scale * (1 + 0.4 * duck)
    track.y[frames] = s.floor - s.support(0) * (1 - duck)
    s.hold(beat, high=s.scale, wide=s.scale, y=s.floor - s.support(0))


def _ease(share: np.ndarray) -> np.ndarray:
    return share * share * (3 - 2 * share)


def _pour(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    share = time / (beat.end_sec - beat.start_sec)
    raised = _ease(np.clip(share / 0.25, 0, 1)) - _ease(np.clip((share - 0.78) / 0.22, 0, 1))
    x0, y0 = track.x[frames.start - 1], track.y[frames.start - 1]
    track.x[frames] = x0 + 14 * raised
    track.y[frames] = y0 - 70 * raised
    track.angle[frames] = 104 * raised
    s.take.stream = np.zeros((s.frames, 3))
    lip = np.array([0.07 if s.story.prop.thing == "bottle" else 0.2, s.hull[:, 1].min()])
    for i, frame in enumerate(range(frames.start, frames.stop)):
        turn = np.radians(track.angle[frame])
        cos, sin = np.cos(turn), np.sin(turn)
        mouth = 100 * s.scale * np.array([cos * lip[0] - sin * lip[1], sin * lip[0] + cos * lip[1]])
        flow = float(raised[i] > 0.86)
        s.take.stream[frame] = track.x[frame] + mouth[0], track.y[frame] + mouth[1], flow
    s.take.stream[:, 2] = np.convolve(s.take.stream[:, 2], np.ones(5) / 5, mode="same")
    s.take.bowl_level[:] = np.cumsum(s.take.stream[:, 2]) / max(s.take.stream[:, 2].sum(), 1e-6)
    s.hold(beat, x=x0, y=y0, angle=0.0)


def _place_base(s: Set) -> None:
    hull = shape_of("box").hull
    scale = 0.92
    s.take.base = Track.still(s.frames, 180, FLOOR - hull[:, 1].max() * 100 * scale, scale)


def _stack(s: Set, beat: Beat) -> None:
    frames, time = s.span(beat)
    track = s.take.prop
    share = time / (beat.end_sec - beat.start_sec)
    x0, y0 = track.x[frames.start - 1], track.y[frames.start - 1]
    base = s.take.base
    top = FLOOR - 92 * (0.3875 + 0.32)  # the middle of the box's upper face
    x1, y1 = base.x[0] + 1, top - s.support(0)
    over = min(y1 - 14, y0 - 40)
    up = _ease(np.clip(share / 0.34, 0, 1))
    across = _ease(np.clip((share - 0.22) / 0.5, 0, 1))
    down = _ease(np.clip((share - 0.66) / 0.26, 0, 1))
    track.x[frames] = x0 + (x1 - x0) * across
    track.y[frames] = y0 + (over - y0) * up + (y1 - over) * down
    track.angle[frames] = -6 * np.sin(np.pi * across)
    s.hold(beat, x=x1, y=y1, angle=0.0)
    hand = Track.still(s.frames, 0, 0, 1)
    hand.x = track.x.copy()
    moments = np.arange(s.frames) / s.rate
    coming = np.clip(beat.start_sec + 0.05 - moments, 0, None)
    going = np.clip(moments - beat.end_sec + 0.12, 0, None)
    hand.y = track.y - s.height() + 10 - 230 * coming**1.3 - 260 * going**1.4
    s.take.hand = hand


_ACTS = {
    **{"fall": _fall, "bounce": _bounce, "shatter": _shatter, "collapse": _collapse},
    **{"float": _float, "sink": _sink, "roll": _roll, "slide": _slide, "tip": _tip},
    **{"spin": _spin, "jump": _jump, "shake": _shake, "hide": _hide},
    **{"pour": _pour, "stack": _stack},
}
