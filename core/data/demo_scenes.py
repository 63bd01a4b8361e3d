"""The places of the demo world, painted once per video and slightly different in each."""

from __future__ import annotations

import cv2
import numpy as np

from core.data.demo_materials import noise
from core.data.demo_set import (
    SHELF_EDGE,
    SHELF_TOP,
    WATER_BOTTOM,
    WATER_TOP,
)

_SIZE = 512  # painted at twice the picture's size
_PICTURE = 256


def paint_scene(scene: str, seed: int) -> np.ndarray:
    """The empty place, BGR uint8 [256, 256, 3]."""
    rng = np.random.default_rng([seed, 7])
    image = _PAINTERS[scene](rng)
    small = cv2.resize(image, (_PICTURE, _PICTURE), interpolation=cv2.INTER_AREA)
    return (np.clip(small * _vignette(), 0, 1) * 255 + 0.5).astype(np.uint8)


def _vignette() -> np.ndarray:
    axis = np.linspace(-1, 1, _PICTURE, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return (1 - 0.16 * np.clip(x * x + y * y - 0.5, 0, 1.5))[..., None]


def _rgb(*colour: float) -> np.ndarray:
    return np.float32(colour)[::-1]


def _gradient(top, bottom, height: int = _SIZE) -> np.ndarray:
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - share) + bottom * share, (height, _SIZE, 3)).copy()


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def _shift(colour: np.ndarray, rng: np.random.Generator, amount: float = 0.05) -> np.ndarray:
    return np.clip(colour + rng.uniform(-amount, amount, 3).astype(np.float32), 0, 1)


def _texture(size_y: int, cells: float, seed: int, octaves: int = 3) -> np.ndarray:
    return noise(_SIZE, cells, seed, octaves)[:size_y, :, None]


def _lay_floor(image: np.ndarray, floor: np.ndarray, horizon: int) -> None:
    """Put a floor below the horizon, with the soft dark line where a wall meets it."""
    image[horizon:] = floor[: _SIZE - horizon]
    rows = np.arange(_SIZE, dtype=np.float32)
    crease = 1 - 0.28 * np.exp(-(((rows - horizon) / 9.0) ** 2))
    image *= crease[:, None, None]


def _planks(height: int, colour: np.ndarray, rng: np.random.Generator, lines: int) -> np.ndarray:
    """Boards running towards the viewer."""
    floor = _gradient(colour * 0.82, colour * 1.1, height)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, _SIZE, dtype=np.float32)[None]
    across = x / (0.62 + 0.5 * y) * lines
    board = np.floor(across)
    tone = (np.sin(board * 12.9898 + rng.uniform(0, 9)) * 43758.5) % 1
    grain = np.sin(across * 40 + 5 * noise(_SIZE, 5, 21)[:height]) * 0.02
    seam = np.clip(1 - np.abs(across - np.round(across)) * 26, 0, 1)
    floor *= (1 + 0.13 * (tone - 0.5) + grain - 0.32 * seam)[..., None]
    return floor


def _kitchen(rng: np.random.Generator) -> np.ndarray:
    wall = _shift(_rgb(*_PAINTS[rng.integers(len(_PAINTS))]), rng, 0.03)
    image = _gradient(wall * 1.05, wall * 0.92)
    for y in range(250, 340, 30):
        image[y : y + 2] *= 0.93
    for x in range(int(rng.integers(0, 40)), _SIZE, 44):
        image[236:340, x : x + 2] *= 0.94
    window_x = int(rng.integers(30, 330))
    cv2.rectangle(image, (window_x, 36), (window_x + 150, 190), (0.98, 0.98, 0.98), -1)
    cv2.rectangle(image, (window_x + 9, 45), (window_x + 141, 181), (0.98, 0.90, 0.80), -1)
    cv2.rectangle(image, (window_x + 9, 120), (window_x + 141, 181), (0.55, 0.80, 0.62), -1)
    cv2.line(image, (window_x + 75, 40), (window_x + 75, 186), (0.97, 0.97, 0.97), 8)
    shelf_x = (window_x + 235) % 400
    cv2.rectangle(image, (shelf_x, 150), (shelf_x + 130, 160), (0.30, 0.42, 0.58), -1)
    for jar in range(3):
        colour = [float(v) for v in rng.uniform(0.35, 0.85, 3)]
        x = shelf_x + 12 + jar * 40
        top = 150 - int(rng.integers(34, 62))
        cv2.rectangle(image, (x, top), (x + 26, 149), colour, -1)
    image = _blur(image, 5.0)
    _lay_floor(image, _table(rng, _SIZE - 350), 350)
    return image


def _table(rng: np.random.Generator, height: int) -> np.ndarray:
    """A table's top, its boards across, with a cloth on it half of the time; then its front."""
    wood = _shift(_rgb(0.72, 0.52, 0.34), rng)
    top = _gradient(wood * 0.86, wood * 1.12, height)
    grain = cv2.GaussianBlur(noise(_SIZE, 120, 80, 1), (0, 0), sigmaX=22, sigmaY=0.9)
    top *= (1 + 0.16 * grain[:height])[..., None]
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, _SIZE, dtype=np.float32)[None]
    for seam in (16, 46, 88):
        top[seam : seam + 2] *= 0.80
    if rng.random() < 0.5:
        cloth = _rgb(*_CLOTHS[rng.integers(len(_CLOTHS))])
        across = x / (0.62 + 0.3 * y / height)
        check = (np.floor(across * 9) + np.floor(7 * (y / height) ** 0.75)) % 2
        woven = cloth * (0.86 + 0.2 * check[..., None])
        edge = np.clip((0.80 - np.abs(across)) * 60, 0, 1) * np.clip((y - 12) / 2, 0, 1)
        top += edge[..., None] * (woven - top)
    front = 138
    top[front : front + 4] = wood * 1.25
    top[front + 4 :] = wood * 0.62 * (1 + 0.16 * grain[: height - front - 4, :, None])
    return top


_CLOTHS = ((0.86, 0.42, 0.40), (0.42, 0.56, 0.78), (0.93, 0.90, 0.84), (0.55, 0.70, 0.52))


_PAINTS = ((0.93, 0.89, 0.80), (0.80, 0.88, 0.90), (0.93, 0.84, 0.80), (0.84, 0.90, 0.82))


def _lawn(rng: np.random.Generator) -> np.ndarray:
    image = _gradient(_rgb(0.46, 0.70, 0.93), _rgb(0.87, 0.94, 0.97))
    cloud = np.clip(noise(_SIZE, 5, int(rng.integers(4)) + 30) - 0.25, 0, 1)[..., None]
    image = image * (1 - 0.8 * cloud) + 0.8 * cloud
    for layer, (base, tone) in enumerate(((270, 0.72), (300, 0.55))):
        ridge = base + 40 * noise(_SIZE, 5, int(rng.integers(4)) + 40 + 4 * layer)[0]
        rows = np.arange(_SIZE)[:, None]
        inside = np.clip((rows - ridge[None]) / 3, 0, 1)[..., None].astype(np.float32)
        image = image * (1 - inside) + _rgb(0.30, 0.55, 0.33) * tone * 1.3 * inside
    tree_x = int(rng.integers(40, 470))
    cv2.rectangle(image, (tree_x - 8, 230), (tree_x + 8, 326), (0.20, 0.30, 0.42), -1)
    for _ in range(26):
        spot = rng.normal([tree_x, 175], [34, 34])
        tone = float(rng.uniform(0.75, 1.25))
        leaf = [float(v) for v in _rgb(0.27, 0.52, 0.22) * tone]
        cv2.circle(image, (int(spot[0]), int(spot[1])), int(rng.integers(16, 34)), leaf, -1)
    for x in range(int(rng.integers(0, 24)) - 30, _SIZE, 30):
        points = [(x, 336), (x, 292), (x + 9, 280), (x + 18, 292), (x + 18, 336)]
        cv2.fillPoly(image, [np.int32(points)], (0.93, 0.95, 0.96))
    cv2.rectangle(image, (0, 300), (_SIZE, 308), (0.88, 0.90, 0.92), -1)
    image = _blur(image, 3.6)
    top = 330
    grass = _gradient(_rgb(0.36, 0.60, 0.24), _rgb(0.42, 0.70, 0.27), _SIZE - top)
    blades = cv2.GaussianBlur(noise(_SIZE, 128, 50, 1), (0, 0), sigmaX=0.8, sigmaY=3.5)
    patches = noise(_SIZE, 6, 51 + int(rng.integers(3)))
    height = _SIZE - top
    grass *= (1 + 0.34 * blades[:height] + 0.10 * patches[:height])[..., None]
    _lay_floor(image, grass, top)
    return image


def _workshop(rng: np.random.Generator) -> np.ndarray:
    brick = _shift(_rgb(0.66, 0.48, 0.40), rng, 0.05)
    image = _gradient(brick * 0.86, brick * 1.02)
    image *= 1 + 0.06 * _texture(_SIZE, 60, 60, 2)
    for row, y in enumerate(range(0, 340, 34)):
        cv2.line(image, (0, y), (_SIZE, y), [float(v) for v in brick * 1.22], 4)
        for x in range(-40 + 44 * (row % 2), _SIZE, 88):
            cv2.line(image, (x, y), (x, y + 34), [float(v) for v in brick * 1.22], 4)
    board_x = int(rng.integers(20, 190))
    cv2.rectangle(image, (board_x, 50), (board_x + 280, 190), (0.52, 0.66, 0.76), -1)
    for tool in range(4):
        x = board_x + 36 + tool * 66
        length = int(rng.integers(60, 104))
        cv2.line(image, (x, 72), (x, 72 + length), (0.25, 0.25, 0.30), 9)
        head = [float(v) for v in rng.uniform(0.2, 0.75, 3)]
        cv2.ellipse(image, (x, 76), (int(rng.integers(12, 26)), 12), 0, 0, 360, head, -1)
    image = _blur(image, 4.0)
    concrete = _shift(_rgb(0.62, 0.61, 0.59), rng, 0.03)
    floor = _gradient(concrete * 0.84, concrete * 1.06, _SIZE - 350)
    floor *= 1 + 0.05 * _texture(_SIZE - 350, 7, 61) + 0.04 * _texture(_SIZE - 350, 120, 62, 1)
    _lay_floor(image, floor, 350)
    return image


def _stage(rng: np.random.Generator) -> np.ndarray:
    velvet = _rgb(*((0.66, 0.12, 0.17), (0.20, 0.24, 0.60), (0.14, 0.44, 0.42))[rng.integers(3)])
    x = np.linspace(0, 1, _SIZE, dtype=np.float32)
    phase = x * 15 + 0.35 * np.sin(x * 9 + rng.uniform(0, 6)) + rng.uniform(0, 1)
    folds = 0.62 + 0.38 * np.sin(2 * np.pi * phase)
    image = np.broadcast_to((velvet * folds[None, :, None]), (_SIZE, _SIZE, 3)).copy()
    image *= np.linspace(0.55, 1.1, _SIZE, dtype=np.float32)[:, None, None]
    image = _blur(image, 2.5)
    _lay_floor(image, _planks(_SIZE - 350, _rgb(0.52, 0.34, 0.22), rng, 6), 350)
    y, x = np.mgrid[0:_SIZE, 0:_SIZE].astype(np.float32) / _SIZE
    centre = 0.5 + rng.uniform(-0.06, 0.06)
    pool = np.exp(-(((x - centre) / 0.34) ** 2 + ((y - 0.80) / 0.13) ** 2))
    cone = np.exp(-(((x - centre) / (0.07 + 0.26 * y)) ** 2)) * 0.5
    return image * (0.62 + 0.85 * np.maximum(pool, cone))[..., None] + 0.09 * cone[..., None]


def _shelf(rng: np.random.Generator) -> np.ndarray:
    wall = _shift(_rgb(*_PAINTS[rng.integers(len(_PAINTS))]), rng, 0.03) * 0.93
    image = _gradient(wall * 1.05, wall * 0.93)
    stripe = (np.arange(_SIZE) // 32 % 2).astype(np.float32)
    image *= (1 - 0.035 * stripe)[None, :, None]
    frame_x = int(rng.integers(300, 360))
    cv2.rectangle(image, (frame_x, 50), (frame_x + 120, 150), (0.32, 0.42, 0.52), -1)
    cv2.rectangle(image, (frame_x + 9, 59), (frame_x + 111, 141), (0.80, 0.86, 0.72), -1)
    cv2.circle(image, (frame_x + 40, 95), 18, (0.45, 0.75, 0.95), -1)
    image = _blur(image, 4.0)
    _lay_floor(image, _planks(_SIZE - 400, _shift(_rgb(0.58, 0.44, 0.32), rng), rng, 6), 400)
    top, edge = int(2 * SHELF_TOP), int(2 * SHELF_EDGE)
    shade = np.zeros((_SIZE, _SIZE), np.float32)
    cv2.rectangle(shade, (0, top + 26), (edge - 6, top + 66), 1, -1)
    image *= (1 - 0.35 * _blur(shade, 9))[..., None]
    wood = _shift(_rgb(0.66, 0.45, 0.28), rng)
    grain = 1 + 0.07 * cv2.GaussianBlur(noise(_SIZE, 90, 65, 1), (0, 0), sigmaX=14, sigmaY=0.8)
    image[top - 10 : top + 6, :edge] = (wood * 1.16) * grain[:16, :edge, None]
    image[top + 6 : top + 28, :edge] = (wood * 0.82) * grain[30:52, :edge, None]
    for x in (50, 190):
        cv2.fillPoly(
            image,
            [np.int32([(x, top + 28), (x + 16, top + 28), (x + 16, top + 84)])],
            [float(v) for v in wood * 0.62],
        )
    return image


def _tank(rng: np.random.Generator) -> np.ndarray:
    wall = _shift(_rgb(*_PAINTS[rng.integers(len(_PAINTS))]), rng, 0.03) * 0.90
    image = _blur(_gradient(wall * 1.06, wall * 0.9), 3)
    lamp_x = int(rng.integers(60, 450))
    y, x = np.mgrid[0:_SIZE, 0:_SIZE].astype(np.float32)
    image += 0.16 * np.exp(-(((x - lamp_x) ** 2 + (y - 60) ** 2) / 130**2))[..., None]
    bottom = int(2 * WATER_BOTTOM)
    _lay_floor(image, _planks(_SIZE - bottom - 16, _rgb(0.66, 0.47, 0.31), rng, 5), bottom + 16)
    sand = slice(bottom - 8, bottom + 16)
    image[sand] = _rgb(0.90, 0.80, 0.60) * (1 + 0.20 * noise(_SIZE, 120, 70, 1)[sand, :, None])
    for _ in range(46):
        x, y = int(rng.integers(20, _SIZE - 20)), bottom - 6 + int(rng.integers(-4, 8))
        grey = float(rng.uniform(0.45, 0.85))
        size = (int(rng.integers(4, 11)), int(rng.integers(3, 7)))
        cv2.ellipse(
            image, (x, y), size, 0, 0, 360, (grey * 0.9, grey * 0.97, grey), -1, cv2.LINE_AA
        )
    # The glass: two panes end on, and a streak of light on the front one.
    for x in (14, _SIZE - 26):
        image[96 : bottom + 16, x : x + 12] = image[96 : bottom + 16, x : x + 12] * 0.55 + 0.42
        image[96 : bottom + 16, x : x + 2] *= 0.75
    streak = np.zeros((_SIZE, _SIZE), np.float32)
    cv2.fillPoly(streak, [np.int32([(70, 110), (120, 110), (60, bottom), (30, bottom)])], 1)
    return image + 0.07 * _blur(streak, 5)[..., None]


def _pool(rng: np.random.Generator) -> np.ndarray:
    image = _gradient(_rgb(0.50, 0.74, 0.94), _rgb(0.92, 0.96, 0.97))
    hedge = 190 + 14 * noise(_SIZE, 14, 72 + int(rng.integers(3)))[0]
    rows = np.arange(_SIZE)[:, None]
    inside = np.clip((rows - hedge[None]) / 3, 0, 1)[..., None].astype(np.float32)
    leaf = 1 + 0.2 * _texture(_SIZE, 60, 75, 2)
    image = _blur(image * (1 - inside) + _rgb(0.22, 0.45, 0.24) * leaf * inside, 3.5)
    top = int(2 * WATER_TOP)
    tile = _shift(_rgb(0.62, 0.84, 0.90), rng, 0.04)
    image[top - 14 :] = tile
    image[top - 14 : top + 4] = _rgb(0.90, 0.88, 0.84)
    offset = int(rng.integers(0, 40))
    for y in range(top + 4, _SIZE, 38):
        image[y : y + 3] = tile * 0.84
    for x in range(offset, _SIZE, 38):
        image[top + 4 :, x : x + 3] = tile * 0.84
    bottom = int(2 * WATER_BOTTOM)
    image[bottom:] = tile * 0.78
    # The net of light that a moving surface throws.
    y, x = np.mgrid[0:_SIZE, 0:_SIZE].astype(np.float32)
    bend = 26 * noise(_SIZE, 6, 76)
    net = np.abs(np.sin((x + bend) / 30) + np.sin((y * 1.3 + 1.4 * bend) / 26))
    image[top + 4 :] += 0.17 * np.exp(-((net / 0.16) ** 2))[top + 4 :, :, None]
    return image


_PAINTERS = {
    **{"kitchen": _kitchen, "lawn": _lawn, "workshop": _workshop, "stage": _stage},
    **{"shelf": _shelf, "tank": _tank, "pool": _pool},
}
