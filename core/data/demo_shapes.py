"""The shapes of the demo world's things: outline, surface normals and painted parts.

A shape knows no material and no light. It is built once per thing, at twice the sprite's
resolution, from parts laid over each other; x runs right, y down, one unit is 100 pixels of
the 256-pixel picture, and the origin is the middle of the sprite.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

SPRITE = 248  # pixels a side; a sprite is drawn at twice its size on screen
UNIT = 200.0  # sprite pixels per unit
_OVER = 2  # supersampling of outlines


@dataclass(frozen=True)
class Shape:
    """A thing without material. Arrays are float32 [SPRITE, SPRITE] (or with a last axis)."""

    alpha: np.ndarray  # 0 to 1
    normals: np.ndarray  # [.., 3], towards the viewer is +z, down is +y
    paint: np.ndarray  # [.., 3] BGR of parts with a colour of their own, 0 to 1
    painted: np.ndarray  # how much of `paint` there is, against the material's own colour
    lightness: np.ndarray  # factor on the colour: stripes, openings, folds
    hull: np.ndarray  # [points, 2] outline in units, for contacts


class Canvas:
    """What a shape is painted on, part over part, at `_OVER` times the sprite's resolution."""

    def __init__(self):
        self.size = SPRITE * _OVER
        self.alpha = np.zeros((self.size, self.size), np.float32)
        self.normals = np.zeros((self.size, self.size, 3), np.float32)
        self.normals[..., 2] = 1
        self.paint = np.zeros((self.size, self.size, 3), np.float32)
        self.painted = np.zeros_like(self.alpha)
        self.lightness = np.ones_like(self.alpha)
        pixels = (np.arange(self.size, dtype=np.float32) + 0.5) / (UNIT * _OVER)
        half = SPRITE / UNIT / 2
        self.x, self.y = np.meshgrid(pixels - half, pixels - half)

    def mask(self, points) -> np.ndarray:
        """A filled polygon; points [n, 2] in units."""
        mask = np.zeros((self.size, self.size), np.uint8)
        pixels = (np.asarray(points, np.float64) + SPRITE / UNIT / 2) * UNIT * _OVER - 0.5
        cv2.fillPoly(mask, [np.round(pixels * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        return mask.astype(np.float32) / 255

    def lay(self, mask, normals, paint=None, lightness=1.0) -> None:
        """Lay a part over what is there; `paint` is an RGB triple or None for the material."""
        weight = mask[..., None]
        self.normals += weight * (normals - self.normals)
        self.painted += mask * ((0.0 if paint is None else 1.0) - self.painted)
        if paint is not None:
            self.paint += weight * (np.float32(paint)[::-1] - self.paint)
        self.lightness += mask * (lightness - self.lightness)
        self.alpha = np.maximum(self.alpha, mask)

    def cut(self, mask) -> None:
        self.alpha *= 1 - mask

    def finish(self) -> Shape:
        def down(image):
            return cv2.resize(image, (SPRITE, SPRITE), interpolation=cv2.INTER_AREA)

        normals = down(self.normals)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True) + 1e-6
        alpha = down(self.alpha)
        return Shape(
            alpha,
            normals,
            down(self.paint),
            down(self.painted),
            down(self.lightness),
            _hull(alpha),
        )

    # ---- surfaces: normals for a part ----

    def lathe(self, mask, centre: float = 0.0) -> np.ndarray:
        """A body turned on a vertical axis: its radius is read off the mask, row by row."""
        radius = (mask > 0.5).sum(axis=1).astype(np.float32) / (2 * UNIT * _OVER)
        smooth = cv2.GaussianBlur(radius[:, None], (1, 0), 0, sigmaY=2.3 * _OVER).ravel()
        slope = np.gradient(smooth) * UNIT * _OVER
        across = np.clip((self.x - centre) / np.maximum(radius, 1e-3)[:, None], -0.985, 0.985)
        depth = np.sqrt(1 - across**2)
        down = np.broadcast_to(-np.clip(slope, -1.5, 1.5)[:, None], across.shape)
        return _unit(np.dstack([across, down, depth]))

    def inflate(self, mask, radius: float, flatness: float = 0.0) -> np.ndarray:
        """A pillow: rounded within `radius` of the outline, flat further in."""
        distance = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        inward = np.clip(distance / (radius * UNIT * _OVER), 0, 1)
        height = np.sqrt(np.maximum(1 - (1 - inward) ** 2, 0)) * radius * UNIT * _OVER
        height = cv2.GaussianBlur(height, (0, 0), 2.0 * _OVER)
        grad_y, grad_x = np.gradient(height)
        return _unit(np.dstack([-grad_x, -grad_y, np.full_like(grad_x, 1 + flatness)]))

    def facing(self, x: float, y: float, z: float) -> np.ndarray:
        normals = np.empty((self.size, self.size, 3), np.float32)
        normals[:] = np.float32([x, y, z]) / np.sqrt(x * x + y * y + z * z)
        return normals

    def ball(self, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        across, down = (self.x - cx) / rx, (self.y - cy) / ry
        scale = np.maximum(1, np.sqrt(across**2 + down**2) / 0.985)
        across, down = across / scale, down / scale
        return np.dstack([across, down, np.sqrt(np.maximum(1 - across**2 - down**2, 0))])

    def torus(self, radius: float, half: float) -> np.ndarray:
        distance = np.sqrt(self.x**2 + self.y**2) + 1e-6
        out = np.clip((distance - radius) / half, -0.985, 0.985)
        return np.dstack([out * self.x / distance, out * self.y / distance, np.sqrt(1 - out**2)])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


def _hull(alpha: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(alpha > 0.5)
    points = np.stack([xs, ys], 1).astype(np.float32)
    hull = cv2.convexHull(points)[:, 0] + 0.5
    return (hull - SPRITE / 2) / UNIT


def ellipse(cx, cy, rx, ry, start=0.0, stop=360.0, points=96) -> np.ndarray:
    angle = np.radians(np.linspace(start, stop, points))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1)


def smooth(points, samples: int = 12) -> np.ndarray:
    """A closed Catmull-Rom curve through the points."""
    p = np.asarray(points, float)
    t = np.linspace(0, 1, samples, endpoint=False)[:, None]
    pieces = []
    for i in range(len(p)):
        a, b, c, d = p[i - 1], p[i], p[(i + 1) % len(p)], p[(i + 2) % len(p)]
        pieces.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2)
            + 0.5 * (3 * b - a - 3 * c + d) * t**3
        )
    return np.concatenate(pieces)


def _turned(profile, samples: int = 24) -> np.ndarray:
    """The outline of a turned body from (radius, y) points, smooth along its side."""
    p = np.asarray(profile, float)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    t = np.linspace(0, 1, samples)[:, None]
    side = [
        0.5 * (2 * p[i] + (p[i + 1] - p[i - 1]) * t)
        + 0.5 * (2 * p[i - 1] - 5 * p[i] + 4 * p[i + 1] - p[i + 2]) * t**2
        + 0.5 * (3 * p[i] - p[i - 1] - 3 * p[i + 1] + p[i + 2]) * t**3
        for i in range(1, len(p) - 2)
    ]
    right = np.concatenate(side)
    return np.vstack([right, right[::-1] * [-1, 1]])


# ---- the twelve things -------------------------------------------------------------------

_CREAM = (0.97, 0.94, 0.86)
_DARK = (0.16, 0.15, 0.17)


def _ball(c: Canvas) -> None:
    body = c.mask(ellipse(0, 0, 0.40, 0.40))
    surface = c.ball(0, 0, 0.40, 0.40)
    c.lay(body, surface)
    angle = np.degrees(np.arctan2(surface[..., 1], surface[..., 0]))
    tilt = np.sqrt(np.maximum(surface[..., 0] ** 2 + surface[..., 1] ** 2, 0))
    panels = (np.floor((angle + 40 * tilt) / 60) % 2).astype(np.float32) * (tilt > 0.2)
    panels = cv2.GaussianBlur(panels, (0, 0), 0.5 * _OVER) * body
    c.lay(panels, surface, _CREAM)
    c.lay(c.mask(ellipse(0, 0, 0.075, 0.075)), surface, _CREAM)


def _wheel(c: Canvas) -> None:
    c.lay(c.mask(ellipse(0, 0, 0.43, 0.43)), c.torus(0.37, 0.09))
    c.cut(c.mask(ellipse(0, 0, 0.3, 0.3)))
    rim = c.mask(ellipse(0, 0, 0.32, 0.32)) * (1 - c.mask(ellipse(0, 0, 0.275, 0.275)))
    c.lay(rim, c.torus(0.297, 0.03), lightness=0.75)
    for spoke in range(6):
        turn = np.radians(60 * spoke)
        along, side = (
            np.array([np.cos(turn), np.sin(turn)]),
            np.array([-np.sin(turn), np.cos(turn)]),
        )
        corners = [0.04 * along + 0.04 * side, 0.3 * along + 0.028 * side]
        corners += [0.3 * along - 0.028 * side, 0.04 * along - 0.04 * side]
        mask = c.mask(corners)
        c.lay(mask, c.inflate(mask, 0.03), lightness=1.08)
    hub = c.mask(ellipse(0, 0, 0.1, 0.1))
    c.lay(hub, c.ball(0, 0, 0.13, 0.13))
    c.lay(c.mask(ellipse(0, 0, 0.035, 0.035)), c.ball(0, 0, 0.05, 0.05), _DARK)


def _ring(c: Canvas) -> None:
    c.lay(c.mask(ellipse(0, 0, 0.41, 0.41)), c.torus(0.295, 0.118))
    c.cut(c.mask(ellipse(0, 0, 0.18, 0.18)))
    angle = np.degrees(np.arctan2(c.y, c.x)) % 90
    band = np.clip((14 - np.abs(angle - 45)) * 3, 0, 1).astype(np.float32) * c.alpha
    c.lay(band, c.torus(0.295, 0.118), _CREAM)


def _gear(c: Canvas) -> None:
    points = []
    for tooth in range(9):
        for offset, radius in ((-12, 0.32), (-8, 0.42), (8, 0.42), (12, 0.32)):
            turn = np.radians(40 * tooth + offset)
            points.append([radius * np.cos(turn), radius * np.sin(turn)])
    body = c.mask(points)
    c.lay(body, c.inflate(body, 0.045))
    dish = c.mask(ellipse(0, 0, 0.25, 0.25)) * (1 - c.mask(ellipse(0, 0, 0.13, 0.13)))
    c.lay(dish, _flip(c.torus(0.19, 0.075)), lightness=0.82)
    for hole in range(5):
        turn = np.radians(72 * hole + 18)
        c.cut(c.mask(ellipse(0.19 * np.cos(turn), 0.19 * np.sin(turn), 0.042, 0.042)))
    c.cut(c.mask(ellipse(0, 0, 0.06, 0.06)))


def _flip(normals: np.ndarray) -> np.ndarray:
    return normals * np.float32([-0.6, -0.6, 1])


def _bottle(c: Canvas) -> None:
    outline = _turned(
        [(0.07, -0.46), (0.065, -0.3), (0.075, -0.22), (0.17, -0.09), (0.19, 0.03), (0.19, 0.47)]
    )
    body = c.mask(outline)
    c.lay(body, c.lathe(body))
    label = body * c.mask([(-0.3, 0.08), (0.3, 0.08), (0.3, 0.33), (-0.3, 0.33)])
    c.lay(label, c.lathe(body), _CREAM)
    stripe = body * c.mask([(-0.3, 0.17), (0.3, 0.17), (0.3, 0.24), (-0.3, 0.24)])
    c.lay(stripe, c.lathe(body), None, 0.9)
    lip = c.mask([(-0.09, -0.47), (0.09, -0.47), (0.09, -0.41), (-0.09, -0.41)])
    c.lay(lip, c.lathe(lip), lightness=1.1)
    cork = c.mask([(-0.055, -0.55), (0.055, -0.55), (0.05, -0.47), (-0.05, -0.47)])
    c.lay(cork, c.lathe(cork), (0.76, 0.58, 0.38))


def _vase(c: Canvas) -> None:
    outline = _turned(
        [(0.2, -0.44), (0.13, -0.36), (0.11, -0.27), (0.22, -0.12), (0.31, 0.06)]
        + [(0.27, 0.25), (0.17, 0.38), (0.14, 0.42), (0.19, 0.46)]
    )
    body = c.mask(outline)
    surface = c.lathe(body)
    c.lay(body, surface)
    for top, bottom in ((-0.06, -0.025), (0.15, 0.185)):
        bow = 0.35 * c.x**2
        band = np.clip((c.y + bow - top) * 200, 0, 1) * np.clip((bottom - bow - c.y) * 200, 0, 1)
        c.lay((band * body).astype(np.float32), surface, _CREAM)
    zigzag = np.abs(((c.x / np.maximum(0.1, 1 - 1.2 * c.x**2)) * 12 % 1) - 0.5) * 0.14
    line = np.clip(1.6 - np.abs(c.y - 0.02 - zigzag) * 110, 0, 1).astype(np.float32)
    c.lay(line * body, surface, _CREAM)
    mouth = c.mask(ellipse(0, -0.435, 0.2, 0.05))
    c.lay(mouth, c.facing(0, -0.8, 0.6), lightness=1.1)
    c.lay(c.mask(ellipse(0, -0.43, 0.165, 0.034)), c.facing(0, 0.6, 0.6), lightness=0.3)


def _bar(c: Canvas, points, lightness: float = 1.0, paint=None) -> None:
    mask = c.mask(points)
    c.lay(mask, c.inflate(mask, 0.035), paint, lightness)


def _chair(c: Canvas) -> None:
    # The far legs first, then seat and back, in a slight view from above.
    _bar(c, [(-0.1, 0.12), (-0.04, 0.12), (-0.04, 0.38), (-0.1, 0.38)], 0.62)
    _bar(c, [(0.29, 0.12), (0.35, 0.12), (0.35, 0.38), (0.29, 0.38)], 0.62)
    _bar(c, [(-0.24, -0.49), (-0.17, -0.51), (-0.17, 0.1), (-0.24, 0.12)])
    _bar(c, [(0.0, -0.51), (0.06, -0.52), (0.06, 0.06), (0.0, 0.06)], 0.92)
    for y in (-0.45, -0.28, -0.11):
        _bar(c, [(-0.26, y), (0.08, y - 0.03), (0.08, y + 0.06), (-0.26, y + 0.1)], 1.08)
    seat = [(-0.28, 0.07), (-0.05, -0.03), (0.38, -0.03), (0.23, 0.07)]
    mask = c.mask(seat)
    c.lay(mask, c.facing(0, -0.75, 0.65), None, 1.12)
    _bar(c, [(-0.28, 0.07), (0.23, 0.07), (0.23, 0.15), (-0.28, 0.15)])
    _bar(c, [(0.23, 0.07), (0.38, -0.03), (0.38, 0.05), (0.23, 0.15)], 0.7)
    _bar(c, [(-0.27, 0.13), (-0.19, 0.13), (-0.2, 0.5), (-0.26, 0.5)], 0.95)
    _bar(c, [(0.15, 0.13), (0.23, 0.13), (0.22, 0.5), (0.16, 0.5)], 0.95)


def _lamp(c: Canvas) -> None:
    foot = c.mask(_turned([(0.02, 0.3), (0.06, 0.38), (0.2, 0.43), (0.22, 0.47)]))
    c.lay(foot, c.lathe(foot))
    stem = c.mask(
        _turned(
            [(0.03, -0.1), (0.035, 0.02), (0.075, 0.12), (0.06, 0.22), (0.03, 0.3), (0.03, 0.4)]
        )
    )
    c.lay(stem, c.lathe(stem))
    shade = c.mask([(-0.16, -0.5), (0.16, -0.5), (0.32, -0.06), (-0.32, -0.06)])
    c.lay(shade, c.lathe(shade), lightness=1.12)
    trim = shade * c.mask([(-0.4, -0.11), (0.4, -0.11), (0.4, -0.05), (-0.4, -0.05)])
    c.lay(trim, c.lathe(shade), _CREAM)
    trim = shade * c.mask([(-0.4, -0.51), (0.4, -0.51), (0.4, -0.465), (-0.4, -0.465)])
    c.lay(trim, c.lathe(shade), _CREAM)
    glow = c.mask(ellipse(0, -0.055, 0.315, 0.03))
    c.lay(glow * (1 - shade), c.facing(0, 0.3, 1), (1.0, 0.93, 0.66))


def _box(c: Canvas) -> None:
    front = c.mask([(-0.38, -0.24), (0.22, -0.24), (0.22, 0.38), (-0.38, 0.38)])
    c.lay(front, c.facing(-0.12, 0.05, 1))
    top = c.mask([(-0.38, -0.24), (-0.2, -0.4), (0.38, -0.4), (0.22, -0.24)])
    c.lay(top, c.facing(-0.1, -0.9, 0.5), None, 1.12)
    side = c.mask([(0.22, -0.24), (0.38, -0.4), (0.38, 0.2), (0.22, 0.38)])
    c.lay(side, c.facing(0.85, 0.1, 0.5), None, 0.72)
    c.lay(
        c.mask([(-0.13, -0.24), (-0.03, -0.24), (-0.03, 0.38), (-0.13, 0.38)]),
        c.facing(-0.12, 0.05, 1),
        _CREAM,
    )
    ribbon = c.mask([(-0.13, -0.24), (0.04, -0.4), (0.14, -0.4), (-0.03, -0.24)])
    c.lay(ribbon, c.facing(-0.1, -0.9, 0.5), _CREAM, 1.05)
    for edge in ([(-0.38, -0.24), (0.22, -0.24)], [(0.22, -0.24), (0.22, 0.38)]):
        (x0, y0), (x1, y1) = edge
        w = 0.008
        line = c.mask([(x0 - w, y0 - w), (x1 + w, y0 - w), (x1 + w, y1 + w), (x0 - w, y1 + w)])
        c.lay(line, c.facing(-0.5, -0.6, 0.6), None, 1.2)


def _boat(c: Canvas) -> None:
    mast = c.mask([(-0.025, -0.5), (0.015, -0.5), (0.015, 0.2), (-0.025, 0.2)])
    c.lay(mast, c.lathe(mast, -0.005), (0.55, 0.38, 0.22))
    main = c.mask(smooth([(0.03, -0.46), (0.2, -0.2), (0.34, 0.1), (0.2, 0.12), (0.03, 0.12)], 10))
    c.lay(main, c.inflate(main, 0.2), _CREAM)
    jib = c.mask([(-0.04, -0.4), (-0.04, 0.1), (-0.3, 0.1)])
    c.lay(jib, c.inflate(jib, 0.15), None, 1.15)
    hull = c.mask(
        np.vstack([[(-0.48, 0.17), (0.48, 0.15)], ellipse(0, 0.16, 0.36, 0.29, 8, 172, 40)])
    )
    c.lay(hull, c.inflate(hull, 0.16))
    stripe = hull * c.mask([(-0.5, 0.215), (0.5, 0.2), (0.5, 0.245), (-0.5, 0.26)])
    c.lay(stripe, c.inflate(hull, 0.16), _CREAM)
    rail = c.mask([(-0.5, 0.15), (0.5, 0.13), (0.49, 0.175), (-0.49, 0.195)])
    c.lay(rail, c.inflate(rail, 0.02), None, 0.8)
    flag = c.mask([(-0.02, -0.52), (0.13, -0.48), (-0.02, -0.44)])
    c.lay(flag, c.facing(0, 0, 1), (0.9, 0.25, 0.2))


def _cup(c: Canvas) -> None:
    handle = c.mask(ellipse(0.27, 0.03, 0.17, 0.2)) * (1 - c.mask(ellipse(0.27, 0.03, 0.1, 0.125)))
    c.lay(handle, c.inflate(handle, 0.04))
    body = c.mask(_turned([(0.29, -0.32), (0.29, 0.0), (0.27, 0.22), (0.2, 0.34)]))
    c.lay(body, c.lathe(body))
    foot = c.mask([(-0.2, 0.33), (0.2, 0.33), (0.19, 0.37), (-0.19, 0.37)])
    c.lay(foot, c.lathe(foot), None, 0.85)
    heart = smooth(
        [(0, 0.13), (-0.11, 0.02), (-0.08, -0.07), (0, -0.03), (0.08, -0.07), (0.11, 0.02)]
    )
    c.lay(c.mask(heart), c.lathe(body), _CREAM)
    c.lay(c.mask(ellipse(0, -0.32, 0.29, 0.075)), c.facing(0, -0.8, 0.6), None, 1.1)
    c.lay(c.mask(ellipse(0, -0.315, 0.25, 0.052)), c.facing(0, 0.5, 0.7), None, 0.38)


def _duck(c: Canvas) -> None:
    body = smooth(
        [(-0.47, -0.04), (-0.3, 0.03), (-0.08, -0.03), (0.12, 0.0), (0.33, 0.1), (0.32, 0.3)]
        + [(0.12, 0.41), (-0.14, 0.41), (-0.36, 0.27)]
    )
    mask = c.mask(body)
    c.lay(mask, c.inflate(mask, 0.24))
    head = c.mask(ellipse(0.16, -0.19, 0.2, 0.19))
    neck = c.mask(smooth([(0.0, -0.12), (0.3, -0.12), (0.31, 0.1), (-0.02, 0.1)]))
    joined = np.maximum(head, neck)
    c.lay(neck, c.inflate(np.maximum(joined, mask), 0.24))
    c.lay(head, c.ball(0.16, -0.19, 0.21, 0.21))
    beak = c.mask(smooth([(0.32, -0.22), (0.42, -0.18), (0.49, -0.13), (0.4, -0.1), (0.31, -0.11)]))
    c.lay(beak, c.inflate(beak, 0.05), (0.98, 0.58, 0.12))
    c.lay(c.mask(ellipse(0.235, -0.25, 0.042, 0.048)), c.ball(0.235, -0.25, 0.05, 0.05), (1, 1, 1))
    c.lay(c.mask(ellipse(0.247, -0.247, 0.024, 0.028)), c.ball(0.24, -0.25, 0.03, 0.03), _DARK)
    wing = c.mask(smooth([(-0.26, 0.1), (-0.04, 0.08), (0.1, 0.18), (-0.04, 0.29), (-0.22, 0.24)]))
    c.lay(wing, c.inflate(wing, 0.09), None, 0.88)


_PAINTERS = {
    **{"ball": _ball, "wheel": _wheel, "ring": _ring, "gear": _gear},
    **{"bottle": _bottle, "vase": _vase, "chair": _chair, "lamp": _lamp},
    **{"box": _box, "boat": _boat, "cup": _cup, "duck": _duck},
}


@lru_cache(maxsize=len(_PAINTERS))
def shape_of(thing: str) -> Shape:
    """The shape of one of the world's things; painted once per process."""
    canvas = Canvas()
    _PAINTERS[thing](canvas)
    return canvas.finish()
