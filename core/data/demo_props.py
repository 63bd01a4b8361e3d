"""What stands by in the demo world: the hand, the board to hide behind, the bowl.

Sprites are premultiplied BGRA uint8, twice their size on screen, like those of the things.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from core.data.demo_materials import Finish, matcap, noise
from core.data.demo_shapes import Canvas, ellipse, smooth

_SKIN = ((0.93, 0.76, 0.64), (0.80, 0.58, 0.43), (0.58, 0.39, 0.27), (0.40, 0.27, 0.19))
_SLEEVES = ((0.25, 0.40, 0.62), (0.75, 0.72, 0.66), (0.30, 0.45, 0.35), (0.62, 0.30, 0.32))
_SOFT = Finish(0.50, 0.52, 0.08, 10, 0.05)


def _light(canvas: Canvas, finish: Finish = _SOFT) -> np.ndarray:
    """A painted canvas lit and premultiplied."""
    shape = canvas.finish()
    table = matcap(finish)
    scale = np.float32((len(table) - 1) / 2)
    across, down = shape.normals[..., 0], shape.normals[..., 1]
    light = cv2.remap(
        table, np.float32((across + 1) * scale), np.float32((down + 1) * scale), cv2.INTER_LINEAR
    )
    bgr = shape.paint * shape.lightness[..., None] * light[..., :1] + light[..., 1:]
    bgra = np.dstack([np.clip(bgr, 0, 1) * shape.alpha[..., None], shape.alpha])
    return (bgra * 255 + 0.5).astype(np.uint8)


@lru_cache(maxsize=4)
def hand_sprite(tone: int) -> tuple[np.ndarray, np.ndarray]:
    """Thumb and palm behind what is held, arm and fingers in front; fingertips in the middle."""
    skin, sleeve = _SKIN[tone], _SLEEVES[tone]
    behind = Canvas()
    _capsule(behind, (0.10, -0.26), (0.13, 0.0), 0.052, skin, 0.85)
    front = Canvas()
    arm = front.mask([(-0.13, -0.62), (0.13, -0.62), (0.11, -0.36), (-0.11, -0.36)])
    front.lay(arm, front.lathe(arm), skin)
    cuff = front.mask([(-0.17, -0.62), (0.17, -0.62), (0.155, -0.47), (-0.155, -0.47)])
    front.lay(cuff, front.lathe(cuff), sleeve)
    palm = front.mask(
        smooth(
            [
                (-0.12, -0.42),
                (0.12, -0.42),
                (0.17, -0.28),
                (0.12, -0.16),
                (-0.13, -0.16),
                (-0.16, -0.28),
            ]
        )
    )
    front.lay(palm, front.inflate(palm, 0.1), skin)
    for index, x in enumerate((-0.115, -0.04, 0.035, 0.105)):
        length = (-0.03, 0.02, 0.015, -0.035)[index]
        _capsule(front, (x, -0.2), (x * 0.9, length), 0.04, skin)
    return _light(behind), _light(front)


def _capsule(canvas: Canvas, start, stop, radius: float, paint, lightness: float = 1.0) -> None:
    (x0, y0), (x1, y1) = start, stop
    along = np.array([x1 - x0, y1 - y0])
    side = np.array([-along[1], along[0]]) / np.linalg.norm(along) * radius
    body = canvas.mask(
        [
            np.array(start) + side,
            np.array(stop) + side,
            np.array(stop) - side,
            np.array(start) - side,
        ]
    )
    mask = np.maximum(body, canvas.mask(ellipse(x1, y1, radius, radius)))
    mask = np.maximum(mask, canvas.mask(ellipse(x0, y0, radius, radius)))
    canvas.lay(mask, canvas.inflate(mask, radius * 1.1), paint, lightness)


@lru_cache(maxsize=1)
def board_sprite() -> np.ndarray:
    """A wooden folding screen, 112 by 110 pixels on screen."""
    height, width = 220, 224
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    leaf = np.floor(x / (width / 3))
    across = (x % (width / 3)) / (width / 3)
    tone = np.where(leaf % 2 == 0, 1.06 - 0.16 * across, 0.80 + 0.18 * across)
    grain = cv2.GaussianBlur(noise(224, 110, 90, 1)[:height, :width], (0, 0), sigmaX=0.7, sigmaY=16)
    frame = (across < 0.07) | (across > 0.93) | (y < 14) | (y > height - 16)
    panel = np.where(frame, 0.74, 1.0)
    bevel = np.exp(-(((across - 0.085) / 0.012) ** 2)) - np.exp(-(((across - 0.915) / 0.012) ** 2))
    light = (tone * panel * (1 + 0.16 * grain) + 0.12 * bevel)[..., None]
    colour = np.float32([0.36, 0.52, 0.66]) * light
    alpha = np.ones((height, width, 1), np.float32)
    alpha[-6:][np.abs(across[-6:] - 0.5) < 0.38] = 0  # it stands on its corners
    return (np.clip(np.dstack([colour * alpha, alpha]), 0, 1) * 255 + 0.5).astype(np.uint8)


@lru_cache(maxsize=1)
def bowl_sprites() -> tuple[np.ndarray, np.ndarray]:
    """The bowl's inside, seen behind the water, and its outside in front of it."""
    white = (0.93, 0.93, 0.95)
    gloss = Finish(0.52, 0.48, 0.5, 30, 0.1)
    back = Canvas()
    back.lay(back.mask(ellipse(0, -0.14, 0.40, 0.1)), back.facing(0, -0.6, 0.8), white)
    back.lay(back.mask(ellipse(0, -0.13, 0.375, 0.082)), back.facing(0, 0.5, 0.8), white, 0.72)
    front = Canvas()
    outline = np.vstack(
        [ellipse(0, -0.14, 0.40, 0.1, 0, 180), ellipse(0, -0.14, 0.40, 0.32, 180, 0)]
    )
    mask = front.mask(outline)
    front.lay(mask, front.lathe(mask), white)
    band = mask * front.mask([(-0.5, 0.02), (0.5, 0.02), (0.5, 0.06), (-0.5, 0.06)])
    front.lay(band, front.lathe(mask), (0.35, 0.50, 0.75))
    foot = front.mask([(-0.15, 0.15), (0.15, 0.15), (0.14, 0.2), (-0.14, 0.2)])
    front.lay(foot, front.lathe(foot), white, 0.85)
    return _light(back, gloss), _light(front, gloss)
