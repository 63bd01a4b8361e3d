"""Masked language modelling, with the LM head run on the masked positions only."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from core.losses.gather import global_mean
from core.losses.precision import full_precision

IGNORED = -100  # the label of a position where nothing is to be predicted


@full_precision
def mlm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the hidden words, averaged over the masked positions.

    logits [M, V], one row per position whose label is not -100, in reading order; labels
    int64 of any shape, [B, L] or already [M]. Raises ValueError when the two do not match.
    """
    targets = labels[labels != IGNORED]  # [M]
    if logits.shape[0] != targets.shape[0]:
        raise ValueError(
            f"Masked language modelling wants one row of logits per masked position: found "
            f"{logits.shape[0]} rows for {targets.shape[0]} positions. "
            "Run the LM head on states[labels != -100]."
        )
    return global_mean(F.cross_entropy(logits, targets, reduction="sum"), targets.shape[0])
