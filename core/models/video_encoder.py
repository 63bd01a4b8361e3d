"""The video encoder: one feature vector a second -> one unit vector a second, in joint space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import SettingsError
from core.models.heads import ProjectionHead
from core.models.linear import Linear
from core.models.transformer import Dropout, TransformerLayer, init_bert_weights
from core.records import VideoBatch, VideoOutput

POOLINGS = ("mean", "cls")


class VideoEncoder(nn.Module):
    """Transformer over the steps of a window.

    Every step has its own unit vector; with pooling "mean" the clip is the masked mean of its
    span's step vectors, renormalised, so a token-by-second map shows what was trained. With
    "cls" a learned token that attends to the span's steps speaks for the clip.
    """

    def __init__(
        self,
        feature_size: int,
        hidden: int,
        layers: int,
        heads: int,
        joint_size: int,
        max_steps: int,
        pooling: str = "mean",
        dropout: float = 0.1,
        feature_dropout: float = 0.0,
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise SettingsError(f"Wanted pooling {' or '.join(POOLINGS)}, found '{pooling}'.")
        self.pooling = pooling
        self.max_steps = max_steps
        self.feature_dropout = Dropout(feature_dropout)
        self.register_buffer("feature_mean", torch.zeros(feature_size))
        self.register_buffer("feature_std", torch.ones(feature_size))
        self.input = Linear(feature_size, hidden)
        self.input_norm = nn.LayerNorm(hidden)
        self.position_embedding = nn.Embedding(max_steps, hidden)
        self.clip_token = nn.Parameter(torch.zeros(hidden)) if pooling == "cls" else None
        self.layers = nn.ModuleList(
            TransformerLayer(hidden, heads, 4 * hidden, dropout) for _ in range(layers)
        )
        self.projection = ProjectionHead(hidden, joint_size)
        init_bert_weights(self)

    def fit_standardisation(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Remember the training set's mean and spread per feature, [F] each.

        A feature that hardly varies is only centred: dividing would blow up its noise.
        """
        floor = 1e-3 * float(np.median(std[std > 0], axis=None)) if (std > 0).any() else 1.0
        self.feature_mean.copy_(torch.from_numpy(np.asarray(mean, np.float32)))
        self.feature_std.copy_(torch.from_numpy(np.where(std > floor, std, 1).astype(np.float32)))

    def forward(self, video: VideoBatch) -> VideoOutput:
        steps = video.features.shape[1]
        if steps > self.max_steps:
            raise ValueError(
                f"Wanted windows of at most {self.max_steps} steps, found {steps}. "
                "Cut the video into windows of window_sec."
            )
        standard = (video.features - self.feature_mean) / self.feature_std
        states = F.gelu(self.input_norm(self.input(self.feature_dropout(standard))))
        states = states + self.position_embedding.weight[:steps]
        attend = video.mask[:, None, None, :]
        if self.clip_token is not None:
            states, attend = self._with_clip_token(states, video)
        for layer in self.layers:
            states = layer(states, attend)
        vectors = self.projection(states)
        if self.clip_token is not None:
            return VideoOutput(vectors[:, 1:], vectors[:, 0])
        return VideoOutput(vectors, pool_span(vectors, video.span_mask))

    def _with_clip_token(self, states: Tensor, video: VideoBatch) -> tuple[Tensor, Tensor]:
        """The clip token in front; it sees its span, the steps see each other and not it."""
        batch, steps, hidden = states.shape
        token = self.clip_token.expand(batch, 1, hidden).to(states.dtype)
        span = F.pad(video.span_mask, (1, 0), value=True)[:, None, :]  # [B, 1, 1 + T]
        window = F.pad(video.mask, (1, 0), value=False)[:, None, :].expand(-1, steps, -1)
        return torch.cat([token, states], dim=1), torch.cat([span, window], dim=1)[:, None]


def pool_span(step_vectors: Tensor, span_mask: Tensor) -> Tensor:
    """Mean of the span's unit vectors [B, T, D], made unit again [B, D]."""
    return F.normalize((step_vectors * span_mask[..., None]).sum(dim=1), dim=-1)


def video_batch(windows: Sequence[np.ndarray], spans: Sequence[tuple[int, int]]) -> VideoBatch:
    """Windows of features [T_i, F] and the clip's (first, last + 1) steps in each, padded."""
    longest = max(len(window) for window in windows)
    size = windows[0].shape[1]
    features = np.zeros((len(windows), longest, size), dtype=np.float32)
    mask = np.zeros((len(windows), longest), dtype=bool)
    span_mask = np.zeros_like(mask)
    for row, (window, (first, end)) in enumerate(zip(windows, spans)):
        features[row, : len(window)] = window
        mask[row, : len(window)] = True
        span_mask[row, first:end] = True
    return VideoBatch(*map(torch.from_numpy, (features, mask, span_mask)))
