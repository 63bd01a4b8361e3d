"""Draws the demo world's videos frame by frame and writes them as H.264.

All pictures are BGR uint8 [256, 256, 3]. Sprites are laid over the painted place with
sub-pixel motion; only the pixels around each sprite are touched.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np

from core.data.demo_materials import Sprite
from core.data.demo_motion import stage_take
from core.data.demo_props import board_sprite, bowl_sprites, hand_sprite
from core.data.demo_scenes import paint_scene
from core.data.demo_set import (
    BOWL_TOP,
    BOWL_X,
    FLOOR,
    PICTURE,
    WATER_BOTTOM,
    WATER_TOP,
    Take,
    Track,
)
from core.data.demo_shapes import SPRITE, UNIT
from core.data.demo_story import Story

_PER_PIXEL = UNIT / 100.0  # sprite pixels per picture pixel at scale 1
_CRF = "25"


def render_story(story: Story, size: int, frame_rate: int, path: Path) -> None:
    """Draw one story and write it; the file's bytes depend on the story and sizes alone."""
    write_video(draw_frames(story, frame_rate), size, frame_rate, path)


def draw_frames(story: Story, frame_rate: int):
    """Yield a story's frames, BGR uint8 [256, 256, 3]."""
    take = stage_take(story, frame_rate)
    painter = _Painter(story, take)
    for frame in range(take.frames):
        yield painter.draw(frame)


def write_video(frames, size: int, frame_rate: int, path: Path) -> None:
    """Encode BGR frames as H.264 in MP4, browser-playable, one thread for the same bytes always."""
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=frame_rate)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": _CRF, "preset": "veryfast", "g": str(2 * frame_rate)}
        for picture in frames:
            if size != PICTURE:
                picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
            planes = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))


# ---- compositing -----------------------------------------------------------------------


def lay(picture: np.ndarray, sprite: np.ndarray, x, y, angle=0.0, wide=1.0, high=1.0) -> None:
    """Lay a premultiplied BGRA sprite on the picture, its middle at (x, y).

    Squeezed by `wide` and `high` along the picture's axes after turning, as a thing that is
    pressed against the floor is; the sprite is drawn at twice its size on screen.
    """
    turn = np.radians(angle)
    cos, sin = np.cos(turn) / _PER_PIXEL, np.sin(turn) / _PER_PIXEL
    matrix = np.array([[wide * cos, -wide * sin], [high * sin, high * cos]])
    height, width = sprite.shape[:2]
    outer = np.array([[-1, 1, 1, -1], [-1, -1, 1, 1]]) * [[width / 2], [height / 2]]
    corners = matrix @ outer
    reach_x, reach_y = np.abs(corners[0]).max() + 1, np.abs(corners[1]).max() + 1
    left, right = max(0, int(x - reach_x)), min(picture.shape[1], int(x + reach_x) + 2)
    top, bottom = max(0, int(y - reach_y)), min(picture.shape[0], int(y + reach_y) + 2)
    if left >= right or top >= bottom:
        return
    offset = [x - left, y - top] - matrix @ [(width - 1) / 2, (height - 1) / 2]
    moved = cv2.warpAffine(
        sprite,
        np.column_stack([matrix, offset]),
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR,
    )
    blend(picture[top:bottom, left:right], moved)


def blend(region: np.ndarray, sprite: np.ndarray) -> None:
    """Premultiplied BGRA over BGR, in place."""
    through = cv2.cvtColor(255 - sprite[..., 3], cv2.COLOR_GRAY2BGR)
    kept = cv2.multiply(region, through, scale=1 / 255)
    np.copyto(region, cv2.add(kept, cv2.cvtColor(sprite, cv2.COLOR_BGRA2BGR)))


@lru_cache(maxsize=1)
def _shadow_sprite() -> np.ndarray:
    """A soft dark disc, premultiplied BGRA."""
    axis = np.linspace(-1, 1, 128, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    soft = np.clip(1 - np.sqrt(x * x + y * y), 0, 1)
    sprite = np.zeros((128, 128, 4), np.uint8)
    sprite[..., 3] = (255 * soft * soft * (3 - 2 * soft)).astype(np.uint8)
    return sprite


def _lay_shadow(picture, x: float, y: float, half_width: float, strength: float) -> None:
    if strength <= 0.02:
        return
    sprite = _shadow_sprite()
    sprite = cv2.convertScaleAbs(sprite, alpha=strength)
    scale = 2 * half_width * _PER_PIXEL / 128
    lay(picture, sprite, x, y, 0.0, scale, scale * 0.22)


class _Painter:
    """Draws a take's frames. What does not move is drawn once and kept."""

    def __init__(self, story: Story, take: Take):
        self.story, self.take = story, take
        self.place = paint_scene(story.scene, story.seed)
        self.sprite = Sprite(story.prop)
        self.base = Sprite(story.base) if story.base else None
        self.hand = hand_sprite(story.seed % 4) if take.hand is not None else None
        self.pieces = _pieces(self.sprite, take.sites) if take.shards else []
        self.in_water = story.script == "water"
        self.particles = _particles(story, take)
        self.phase = story.seed % 100 / 16
        if self.base is not None:
            self._lay_thing(self.place, self.base, take.base, 0)
        if take.bowl_level is not None:
            _lay_shadow(self.place, BOWL_X + 3, FLOOR + 1, 48, 0.5)

    def draw(self, frame: int) -> np.ndarray:
        take, picture = self.take, self.place.copy()
        if take.bowl_level is not None:
            self._draw_bowl(picture, frame)
        if take.hand is not None and self.story.script != "stack":
            self._draw_hand(picture, frame, behind=True)
        self._draw_prop(picture, frame)
        for particle in self.particles:
            particle.draw(picture, frame)
        if self.in_water:
            self._draw_water(picture, frame)
        if take.board_x is not None:
            self._draw_board(picture, frame)
        if take.hand is not None:
            self._draw_hand(picture, frame, behind=False)
        return picture

    def _draw_prop(self, picture: np.ndarray, frame: int) -> None:
        if self.take.prop.visible[frame]:
            self._lay_thing(picture, self.sprite, self.take.prop, frame)
        for shard in self.take.shards:
            track = shard.track
            if not track.visible[frame]:
                continue
            x, y, angle = track.x[frame], track.y[frame], track.angle[frame]
            floor = self.take.floor[frame]
            near = 1 - min(abs(floor - y) / 80, 1)
            _lay_shadow(picture, x + 2, floor + 4, 13, 0.35 * near)
            lay(
                picture, self.pieces[shard.piece], x, y, angle, track.wide[frame], track.high[frame]
            )

    def _lay_thing(self, picture: np.ndarray, sprite: Sprite, track: Track, frame: int) -> None:
        x, y, angle = track.x[frame], track.y[frame], track.angle[frame]
        wide, high = track.wide[frame], track.high[frame]
        outline = sprite.shape.hull * 100
        turn = np.radians(angle)
        across = (outline[:, 0] * np.cos(turn) - outline[:, 1] * np.sin(turn)) * wide
        down = (outline[:, 0] * np.sin(turn) + outline[:, 1] * np.cos(turn)) * high
        floor = self.take.floor[frame]
        if self.story.script == "stack" and track is self.take.prop and x > 136:
            floor = y + down.max()  # it stands on the box
        lifted = np.clip((floor - (y + down.max())) / 110, 0, 1)
        if not self.in_water:
            half = (across.max() - across.min()) / 2
            middle = x + (across.max() + across.min()) / 2
            strength = (0.62 - 0.45 * lifted) * (0.6 if self.story.prop.material == "glass" else 1)
            _lay_shadow(
                picture, middle + 4 + 10 * lifted, floor, half * (1.3 + 0.5 * lifted), strength
            )
        lay(picture, sprite.lit(angle), x, y, angle, wide, high)

    def _draw_hand(self, picture: np.ndarray, frame: int, behind: bool) -> None:
        hand = self.take.hand
        x, y = hand.x[frame], hand.y[frame]
        if -90 < x < PICTURE + 90 and -90 < y < PICTURE + 90:
            palm, fingers = self.hand
            lay(picture, palm if behind else fingers, x, y, hand.angle[frame])

    def _draw_board(self, picture: np.ndarray, frame: int) -> None:
        x = self.take.board_x[frame]
        if x < PICTURE + 60:
            _lay_shadow(picture, x + 4, FLOOR + 6, 74, 0.6)
            lay(picture, board_sprite(), x, FLOOR + 7 - 55)

    def _draw_bowl(self, picture: np.ndarray, frame: int) -> None:
        back, front = bowl_sprites()
        middle = BOWL_TOP + 18
        lay(picture, back, BOWL_X, middle)
        level = float(self.take.bowl_level[frame])
        if level > 0.01:
            half_width = 33 * np.sqrt(0.25 + 0.75 * level)
            centre = (round(16 * BOWL_X), round(16 * (BOWL_TOP + 26 - 20 * level)))
            axes = (round(16 * half_width), round(16 * 6.5))
            cv2.ellipse(picture, centre, axes, 0, 0, 360, (214, 158, 74), -1, cv2.LINE_AA, 4)
            cv2.ellipse(picture, centre, axes, 0, 190, 300, (245, 220, 170), 1, cv2.LINE_AA, 4)
        if self.take.stream is not None and self.take.stream[frame, 2] > 0.05:
            self._draw_stream(picture, frame)
        lay(picture, front, BOWL_X, middle)

    def _draw_stream(self, picture: np.ndarray, frame: int) -> None:
        x, y, flow = self.take.stream[frame]
        level = BOWL_TOP + 26 - 20 * float(self.take.bowl_level[frame])
        drop = np.linspace(0, 1, 24)
        along_x = x + (BOWL_X - x) * drop**0.55
        along_y = y + (level - y) * drop
        wobble = 0.7 * np.sin(drop * 18 - frame * 1.1) * drop
        half = (3.4 - 1.5 * drop) * flow + 0.4
        left = np.stack([along_x + wobble - half, along_y], 1)
        right = np.stack([along_x + wobble + half, along_y], 1)
        outline = np.round(np.vstack([left, right[::-1]]) * 16).astype(np.int32)
        cv2.fillPoly(picture, [outline], (222, 172, 92), cv2.LINE_AA, 4)
        shine = np.round(np.stack([along_x + wobble - half * 0.3, along_y], 1) * 16).astype(
            np.int32
        )
        cv2.polylines(picture, [shine], False, (252, 236, 205), 1, cv2.LINE_AA, 4)

    def _draw_water(self, picture: np.ndarray, frame: int) -> None:
        time = frame / self.take.frame_rate
        x = np.arange(PICTURE, dtype=np.float32)
        surface = WATER_TOP + 1.3 * np.sin(x / 17 + 2.1 * time + self.phase)
        surface += 0.8 * np.sin(x / 7.5 - 3.0 * time)
        for first, centre, strength in self.take.splashes:
            since = time - first / self.take.frame_rate
            if since > 0:
                away = np.abs(x - centre)
                ring = np.exp(-(((away - 70 * since) / (12 + 14 * since)) ** 2))
                dip = np.exp(-((away / 26) ** 2)) * np.cos(9 * since)
                surface -= (
                    strength
                    * np.exp(-1.5 * since)
                    * (9 * ring * np.cos(0.22 * away - 12 * since) - 7 * dip)
                )
        _tint_water(picture, surface.astype(np.float32), self.story.scene, time)


_WATER = {"tank": ((226, 158, 48), 0.30), "pool": ((222, 170, 52), 0.30)}


@lru_cache(maxsize=2)
def _water_layer(scene: str) -> tuple[np.ndarray, np.ndarray]:
    """Colour to add and share of the picture that shows through, by row; uint16 fixed point."""
    colour, amount = _WATER[scene]
    top = int(WATER_TOP) - 16
    rows = np.linspace(0, 1, PICTURE - top, dtype=np.float32)[:, None, None]
    alpha = amount + 0.20 * rows
    tint = np.float32(colour) * (1.06 - 0.42 * rows)
    return (tint * alpha).astype(np.float32), (1 - alpha).astype(np.float32)


_RAY_DEPTH = np.exp(-np.arange(-16, PICTURE - WATER_TOP, dtype=np.float32) / 70)[:, None]


def _tint_water(picture: np.ndarray, surface: np.ndarray, scene: str, time: float) -> None:
    """Colour everything below the surface line, float32 [256] of rows, and light its edge."""
    top = int(WATER_TOP) - 16
    region = picture[top:]
    rows = np.arange(top, PICTURE, dtype=np.float32)[:, None]
    below = np.clip(rows - surface[None] + 0.5, 0, 1)
    if scene == "tank":
        below[int(WATER_BOTTOM) + 2 - top :] = 0
    added, through = _water_layer(scene)
    tinted = region * through + added
    x = np.arange(PICTURE, dtype=np.float32)[None]
    rays = np.sin(x * 0.07 - rows * 0.025 + 0.9 * time) * np.sin(x * 0.031 + 0.6 * time)
    tinted += (8.0 * rays * _RAY_DEPTH)[..., None]
    edge = np.clip(1.6 - np.abs(rows - surface[None] - 0.8), 0, 1) * 46
    mixed = region + (tinted - region) * below[..., None] + edge[..., None]
    picture[top:] = np.clip(mixed, 0, 255).astype(np.uint8)


def _pieces(sprite: Sprite, sites: np.ndarray) -> list[np.ndarray]:
    """The sprite cut into the cells of the sites, each with its own middle in the middle."""
    lit = sprite.lit(0)
    pixels = (np.arange(SPRITE) + 0.5) / UNIT - SPRITE / UNIT / 2
    x, y = np.meshgrid(pixels, pixels)
    away = (x[..., None] - sites[:, 0]) ** 2 + (y[..., None] - sites[:, 1]) ** 2
    owner = np.argmin(away, axis=2)
    pieces = []
    for number, (site_x, site_y) in enumerate(sites):
        piece = np.where((owner == number)[..., None], lit, 0).astype(np.uint8)
        rim = cv2.morphologyEx(piece[..., 3], cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        lighter = cv2.add(piece[..., :3], cv2.cvtColor(rim // 4, cv2.COLOR_GRAY2BGR))
        piece[..., :3] = np.minimum(lighter, piece[..., 3:])
        shift = np.float32([[1, 0, -site_x * UNIT], [0, 1, -site_y * UNIT]])
        centred = cv2.warpAffine(piece, shift, (SPRITE, SPRITE))
        keep = slice(SPRITE // 2 - 62, SPRITE // 2 + 62)
        pieces.append(np.ascontiguousarray(centred[keep, keep]))
    return pieces


# ---- splashes, dust, bubbles -------------------------------------------------------------


class _Particles:
    """Round specks with their own paths: float arrays [count]; soft ones are drawn see-through."""

    def __init__(self, first, rate, x, y, speed_x, speed_y, gravity, radius, colour, life, soft):
        self.first, self.rate, self.soft = first, rate, soft
        self.x, self.y, self.speed_x, self.speed_y = x, y, speed_x, speed_y
        self.gravity, self.radius, self.colour, self.life = gravity, radius, colour, life

    def draw(self, picture: np.ndarray, frame: int) -> None:
        time = (frame - self.first) / self.rate
        if not 0 <= time < self.life.max():
            return
        left = np.clip(1 - time / self.life, 0, 1)
        x = self.x + self.speed_x * time
        y = self.y + self.speed_y * time + 0.5 * self.gravity * time**2
        for i in np.flatnonzero(left > 0):
            if self.soft:
                _lay_dust(
                    picture, x[i], y[i], self.radius[i] * (1.6 - 0.6 * left[i]), 0.5 * left[i]
                )
            elif self.gravity <= 0 or y[i] < WATER_TOP + 4:
                centre = (round(16 * x[i]), round(16 * y[i]))
                radius = round(16 * self.radius[i] * (0.5 + 0.5 * left[i]))
                cv2.circle(picture, centre, radius, self.colour, -1, cv2.LINE_AA, 4)


def _lay_dust(picture, x: float, y: float, radius: float, strength: float) -> None:
    sprite = cv2.convertScaleAbs(_dust_sprite(), alpha=strength)
    scale = 2 * radius * _PER_PIXEL / 128
    lay(picture, sprite, x, y, 0.0, scale, scale)


@lru_cache(maxsize=1)
def _dust_sprite() -> np.ndarray:
    alpha = _shadow_sprite()[..., 3:]
    colour = np.float32([205, 218, 226])
    return np.concatenate([(alpha * (colour / 255)).astype(np.uint8), alpha], axis=2)


def _particles(story: Story, take: Take) -> list[_Particles]:
    rng = np.random.default_rng([story.seed, 8])
    found = []
    for first, x, strength in take.puffs:
        n = int(3 + 7 * strength)
        side = rng.choice([-1.0, 1.0], n)
        found.append(
            _Particles(
                *(first, take.frame_rate, x + side * rng.uniform(4, 22, n)),
                *(
                    take.floor[first] - rng.uniform(0, 5, n),
                    side * rng.uniform(14, 60, n) * strength,
                ),
                *(-rng.uniform(4, 22, n), 0.0, rng.uniform(5, 11, n), None),
                *(rng.uniform(0.35, 0.8, n), True),
            )
        )
    for first, x, strength in take.splashes:
        n = int(26 * strength)
        found.append(
            _Particles(
                *(
                    first,
                    take.frame_rate,
                    x + rng.normal(0, 13, n),
                    WATER_TOP - rng.uniform(0, 3, n),
                ),
                *(rng.normal(0, 46, n), -rng.uniform(70, 235, n) * strength, 430.0),
                *(rng.uniform(0.8, 2.6, n), (248, 236, 214), np.full(n, 1.3), False),
            )
        )
    if take.bubbles:
        found += _bubbles(take, rng)
    return found


def _bubbles(take: Take, rng: np.random.Generator) -> list[_Particles]:
    first, last = take.bubbles
    found = []
    for frame in range(first + 2, last, 3):
        n = 2
        y = take.prop.y[frame] - rng.uniform(0, 20, n)
        rise = rng.uniform(48, 80, n)
        life = np.clip((y - WATER_TOP - 3) / rise, 0.05, None)
        found.append(
            _Particles(
                *(frame, take.frame_rate, take.prop.x[frame] + rng.normal(0, 14, n), y),
                *(rng.normal(0, 5, n), -rise, 0.0, rng.uniform(1.0, 3.0, n), (250, 244, 232)),
                *(life, False),
            )
        )
    return found
