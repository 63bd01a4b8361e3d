"""Any image or video model of transformers as a backbone: a hub name or a local folder.

Image models (ResNet, ViT, DINOv2, CLIP, SigLIP, ...) are frame backbones, video models
(VideoMAE, TimeSformer, V-JEPA 2, X-CLIP, ViViT) temporal ones. Weights are safetensors or
loaded with weights_only; no code comes with them. Pixels are prepared as the model's own
preprocessor file says, without torchvision.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.extraction.backbone_base import (
    WINDOW_FRAMES,
    WINDOW_SEC,
    Backbone,
    BackboneError,
    device,
    file_hash,
    without_gradients,
)

if TYPE_CHECKING:
    import torch

RECIPE = 1  # counts up when the features of the same pixels change
_VIDEO_MODELS = ("videomae", "timesformer", "vjepa2", "xclip", "vivit")
_DOWNLOADED = ["*.json", "model*.safetensors"]
_DOWNLOADED_OLD = ["*.json", "pytorch_model*.bin"]


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
            f"Hugging Face cache, and the hub did not give it ({_first_line(error)}). Take "
            "efficientnet-lite0 (frames) and motion (temporal), which need no hub, go online "
            "(unset HF_HUB_OFFLINE), or give the path of a local folder."
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


def load_image_model(name: str) -> Backbone:
    folder = find_model(name)
    check_kind(name, _config(folder), "frame")
    model, lacks_pooler = _load_model(name, folder)
    preprocessing = read_preprocessing(folder)

    def encode(frames: np.ndarray) -> np.ndarray:
        pixels = preprocessing.apply(frames[:, 0])
        return _image_vectors(model, pixels, lacks_pooler).float().cpu().numpy()

    return Backbone(folder_name(name), preprocessing.size, (0.0,), without_gradients(encode))


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


def load_video_model(name: str) -> Backbone:
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

    return Backbone(folder_name(name), preprocessing.size, offsets, without_gradients(encode))


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


def describe_model(kind: str, name: str) -> dict:
    """Recipe and weights of a model for a cache entry's settings; loads nothing."""
    folder = find_model(name)
    check_kind(name, _config(folder), kind)
    return {"backbone": folder_name(name), "recipe": RECIPE, "weights": _folder_hash(folder)}


def folder_name(name: str) -> str:
    """A hub name as it is; of a local folder only the last part, so that it may move."""
    return Path(name).expanduser().resolve().name if _is_folder(name) else name


def _tensor_type() -> type:
    import torch

    return torch.Tensor


def _config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def _is_folder(name: str) -> bool:
    return Path(name).expanduser().is_dir() or name.startswith(("/", ".", "~"))


def _folder_hash(folder: Path) -> str:
    """sha256 over what makes a model's features: configurations and weights."""
    digest = hashlib.sha256()
    weights = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.bin"))
    for path in [*sorted(folder.glob("*config.json")), *weights]:
        digest.update(f"{path.name} {file_hash(path)}\n".encode())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
