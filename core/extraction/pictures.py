"""Decoded frames as pictures: turned, mirrored, scaled and cut."""

from __future__ import annotations

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """The turn and mirroring (a, b, c, d): x' = ax + cy, y' = bx + dy. ISO 14496-12, 8.2.2.3."""
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    numbers = np.frombuffer(bytes(data), dtype=np.int32)
    return tuple(int(n) for n in np.sign(numbers[[0, 1, 3, 4]]))


def is_mirrored(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return a * d - b * c < 0


def rotation_of(matrix: tuple[int, int, int, int]) -> int:
    """Clockwise degrees of a display matrix; a mirror counts as one left to right, done last."""
    a, b, _, _ = matrix
    a = -a if is_mirrored(matrix) else a
    return {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}.get((a, b), 0)


def turned(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    a, b, c, d = matrix
    if (a, b, c, d) == (1, 0, 0, 1):
        return picture
    if a == d == 0:
        picture, a, d = picture.transpose(1, 0, 2), c, b
    picture = picture[:, ::-1] if a < 0 else picture
    return np.ascontiguousarray(picture[::-1] if d < 0 else picture)


def scaled(width: int, height: int, size: int | None) -> tuple[int, int]:
    """The sides with the shorter one brought to `size`, where one is given."""
    if size is None:
        return width, height
    scale = size / min(width, height)
    return max(size, round(width * scale)), max(size, round(height * scale))


def cropped(picture: np.ndarray, size: int | None) -> np.ndarray:
    if size is None:
        return picture
    top, left = (picture.shape[0] - size) // 2, (picture.shape[1] - size) // 2
    return np.ascontiguousarray(picture[top : top + size, left : left + size])


def even(side: float) -> int:
    return max(2, 2 * round(side / 2))
