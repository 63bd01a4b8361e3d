"""Backbones give the vectors their models give, and say clearly when they cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from core.extraction import efficientnet, motion
from core.extraction.backbones import (
    WINDOW_SEC,
    BackboneError,
    describe_backbone,
    load_frame_backbone,
    load_temporal_backbone,
)
from core.extraction.pretrained import read_preprocessing

REPO_ROOT = Path(__file__).resolve().parents[3]


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def moving_square(dx: int, dy: int, frames: int = 6, size: int = 112) -> np.ndarray:
    """A textured square that moves by (dx, dy) pixels a frame over a grey ground [T, s, s, 3]."""
    texture = cv2.resize(pictures(6, 6, seed=3), (30, 30), interpolation=cv2.INTER_CUBIC)
    out = np.full((frames, size, size, 3), 120, np.uint8)
    for i in range(frames):
        x, y = 40 + dx * (i - 2), 40 + dy * (i - 2)
        out[i, y : y + 30, x : x + 30] = texture
    return out


# ---- EfficientNet-Lite0 -----------------------------------------------------------------------


def reference_efficientnet():
    """The network as its package builds it, batch norms unfolded."""
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0").eval()
    path = efficientnet.weights_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def test_efficientnet_gives_the_mean_of_the_packages_feature_map():
    backbone = load_frame_backbone("efficientnet-lite0")
    frames = pictures(2, 1, 224, 224)
    pixels = (torch.from_numpy(frames[:, 0]).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        wanted = reference_efficientnet().extract_features(pixels).mean(dim=(2, 3)).numpy()
    found = backbone.encode(frames)
    assert found.shape == (2, 1280) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_efficientnet_sees_what_is_in_a_picture():
    """The pretrained weights are really there: its own classifier knows a made-up tennis ball."""
    backbone = load_frame_backbone("efficientnet-lite0")
    picture = np.full((224, 224, 3), (90, 130, 60), np.uint8)
    cv2.circle(picture, (112, 112), 70, (200, 230, 60), -1)
    cv2.ellipse(picture, (50, 112), (60, 80), 0, -60, 60, (245, 245, 245), 5)
    cv2.ellipse(picture, (174, 112), (60, 80), 0, 120, 240, (245, 245, 245), 5)
    vector = torch.from_numpy(backbone.encode(picture[None, None]))
    classes = reference_efficientnet()._fc(vector)[0].topk(5).indices.tolist()
    assert 852 in classes  # ImageNet's "tennis ball"


def test_features_do_not_depend_on_the_batch():
    backbone = load_frame_backbone("efficientnet-lite0")
    frames = pictures(11, 1, 224, 224)
    alone = np.concatenate([backbone.encode(frame[None]) for frame in frames])
    np.testing.assert_allclose(backbone.encode(frames), alone, atol=1e-4)


# ---- motion -----------------------------------------------------------------------------------


def test_motion_of_a_still_window_is_zero_and_of_a_moving_one_is_not():
    backbone = load_temporal_backbone("motion")
    still = moving_square(0, 0)
    found = backbone.encode(np.stack([still, moving_square(4, 0)]))
    assert found.shape[1] == 1200 and found.dtype == np.float32
    np.testing.assert_allclose(found[0], 0, atol=1e-3)
    assert np.abs(found[1]).max() > 0.5


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (-3, 0), (0, 3), (0, -3)])
def test_motion_keeps_the_direction(dx, dy):
    window = moving_square(dx, dy)
    flow = motion.flow_motion(window[None]).reshape(5, 3, 16).sum(axis=2)
    along = flow[:, 0] * np.sign(dx) + flow[:, 1] * np.sign(dy)
    across = flow[:, 1] if dx else flow[:, 0]
    assert (along > 0).all() and (along > 3 * np.abs(across)).all()


def test_motion_keeps_the_place_and_the_order():
    window = moving_square(0, 4)
    there_and_back = np.concatenate([window[:3], window[2::-1]])
    flow = motion.flow_motion(there_and_back[None]).reshape(5, 3, 4, 4)
    down = flow[:, 1].sum(axis=(1, 2))
    assert down[0] > 0 and down[1] > 0 and down[3] < 0 and down[4] < 0
    corner = flow[0, 2, 3, 3]  # nothing moves in the lower right corner
    assert corner < 0.1 * flow[0, 2].max()
    found = load_temporal_backbone("motion").encode(np.stack([window, window[::-1]]))
    assert np.abs(found[0] - found[1]).max() > 1  # played backwards it is another motion


def test_the_motion_window_lies_within_sixteen_frames():
    backbone = load_temporal_backbone("motion")
    assert backbone.num_frames == 6 and backbone.offsets_sec[0] == 0
    assert backbone.offsets_sec[-1] == 15 / 24 < WINDOW_SEC


# ---- transformers models, tiny and random -------------------------------------------------------


def seeded(build):
    torch.manual_seed(0)
    return build()


def save_processor(folder: Path, processor) -> None:
    processor.save_pretrained(folder)


def make_vit(folder: Path, **changes):
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    model = seeded(lambda: ViTModel(config, **changes)).eval()
    model.save_pretrained(folder)
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return model, processor


def make_resnet(folder: Path):
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 1])
    model = seeded(lambda: ResNetModel(config)).eval()
    model.save_pretrained(folder)
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 56}, crop_pct=0.875)
    processor.save_pretrained(folder)
    return model, processor


def make_clip(folder: Path):
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    vision = tower | {"image_size": 32, "patch_size": 8}
    text = tower | {"vocab_size": 100, "max_position_embeddings": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    model = seeded(lambda: CLIPModel(config)).eval()
    model.save_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 36}, crop_size=dict.fromkeys(("height", "width"), 32))  # fmt: skip
    processor.save_pretrained(folder)
    return model, processor


def make_siglip(folder: Path):
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    vision = tower | {"image_size": 32, "patch_size": 8}
    text = tower | {"vocab_size": 100, "max_position_embeddings": 16}
    config = SiglipConfig(text_config=text, vision_config=vision)
    model = seeded(lambda: SiglipModel(config)).eval()
    model.save_pretrained(folder)
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return model, processor


def wanted_of_image_model(name: str, model, pixels: torch.Tensor) -> torch.Tensor:
    if name in ("clip", "siglip"):
        return model.get_image_features(pixel_values=pixels).pooler_output
    return model(pixel_values=pixels).pooler_output.flatten(1)


@pytest.mark.parametrize(
    ("name", "make"),
    [("vit", make_vit), ("resnet", make_resnet), ("clip", make_clip), ("siglip", make_siglip)],
)
def test_image_models_give_what_transformers_gives(tmp_path, name, make):
    """The oracle is transformers' own processor and model, called as its documentation says."""
    model, processor = make(tmp_path)
    backbone = load_frame_backbone(str(tmp_path))
    frames = pictures(3, 1, backbone.image_size, backbone.image_size)
    pixels = processor(list(frames[:, 0]), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        wanted = wanted_of_image_model(name, model, pixels).numpy()
    assert backbone.num_frames == 1
    np.testing.assert_allclose(backbone.encode(frames), wanted, atol=1e-5)


def test_a_pooler_without_weights_is_passed_over_not_drawn_at_random(tmp_path):
    model, processor = make_vit(tmp_path, add_pooling_layer=False)
    backbone = load_frame_backbone(str(tmp_path))
    frames = pictures(2, 1, 32, 32)
    pixels = processor(list(frames[:, 0]), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        wanted = model(pixel_values=pixels).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(backbone.encode(frames), wanted, atol=1e-5)


VIDEO_TOWER = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
    image_size=32, patch_size=16,
)  # fmt: skip


def make_videomae(folder: Path):
    from transformers import VideoMAEConfig, VideoMAEModel

    model = seeded(lambda: VideoMAEModel(VideoMAEConfig(num_frames=16, **VIDEO_TOWER)))
    return model, 16, lambda m, p: m(pixel_values=p).last_hidden_state.mean(1)


def make_timesformer(folder: Path):
    from transformers import TimesformerConfig, TimesformerModel

    model = seeded(lambda: TimesformerModel(TimesformerConfig(num_frames=8, **VIDEO_TOWER)))
    return model, 8, lambda m, p: m(pixel_values=p).last_hidden_state.mean(1)


def make_vjepa2(folder: Path):
    from transformers import VJEPA2Config, VJEPA2Model

    config = VJEPA2Config(
        crop_size=32, patch_size=16, frames_per_clip=16, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=2, pred_hidden_size=24, pred_num_hidden_layers=1,
        pred_num_attention_heads=2, mlp_ratio=2,
    )  # fmt: skip
    model = seeded(lambda: VJEPA2Model(config))
    return model, 16, lambda m, p: m.get_vision_features(p).mean(1)


def make_vivit(folder: Path):
    from transformers import VivitConfig, VivitModel

    tower = {k: v for k, v in VIDEO_TOWER.items() if k != "patch_size"}
    config = VivitConfig(num_frames=32, tubelet_size=[2, 16, 16], **tower)
    model = seeded(lambda: VivitModel(config))
    return model, 32, lambda m, p: m(pixel_values=p).last_hidden_state.mean(1)


def make_xclip(folder: Path):
    from transformers import XCLIPConfig, XCLIPModel

    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    vision = tower | dict(
        image_size=32, patch_size=16, num_frames=8, mit_hidden_size=20, mit_intermediate_size=40,
        mit_num_hidden_layers=1, mit_num_attention_heads=2,
    )  # fmt: skip
    text = tower | {"vocab_size": 100, "max_position_embeddings": 16}
    config = XCLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    model = seeded(lambda: XCLIPModel(config))
    return model, 8, lambda m, p: m.get_video_features(pixel_values=p).pooler_output


VIDEO_MODELS = [make_videomae, make_timesformer, make_vjepa2, make_vivit, make_xclip]


def save_video_model(folder: Path, make):
    from transformers import VideoMAEImageProcessorPil

    model, num_frames, reference = make(folder)
    model.eval().save_pretrained(folder)
    square = {"height": 32, "width": 32}
    processor = VideoMAEImageProcessorPil(size={"shortest_edge": 36}, crop_size=square)
    processor.save_pretrained(folder)
    return model, processor, num_frames, reference


@pytest.mark.parametrize("make", VIDEO_MODELS)
def test_video_models_give_what_transformers_gives(tmp_path, make):
    model, processor, num_frames, reference = save_video_model(tmp_path, make)
    backbone = load_temporal_backbone(str(tmp_path))
    assert backbone.num_frames == num_frames and backbone.image_size == 36
    windows = pictures(2, num_frames, 36, 36)
    videos = [list(window) for window in windows]
    pixels = processor(videos, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        wanted = reference(model, pixels).numpy()
    found = backbone.encode(windows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_windows_of_all_models_last_sixteen_frames_at_24_a_second(tmp_path):
    save_video_model(tmp_path, make_xclip)
    offsets = load_temporal_backbone(str(tmp_path)).offsets_sec
    np.testing.assert_allclose(np.diff(offsets), 2 / 24)  # eight frames: every second one


# ---- preprocessing files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "size", "crop"),
    [
        ("preprocessor_config.json", {"size": 224}, 224, 224),
        ("preprocessor_config.json", {"size": 256, "crop_size": 224, "do_center_crop": True}, 256, 224),
        ("preprocessor_config.json", {"size": 224, "feature_extractor_type": "ConvNextFeatureExtractor"}, 256, 224),
        ("preprocessor_config.json", {"size": {"shortest_edge": 384}, "image_processor_type": "ConvNextImageProcessor"}, 384, 384),
        ("video_preprocessor_config.json", {"size": {"shortest_edge": 292}, "crop_size": {"height": 256, "width": 256}, "do_center_crop": True}, 292, 256),
    ],
)  # fmt: skip
def test_older_and_newer_preprocessor_files_are_understood(tmp_path, file, content, size, crop):
    content = content | {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}
    (tmp_path / file).write_text(json.dumps(content))
    found = read_preprocessing(tmp_path)
    assert (found.size, found.crop) == (size, crop) and found.mean == (0.5, 0.5, 0.5)


def test_a_nested_processor_file_is_understood(tmp_path):
    inner = {"size": 32, "image_mean": [0, 0, 0], "image_std": [1, 1, 1], "do_rescale": False}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    frames = pictures(2, 32, 32)
    found = read_preprocessing(tmp_path).apply(frames)
    np.testing.assert_array_equal(found.cpu().numpy(), frames.transpose(0, 3, 1, 2))


# ---- errors -----------------------------------------------------------------------------------


def test_an_unknown_name_offline_says_what_to_do():
    with pytest.raises(BackboneError, match="'no-such/model'.*efficientnet-lite0.*HF_HUB_OFFLINE"):
        load_frame_backbone("no-such/model")
    with pytest.raises(BackboneError, match="not a name on any hub!"):
        load_temporal_backbone("not a name on any hub!")


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(BackboneError, match="config.json.*save_pretrained"):
        load_frame_backbone(str(tmp_path))


def test_an_image_model_is_no_temporal_backbone_and_the_other_way_round(tmp_path):
    make_vit(tmp_path / "vit")
    save_video_model(tmp_path / "videomae", make_videomae)
    with pytest.raises(BackboneError, match="Wanted a video model.*of type vit"):
        load_temporal_backbone(str(tmp_path / "vit"))
    with pytest.raises(BackboneError, match="Wanted an image model.*of type videomae"):
        load_frame_backbone(str(tmp_path / "videomae"))


def test_a_model_without_preprocessor_is_not_guessed_at(tmp_path):
    make_vit(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(BackboneError, match="image_mean.*preprocessor_config.json"):
        load_frame_backbone(str(tmp_path))


def test_lacking_weights_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    make_vit(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop(next(key for key in sorted(weights) if "layer" in key))
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match="lack 1 tensors"):
        load_frame_backbone(str(tmp_path))


def test_pickled_weights_that_hold_code_are_refused(tmp_path):
    make_vit(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"weights": slice}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_frame_backbone(str(tmp_path))


# ---- descriptions -----------------------------------------------------------------------------


def test_a_description_follows_the_weights_and_not_the_place(tmp_path):
    make_vit(tmp_path / "a" / "model")
    make_vit(tmp_path / "b" / "model")
    first = describe_backbone("frame", str(tmp_path / "a" / "model"))
    assert first == describe_backbone("frame", str(tmp_path / "b" / "model"))
    assert str(tmp_path) not in json.dumps(first)
    weights = tmp_path / "b" / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert first != describe_backbone("frame", str(tmp_path / "b" / "model"))


def test_catalog_backbones_are_described_without_torch():
    code = (
        "import sys; from core.extraction.backbones import describe_backbone as d;"
        "assert len(d('frame', 'efficientnet-lite0')['weights']) == 64;"
        "assert d('temporal', 'motion')['backbone'] == 'motion';"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT).returncode == 0
