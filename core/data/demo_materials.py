"""Nine materials for the demo world's shapes, and the light that falls on them.

A material gives colour, relief and transparency; light is looked up by the surface normal
(a "matcap"), so a thing that turns is lit anew at every angle and its highlight stays put.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from core.data.demo_shapes import SPRITE, UNIT, Shape, shape_of
from core.data.demo_story import Prop

COLOUR_RGB = {
    "red": (0.84, 0.17, 0.15),
    "blue": (0.15, 0.38, 0.82),
    "green": (0.18, 0.60, 0.26),
    "yellow": (0.97, 0.80, 0.16),
    "orange": (0.97, 0.52, 0.10),
    "purple": (0.52, 0.25, 0.70),
}
_ANGLE_STEP = 7.5  # degrees between two lightings of a turning sprite
_LIGHT = np.float32([-0.48, -0.62, 0.62])


@dataclass(frozen=True)
class Finish:
    """How light plays on a material. Factors on white light, 0 to 1 and above."""

    ambient: float
    diffuse: float
    gloss: float  # strength of the highlight
    tightness: float  # its exponent
    rim: float  # brightening where the surface turns away
    bands: float = 0.0  # mirrored sky and floor, for metal
    opacity: float = 1.0  # face on; edges are always more opaque


FINISHES = {
    "rubber": Finish(0.42, 0.62, 0.16, 9, 0.05),
    "wood": Finish(0.46, 0.62, 0.14, 18, 0.03),
    "metal": Finish(0.48, 0.40, 0.95, 46, 0.15, bands=0.92),
    "glass": Finish(0.72, 0.30, 1.25, 75, 0.45, opacity=0.50),
    "clay": Finish(0.40, 0.66, 0.10, 14, 0.0),
    "stone": Finish(0.38, 0.68, 0.04, 8, 0.0),
    "paper": Finish(0.62, 0.44, 0.0, 8, 0.0),
    "wool": Finish(0.48, 0.56, 0.0, 8, 0.12),
    "sponge": Finish(0.50, 0.56, 0.0, 8, 0.0),
}


class Sprite:
    """A thing of a material and colour, ready to be lit at any angle.

    `lit(degrees)` is premultiplied BGRA uint8 [SPRITE, SPRITE, 4] of the upright picture lit as
    if it were turned clockwise by so many degrees; the caller turns it.
    """

    def __init__(self, prop: Prop):
        self.shape = shape_of(prop.thing)
        self.finish = FINISHES[prop.material]
        colour = np.float32(COLOUR_RGB[prop.colour])[::-1]
        look = _LOOKS[prop.material](self.shape, colour)
        self.normals, self.alpha = np.float32(look.normals), np.float32(look.alpha)
        weight = (self.shape.painted * look.paint_cover)[..., None]
        paint = self.shape.paint * look.paint_tint
        colour_map = look.colour * (1 - weight) + paint * weight
        self.colour = np.float32(colour_map * self.shape.lightness[..., None])
        self._cache: dict[int, np.ndarray] = {}

    def lit(self, degrees: float = 0.0) -> np.ndarray:
        step = round(degrees / _ANGLE_STEP) % round(360 / _ANGLE_STEP)
        if step not in self._cache:
            self._cache[step] = self._light(np.radians(step * _ANGLE_STEP))
        return self._cache[step]

    def _light(self, turn: float) -> np.ndarray:
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        across = self.normals[..., 0] * cos - self.normals[..., 1] * sin
        down = self.normals[..., 0] * sin + self.normals[..., 1] * cos
        scale = np.float32((_MATCAP - 1) / 2)
        table = matcap(self.finish)
        light = cv2.remap(table, (across + 1) * scale, (down + 1) * scale, cv2.INTER_LINEAR)
        bgr = self.colour * light[..., :1] + light[..., 1:2]
        alpha = np.clip(self.alpha + light[..., 1] * self.shape.alpha * 0.6, 0, 1)
        out = np.empty((SPRITE, SPRITE, 4), np.float32)
        np.multiply(np.clip(bgr, 0, 1), alpha[..., None] * 255, out=out[..., :3])
        out[..., 3] = alpha * 255
        return (out + 0.5).astype(np.uint8)


_MATCAP = 96


@lru_cache(maxsize=len(FINISHES))
def matcap(finish: Finish) -> np.ndarray:
    """Light by normal, float32 [96, 96, 2]: factor on the colour, and highlight to add."""
    axis = np.linspace(-1, 1, _MATCAP, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    facing = x * _LIGHT[0] + y * _LIGHT[1] + z * _LIGHT[2]
    wrapped = np.clip((facing + 0.25) / 1.25, 0, 1)
    factor = finish.ambient * (1 - 0.25 * y) + finish.diffuse * wrapped * 1.15
    half = _LIGHT + np.float32([0, 0, 1])
    half /= np.linalg.norm(half)
    shine = np.clip(x * half[0] + y * half[1] + z * half[2], 0, 1)
    highlight = finish.gloss * shine**finish.tightness
    highlight += finish.rim * (1 - z) ** 3 * 0.6
    if finish.bands:
        # A bright sky above, a dark horizon, a warm floor below: what makes metal look metal.
        sky = np.exp(-(((y + 0.55) / 0.22) ** 2)) + 0.55 * np.exp(-(((y - 0.7) / 0.18) ** 2))
        horizon = np.exp(-(((y - 0.12) / 0.16) ** 2))
        factor += finish.bands * (0.75 * sky - 0.5 * horizon) * (0.4 + 0.6 * z)
        highlight += finish.bands * 0.22 * sky
    return np.dstack([np.maximum(factor, 0.05), highlight]).astype(np.float32)


# ---- looks -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What a material makes of a shape; colour BGR 0 to 1."""

    colour: np.ndarray  # [.., 3]
    normals: np.ndarray  # [.., 3]
    alpha: np.ndarray
    paint_cover: float = 1.0  # how well painted parts cover the material
    paint_tint: float | np.ndarray = 1.0


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of each pixel, in units."""
    pixels = (np.arange(SPRITE, dtype=np.float32) + 0.5) / UNIT - SPRITE / UNIT / 2
    return np.meshgrid(pixels, pixels)


@lru_cache(maxsize=16)
def noise(size: int, cells: float, seed: int, octaves: int = 3) -> np.ndarray:
    """Smooth noise around 0, about -1 to 1, float32 [size, size]; `cells` across at its coarsest."""
    rng = np.random.default_rng([77, seed])
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        count = max(2, int(cells * 2**octave) + 1)
        coarse = rng.standard_normal((count, count)).astype(np.float32)
        total += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) / 2**octave
    return total / 1.6


def _relief(normals: np.ndarray, height: np.ndarray, strength: float) -> np.ndarray:
    """Normals bent by a height map; strength in units of slope per height and pixel."""
    grad_y, grad_x = np.gradient(height)
    bent = normals.copy()
    bent[..., 0] -= strength * grad_x
    bent[..., 1] -= strength * grad_y
    return bent / np.linalg.norm(bent, axis=2, keepdims=True)


def _plain(colour: np.ndarray) -> np.ndarray:
    return np.broadcast_to(colour, (SPRITE, SPRITE, 3))


def _mix(a, b, weight) -> np.ndarray:
    """a where weight is 0, b where it is 1."""
    weight = np.clip(weight, 0, 1)[..., None]
    return a * (1 - weight) + b * weight


def _rubber(shape: Shape, colour) -> Look:
    x, y = _grid()
    # A grip of round knobs in staggered rows, worn light on top.
    waves = np.cos((x + y) * 36) * np.cos((x - y) * 36)
    knobs = np.clip((waves - 0.28) * 2.2, 0, 1).astype(np.float32)
    tint = colour * 0.66 + 0.015
    worn = colour * 0.80 + 0.20
    mixed = _mix(_plain(tint), _plain(worn), knobs * 0.85)
    return Look(mixed, _relief(shape.normals, knobs, 1.3), shape.alpha, 0.8)


def _wood(shape: Shape, colour) -> Look:
    x, y = _grid()
    # Year rings cut lengthwise: unevenly spaced, bent around a knot.
    knot = np.exp(-(((x - 0.12) / 0.13) ** 2 + ((y + 0.1) / 0.2) ** 2))
    across = x + 0.06 * noise(SPRITE, 3, 1) + 0.10 * knot * np.sign(x - 0.12)
    spacing = 62 + 26 * np.sin(across * 9)
    grain = (0.5 + 0.5 * np.sin(across * spacing + 3.0 * noise(SPRITE, 4, 2))) ** 2
    fibre = cv2.GaussianBlur(noise(SPRITE, 120, 3, 1), (0, 0), sigmaX=0.6, sigmaY=5) * 1.4
    brown = np.float32([0.30, 0.52, 0.76])
    stained = colour * 0.62 + brown * 0.36 * (0.5 + 0.5 * colour.max())
    dark = stained * np.float32([0.36, 0.42, 0.48])
    mixed = _mix(_plain(stained * 1.12), _plain(dark), grain * 0.85 + 0.25 * fibre + 0.6 * knot**3)
    return Look(mixed, _relief(shape.normals, -grain, 0.10), shape.alpha, 0.7)


def _metal(shape: Shape, colour) -> Look:
    brushed = cv2.GaussianBlur(noise(SPRITE, 110, 4, 1), (0, 0), sigmaX=9, sigmaY=0.4)
    steel = np.float32([0.80, 0.76, 0.74])
    tint = colour * 0.74 + steel * 0.28
    normals = shape.normals.copy()
    normals[..., 1] += 0.10 * brushed
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    return Look(_plain(tint) * (1 + 0.25 * brushed[..., None]), normals, shape.alpha, 0.75)


def _glass(shape: Shape, colour) -> Look:
    edge = (1 - np.clip(shape.normals[..., 2], 0, 1)) ** 1.4
    opacity = FINISHES["glass"].opacity
    alpha = shape.alpha * (opacity + (0.95 - opacity) * edge)
    alpha = np.maximum(alpha, shape.alpha * shape.painted * 0.62)
    alpha = np.maximum(alpha, shape.alpha * np.clip(1.2 - shape.lightness, 0, 1) * 0.6)
    bright = colour * 0.85 + 0.22
    deep = colour * 0.62
    return Look(_mix(_plain(bright), _plain(deep), edge * 1.1), shape.normals, alpha, 0.8)


def _clay(shape: Shape, colour) -> Look:
    x, y = _grid()
    # Glaze that ran down over bare terracotta, with the potter's rings under it.
    edge = 0.17 + 0.05 * np.sin(x * 21 + 1) + 0.035 * np.sin(x * 47)
    glazed = np.clip((edge - y) * 60, 0, 1)
    rings = np.sin(y * 95 + 0.8 * noise(SPRITE, 4, 5))
    speckle = noise(SPRITE, 60, 6, 2)
    terracotta = np.float32([0.26, 0.42, 0.70]) * (1 + 0.10 * speckle[..., None])
    glaze = colour * 0.82 * (1 + 0.14 * speckle[..., None]) + 0.03
    lip = np.clip(1 - np.abs(edge - y) * 60, 0, 1)[..., None] * 0.25
    mixed = _mix(terracotta, glaze, glazed) * (1 - lip)
    return Look(mixed, _relief(shape.normals, rings.astype(np.float32), 0.25), shape.alpha, 0.45)


@lru_cache(maxsize=1)
def _facets() -> tuple[np.ndarray, np.ndarray]:
    """Cells of chiselled stone: an offset of the normal for each, and where they meet."""
    rng = np.random.default_rng(11)
    sites = rng.uniform(-0.65, 0.65, (46, 2)).astype(np.float32)
    x, y = _grid()
    away = (x[..., None] - sites[:, 0]) ** 2 + (y[..., None] - sites[:, 1]) ** 2
    nearest = np.argmin(away, axis=2)
    two = np.sort(np.sqrt(np.partition(away, 1, axis=2)[..., :2]), axis=2)
    tilt = rng.normal(0, 0.24, (46, 2)).astype(np.float32)[nearest]
    return tilt, np.clip(1 - (two[..., 1] - two[..., 0]) * 70, 0, 1)


def _stone(shape: Shape, colour) -> Look:
    tilt, seams = _facets()
    normals = shape.normals.copy()
    normals[..., :2] += tilt
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    grey = np.float32([0.56, 0.57, 0.58])
    base = colour * 0.58 + grey * 0.36
    grain = noise(SPRITE, 84, 7, 1)[..., None]
    speckled = base * (1 + 0.26 * grain - 0.45 * (grain > 0.75) + 0.40 * (grain < -0.8))
    return Look(speckled * (1 - 0.55 * seams[..., None]), normals, shape.alpha, 0.4)


def _paper(shape: Shape, colour) -> Look:
    x, y = _grid()
    tilt, folds = _facets()
    normals = shape.normals * np.float32([0.55, 0.55, 1])
    normals[..., :2] += tilt * 0.55
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    sheet = colour * 0.60 + 0.38
    lines = np.clip(1 - np.abs(((y * 13) % 1) - 0.5) * 14, 0, 1)
    margin = np.clip(1 - np.abs(x + 0.16) * 160, 0, 1)
    printed = _mix(_plain(sheet), _plain(colour * 0.72), lines * 0.75)
    printed = _mix(printed, _plain(np.float32([0.35, 0.30, 0.85])), margin * 0.6)
    edge = np.clip(1.35 - cv2.GaussianBlur(shape.alpha, (0, 0), 2.2) * 1.3, 0, 1)
    return Look(
        _mix(printed * (1 + 0.1 * folds[..., None]), 1.0, edge * 0.9), normals, shape.alpha, 0.6
    )


def _wool(shape: Shape, colour) -> Look:
    x, y = _grid()
    # Stockinette: columns of little Vs, and a fringe of loose fibres.
    column = x * 15
    zigzag = np.abs((column % 1) - 0.5) * 1.1
    stitch = ((y * 17 + zigzag) % 1) - 0.5
    height = (np.cos(stitch * 2 * np.pi) * 0.5 + 0.5) * np.abs(np.sin(column * np.pi)) ** 0.4
    height = height.astype(np.float32)
    ragged = shape.alpha + 0.22 * noise(SPRITE, 90, 8, 1)
    soft = cv2.GaussianBlur(shape.alpha, (0, 0), 2.4)
    alpha = np.clip((soft - 0.34 + 0.16 * noise(SPRITE, 90, 8, 1)) * 3.2, 0, 1) * (ragged > 0.05)
    alpha = np.maximum(alpha, np.clip(soft * 3 - 2, 0, 1))
    tint = colour * 0.9 + 0.06
    return Look(
        _plain(tint) * (0.55 + 0.55 * height[..., None]),
        _relief(shape.normals, height, 0.8),
        alpha.astype(np.float32),
        0.9,
        (0.6 + 0.45 * height[..., None]),
    )


@lru_cache(maxsize=1)
def _pores() -> np.ndarray:
    rng = np.random.default_rng(13)
    holes = np.zeros((SPRITE, SPRITE), np.uint8)
    for x, y in rng.uniform(0, SPRITE, (520, 2)):
        axes = rng.uniform(1.2, 5.2, 2) * rng.uniform(0.5, 1.0)
        turned = (
            (float(x), float(y)),
            (2 * float(axes[0]), 2 * float(axes[1])),
            rng.uniform(0, 180),
        )
        cv2.ellipse(holes, turned, 255, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(holes.astype(np.float32) / 255, (0, 0), 0.8)


def _sponge(shape: Shape, colour) -> Look:
    holes = _pores()
    tint = colour * 0.68 + np.float32([0.20, 0.30, 0.32])
    soft = cv2.GaussianBlur(shape.alpha, (0, 0), 2.2)
    bitten = np.clip((soft - 0.45 - 0.28 * holes * (soft < 0.85)) * 4 + 0.5, 0, 1)
    return Look(
        _plain(tint) * (1 - 0.55 * holes[..., None]),
        _relief(shape.normals, -holes, 1.3),
        np.maximum(bitten, np.clip(soft * 4 - 3, 0, 1)).astype(np.float32),
        0.55,
        (1 - 0.5 * holes[..., None]),
    )


_LOOKS = {
    **{"rubber": _rubber, "wood": _wood, "metal": _metal, "glass": _glass, "clay": _clay},
    **{"stone": _stone, "paper": _paper, "wool": _wool, "sponge": _sponge},
}
