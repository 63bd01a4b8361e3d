"""Masked language modelling: which tokens to hide, and behind what.

The choice depends on (seed, step, row of the global batch, position) and on nothing else:
not on padding, not on how many processes share the batch, not on what was drawn before. So a
resumed run masks as an undisturbed one does, and two processes mask as one does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from core.records import TextBatch

IGNORED = -100  # label of a position where nothing is to be predicted


@dataclass(frozen=True)
class MaskingRule:
    """BERT's rule (Devlin et al. 2019): of the chosen tokens 80 % hidden, 10 % random, 10 % kept."""

    mask_id: int
    replacements: np.ndarray  # int64 ids to draw random tokens from
    probability: float = 0.15

    @classmethod
    def of(cls, tokenizer, probability: float) -> MaskingRule:
        """The rule for a tokenizer; random replacements are never special tokens."""
        ids = [i for i in range(tokenizer.vocab_size) if i not in tokenizer.special_ids]
        return cls(tokenizer.mask_id, np.array(ids, dtype=np.int64), probability)


def mask_tokens(
    text: TextBatch, rule: MaskingRule, seed: tuple[int, ...], rows: np.ndarray, width: int
) -> TextBatch:
    """The batch with some content tokens hidden and the labels that say what stood there.

    `rows` are the rows' numbers in the global batch [B], `width` a fixed number of positions
    not smaller than any sentence (max_tokens): together they place the draws.
    """
    chance = _draws(seed, rows, width, text.token_ids.shape[1])
    chosen = torch.from_numpy(chance[0] < rule.probability) & text.content_mask
    action = torch.from_numpy(chance[1])
    drawn = (chance[2] * len(rule.replacements)).astype(np.int64)
    random_ids = torch.from_numpy(rule.replacements[drawn])

    ids = torch.where(chosen & (action < 0.8), rule.mask_id, text.token_ids)
    ids = torch.where(chosen & (action >= 0.9), random_ids, ids)
    labels = torch.where(chosen, text.token_ids, IGNORED)
    return replace(text, token_ids=ids, labels=labels)


def _draws(seed: tuple[int, ...], rows: np.ndarray, width: int, length: int) -> np.ndarray:
    """Uniform numbers [3, B, L], the same for a row whatever stands beside it."""
    draws = np.random.default_rng(seed).random((int(rows.max()) + 1, 3, width), dtype=np.float32)
    return np.ascontiguousarray(draws[rows, :, :length].swapaxes(0, 1))
