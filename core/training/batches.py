"""Rows of data as tensors: clips with captions for the teacher, blocks of text for the student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.data.masking import MaskingRule, mask_tokens
from core.data.text_corpus import TextCorpus
from core.models.tokenizer import Tokenizer
from core.models.video_encoder import video_batch
from core.records import Clip, TeacherBatch, TextBatch, VideoBatch

PRELOAD_BYTES = 2 * 2**30  # features up to this size are held in memory


class Features(Protocol):
    """What a store of features says (core.extraction.clip_features.FeatureStore)."""

    dim: int
    video_ids: Sequence[str]

    def video(self, video_id: str) -> np.ndarray: ...


@dataclass(frozen=True)
class ContrastBatch:
    """A TeacherBatch and the rows' caption groups: rows of one group are no negatives."""

    rows: TeacherBatch
    groups: Tensor  # int64 [B]

    def to(self, device) -> ContrastBatch:
        return ContrastBatch(self.rows.to(device), self.groups.to(device))


class ClipRows:
    """Captioned clips with their features, batch by batch."""

    def __init__(
        self,
        clips: Sequence[Clip],
        features: Features,
        tokenizer: Tokenizer,
        rule: MaskingRule,
        *,
        max_tokens: int,
        window_sec: int,
        image_only: bool = False,
    ):
        self.clips, self.tokenizer, self.rule = tuple(clips), tokenizer, rule
        self.max_tokens, self.window_sec, self.image_only = max_tokens, window_sec, image_only
        pieces = tokenizer.piece_ids([clip.caption for clip in self.clips])
        self.pieces = [np.asarray(p[: max_tokens - 2], dtype=np.int64) for p in pieces]
        captions = [" ".join(clip.caption.lower().split()) for clip in self.clips]
        self.groups = np.unique(captions, return_inverse=True)[1] if captions else np.zeros(0, int)
        self.read = preloaded(features, sorted({clip.video_id for clip in self.clips}))

    def __len__(self) -> int:
        return len(self.clips)

    def batch(
        self, indices: Sequence[int], places: np.ndarray, seed: tuple[int, ...], fixed: bool = False
    ) -> ContrastBatch:
        """Clips by number. `fixed` puts windows and frames in the middle instead of at random.

        `places` are the rows' numbers in the global batch: with the seed they fix every draw.
        """
        text = self.tokenizer.text_batch([self.pieces[i] for i in indices])
        text = mask_tokens(text, self.rule, seed, places, self.max_tokens)
        draws = np.random.default_rng((*seed, 1)).random(int(places.max()) + 1)[places]
        draws = None if fixed else draws
        groups = torch.from_numpy(self.groups[np.asarray(indices)])
        return ContrastBatch(TeacherBatch(text, self.video(indices, draws)), groups)

    def video(self, indices: Sequence[int], draws: np.ndarray | None = None) -> VideoBatch:
        """The clips' windows; in the middle of where they may lie unless `draws` move them."""
        draws = np.full(len(indices), 0.5) if draws is None else draws
        windows, spans = zip(*(self._window(self.clips[i], d) for i, d in zip(indices, draws)))
        return video_batch(windows, spans)

    def _window(self, clip: Clip, draw: float) -> tuple[np.ndarray, tuple[int, int]]:
        features = self.read(clip.video_id)
        start, end, span = window_around(clip, len(features), self.window_sec, draw)
        if self.image_only:
            step = start + span[0] + int(draw * (span[1] - span[0]))
            return features[step : step + 1], (0, 1)
        return features[start:end], span


def window_around(
    clip: Clip, num_steps: int, window_sec: int, draw: float
) -> tuple[int, int, tuple[int, int]]:
    """First and end step of a window that holds the clip, and the clip's steps inside it.

    `draw` in [0, 1) moves the window over all its possible places; the whole video is taken
    when it fits, and a part of a clip that is longer than the window.
    """
    first, end = clip.steps
    first = min(first, num_steps - 1)
    end = max(first + 1, min(end, num_steps))
    if num_steps <= window_sec:
        return 0, num_steps, (first, end)
    if end - first >= window_sec:
        low, high = first, end - window_sec
    else:
        low, high = max(0, end - window_sec), min(first, num_steps - window_sec)
    start = low + int(draw * (high - low + 1))
    inside = (max(0, first - start), min(window_sec, end - start))
    return start, start + window_sec, inside


def preloaded(features: Features, video_ids: Sequence[str]):
    """A reader of one video's features that keeps them in memory while they are few."""
    held: dict[str, np.ndarray] = {}
    size = 0
    for video_id in video_ids:
        held[video_id] = np.asarray(features.video(video_id), dtype=np.float32)
        size += held[video_id].nbytes
        if size > PRELOAD_BYTES:
            break
    return lambda video_id: held[video_id] if video_id in held else features.video(video_id)


def feature_statistics(features: Features, video_ids: Sequence[str]):
    """Mean and standard deviation of each feature over all steps of the videos, [F] each."""
    count, total, squares = 0, 0.0, 0.0
    for video_id in video_ids:
        rows = np.asarray(features.video(video_id), dtype=np.float64)
        count += len(rows)
        total = total + rows.sum(axis=0)
        squares = squares + np.square(rows).sum(axis=0)
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - np.square(mean), 0))


class TextRows:
    """Blocks of a packed corpus, batch by batch."""

    def __init__(
        self,
        corpus: TextCorpus,
        indices: np.ndarray,
        tokenizer: Tokenizer,
        rule: MaskingRule,
        max_tokens: int,
    ):
        self.corpus, self.indices = corpus, indices
        self.tokenizer, self.rule, self.max_tokens = tokenizer, rule, max_tokens

    def __len__(self) -> int:
        return len(self.indices)

    def lengths(self) -> np.ndarray:
        return self.corpus.lengths[self.indices]

    def batch(self, indices: Sequence[int], places: np.ndarray, seed: tuple[int, ...]) -> TextBatch:
        """Blocks by number, with words hidden."""
        blocks = self.corpus.rows(self.indices[np.asarray(indices)])
        text = self.tokenizer.text_batch(blocks)
        return mask_tokens(text, self.rule, seed, places, self.max_tokens)


def unmasked(text: TextBatch) -> Tensor:
    """Content tokens that show what they are: neither hidden nor replaced, bool [B, L]."""
    return text.content_mask if text.labels is None else text.content_mask & (text.labels < 0)


def words_of(text: TextBatch) -> Tensor:
    """What stood at each place before masking, int64 [B, L]; -1 for special tokens, padding."""
    ids = text.token_ids
    if text.labels is not None:
        ids = torch.where(text.labels >= 0, text.labels, ids)
    return ids.masked_fill(~text.content_mask, -1)
