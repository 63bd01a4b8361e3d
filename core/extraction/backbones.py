"""The catalog of frozen pixel backbones: windows of frames in, one vector a window out.

A frame backbone sees one frame, a temporal backbone the 16/24 s that a window lasts. A new one
is a file with a load and a describe function, and a line at the end of this one. Any name that
is not in the catalog is a model of transformers: a hub name or a local folder.

Naming and hashing a backbone, as a page does, needs no torch.
"""

from __future__ import annotations

from core.extraction import efficientnet, motion, pretrained
from core.extraction.backbone_base import WINDOW_SEC, Backbone, BackboneError
from core.extraction.pretrained import folder_name

__all__ = [
    "FRAME_BACKBONES",
    "TEMPORAL_BACKBONES",
    "WINDOW_SEC",
    "Backbone",
    "BackboneError",
    "describe_backbone",
    "folder_name",
    "load_frame_backbone",
    "load_temporal_backbone",
    "recipe_of",
]


def load_frame_backbone(name: str) -> Backbone:
    """A backbone of one frame, by catalog name, hub name or local folder."""
    if name in FRAME_BACKBONES:
        return FRAME_BACKBONES[name][0]()
    return pretrained.load_image_model(name)


def load_temporal_backbone(name: str) -> Backbone:
    """A backbone of 16/24 s of video, by catalog name, hub name or local folder."""
    if name in TEMPORAL_BACKBONES:
        return TEMPORAL_BACKBONES[name][0]()
    return pretrained.load_video_model(name)


def describe_backbone(kind: str, name: str) -> dict:
    """What the features depend on: recipe and weights, for a cache entry's settings.

    kind: "frame" or "temporal". Raises BackboneError as loading would, but loads nothing.
    """
    catalog = _CATALOGS[kind]
    if name in catalog:
        return {"backbone": name} | catalog[name][1]()
    return pretrained.describe_model(kind, name)


def recipe_of(kind: str, name: str) -> int:
    """The number of the way a backbone's features are made; old features have an older one."""
    catalog = _CATALOGS[kind]
    return catalog[name][2] if name in catalog else pretrained.RECIPE


# One line for each backbone: load, describe, recipe.
FRAME_BACKBONES = {
    "efficientnet-lite0": (
        efficientnet.load_efficientnet,
        efficientnet.describe_efficientnet,
        efficientnet.RECIPE,
    ),
}
TEMPORAL_BACKBONES = {
    "motion": (motion.load_motion, motion.describe_motion, motion.RECIPE),
}
_CATALOGS = {"frame": FRAME_BACKBONES, "temporal": TEMPORAL_BACKBONES}
