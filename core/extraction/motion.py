"""Motion: how a picture's features and pixels move within 16/24 s. Needs no hub.

A cheap temporal stream for machines without a GPU, not a trained video model: differences of
EfficientNet-Lite0's early features, which keep where something changes and into what, and
optical flow, which keeps where to and how fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.extraction.backbone_base import Backbone, file_hash, without_gradients
from core.extraction.efficientnet import network, network_input, weights_path

if TYPE_CHECKING:
    import torch

RECIPE = 1  # counts up when the features of the same window change
_SIZE = 112
_FRAMES = (0, 3, 6, 9, 12, 15)  # of the window's 16: a frame each 1/8 s
_STILL_LEVELS = 4  # of 255: what compression alone changes in a still picture
_BLOCKS = 5  # of EfficientNet's 16: stride 8, 40 channels, still close to the pixels


def load_motion() -> Backbone:
    offsets = tuple(i / 24 for i in _FRAMES)
    return Backbone("motion", _SIZE, offsets, without_gradients(encode_motion))


def describe_motion() -> dict:
    return {"recipe": RECIPE, "weights": file_hash(weights_path())}


def encode_motion(windows: np.ndarray) -> np.ndarray:
    """Feature differences and optical flow of windows [W, 6, s, s, 3] -> [W, dim]."""
    return np.concatenate([feature_motion(windows), flow_motion(windows)], axis=1)


def feature_motion(windows: np.ndarray) -> np.ndarray:
    """Where and how early features change -> [W, 40 * (16 + 4 + 4)].

    The mean |difference| of consecutive frames in 4 x 4 cells, and the signed difference over
    the first and over the second half of the window in 2 x 2 cells.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d as pool

    num_windows, num_frames = windows.shape[:2]
    frames = windows.reshape(-1, *windows.shape[2:])
    maps = torch.cat([_early_features(part) for part in network_input(frames)])
    maps = maps.unflatten(0, (num_windows, num_frames))  # [W, 6, 40, 14, 14]
    change = (maps[:, 1:] - maps[:, :-1]).abs().mean(dim=1)
    middle = num_frames // 2
    halves = (maps[:, middle - 1] - maps[:, 0], maps[:, -1] - maps[:, middle])
    parts = [pool(change, 4), *(pool(half, 2) for half in halves)]
    return torch.cat([part.flatten(1) for part in parts], dim=1).cpu().numpy()


def _early_features(pixels: torch.Tensor) -> torch.Tensor:
    model = network()
    maps = model._swish(model._bn0(model._conv_stem(pixels)))
    for block in model._blocks[:_BLOCKS]:
        maps = block(maps)
    return maps


def flow_motion(windows: np.ndarray) -> np.ndarray:
    """Optical flow between consecutive frames in 4 x 4 cells -> [W, 5 * 3 * 16].

    Rightward, downward and absolute speed in pixels a frame, frame after frame, so that order
    (a bounce falls first and rises then) is kept; a pixel that does not change counts as still.
    Dense inverse search: Kroeger et al., ECCV 2016.
    """
    import cv2

    cv2.setNumThreads(1)  # extraction already runs a process per core
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    rows = []
    for window in windows:
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in window]
        rows.append([_pooled_flow(search.calc(a, b, None), a, b) for a, b in zip(grey, grey[1:])])
    return np.asarray(rows, np.float32).reshape(len(windows), -1)


def _pooled_flow(flow: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[s, s, 2] -> [3, 4, 4]: mean x, y and length in each cell."""
    import cv2

    # The search spreads motion over flat ground, where it has nothing to go by.
    flow = flow * (cv2.absdiff(before, after) > _STILL_LEVELS)[..., None]
    speed = np.linalg.norm(flow, axis=2, keepdims=True)
    field = np.concatenate([flow, speed], axis=2)
    return cv2.resize(field, (4, 4), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
