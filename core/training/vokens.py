"""Vokens: the clip that each token means most, as a label to learn (Tan and Bansal 2020).

Clip set -> FAISS -> classification: the teacher's vectors of all captioned training clips are
the set, the nearest one by cosine is a token's label, `core/losses/voken.py` is the classifier.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.analysis.index import ClipIndex
from core.models.run_folder import RunFolder
from core.models.teacher import Teacher

CLIPS_AT_ONCE = 64


class Vokens:
    """The clip set, unit vectors [C, D], and which of them each token is nearest to."""

    def __init__(self, clip_vectors: Tensor):
        self._clips = clip_vectors
        # Exact whatever its size: an approximate index would make labels depend on its lists.
        self._index = ClipIndex.build(clip_vectors.cpu().numpy(), exact_below=len(clip_vectors) + 1)

    def assign(self, token_vectors: Tensor) -> Tensor:
        """The row of the clip with the highest cosine for unit vectors [..., D], int64 [...].

        The search is exact and goes where the tokens are: FAISS's flat index for tokens in the
        CPU's memory; on a GPU the product that this index computes, because FAISS for CPUs would
        fetch the tokens and send the labels back at every step.
        """
        if token_vectors.device.type == "cpu":
            _, rows = self._index.search(token_vectors.detach().flatten(0, -2).float().numpy(), 1)
            return torch.from_numpy(rows).view(token_vectors.shape[:-1])
        return nearest_by_product(token_vectors, self._clips_on(token_vectors.device))

    def _clips_on(self, device: torch.device) -> Tensor:
        self._clips = self._clips.to(device)  # moves once, at the first batch
        return self._clips


def nearest_by_product(token_vectors: Tensor, clip_vectors: Tensor) -> Tensor:
    """Row of the highest inner product for each vector [..., D] among [C, D], int64 [...]."""
    # Autocast would round cosines to bfloat16, in which near clips are equal.
    with torch.autocast(token_vectors.device.type, enabled=False):
        return (token_vectors.float() @ clip_vectors.float().T).argmax(dim=-1)


def captioned_clips(run: RunFolder, teacher: Teacher) -> Tensor:
    """The teacher's vectors of all captioned training clips [C, D]: the vokens to choose from."""
    from core.data.video_library import load_library
    from core.training.train_teacher import clip_rows, load_teacher_features, split_clips

    settings = run.settings
    features = load_teacher_features(settings)
    clips, _, _ = split_clips(load_library(settings.library), features, settings)
    rows = clip_rows(settings, clips, features, run.load_tokenizer())
    parts = [
        range(i, min(i + CLIPS_AT_ONCE, len(rows))) for i in range(0, len(rows), CLIPS_AT_ONCE)
    ]
    with torch.no_grad():
        return torch.cat([teacher.encode_video(rows.video(part)).clip_vectors for part in parts])
