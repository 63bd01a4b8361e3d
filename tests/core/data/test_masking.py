"""Masking: BERT's shares, never a special token, and a choice that padding cannot move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.data.masking import MaskingRule, mask_tokens
from core.models.tokenizer import load_tokenizer

WIDTH = 32


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("bert")


@pytest.fixture(scope="module")
def rule(tokenizer):
    return MaskingRule.of(tokenizer, 0.15)


def batch_of(tokenizer, count):
    sentences = ["the red ball rolls down and stops at the wall " * 2, "a vase falls"]
    return tokenizer.encode_batch([sentences[i % 2] for i in range(count)], WIDTH).batch


def test_shares_are_those_of_bert(tokenizer, rule):
    text = batch_of(tokenizer, 4000)
    masked = mask_tokens(text, rule, (0, 1), np.arange(4000), WIDTH)
    chosen = masked.labels >= 0
    assert chosen.sum() / text.content_mask.sum() == pytest.approx(0.15, abs=0.01)
    hidden = masked.token_ids[chosen] == rule.mask_id
    kept = masked.token_ids[chosen] == text.token_ids[chosen]
    assert hidden.float().mean() == pytest.approx(0.8, abs=0.02)
    assert kept.float().mean() == pytest.approx(0.1, abs=0.02)


def test_only_content_is_chosen_and_labels_hold_what_stood_there(tokenizer, rule):
    text = batch_of(tokenizer, 200)
    masked = mask_tokens(text, rule, (0, 1), np.arange(200), WIDTH)
    chosen = masked.labels >= 0
    assert not chosen[~text.content_mask].any()
    assert torch.equal(masked.labels[chosen], text.token_ids[chosen])
    assert torch.equal(masked.token_ids[~chosen], text.token_ids[~chosen])
    assert not set(masked.token_ids[chosen].tolist()) & (tokenizer.special_ids - {rule.mask_id})


def test_a_row_is_masked_alike_whatever_stands_beside_it(tokenizer, rule):
    together = mask_tokens(batch_of(tokenizer, 8), rule, (3, 7), np.arange(8), WIDTH)
    alone = tokenizer.encode_batch(["a vase falls"], WIDTH).batch  # row 5, without padding
    row = mask_tokens(alone, rule, (3, 7), np.array([5]), WIDTH)
    length = alone.token_ids.shape[1]
    assert torch.equal(together.token_ids[5, :length], row.token_ids[0])


def test_two_ranks_mask_as_one_process_does(tokenizer, rule):
    text = batch_of(tokenizer, 8)
    whole = mask_tokens(text, rule, (0, 5), np.arange(8), WIDTH)
    for rank in range(2):
        places = np.arange(8)[rank::2]
        part = type(text)(text.token_ids[places], text.mask[places], text.content_mask[places])
        own = mask_tokens(part, rule, (0, 5), places, WIDTH)
        assert torch.equal(own.labels, whole.labels[places])
        assert torch.equal(own.token_ids, whole.token_ids[places])


def test_every_step_masks_anew(tokenizer, rule):
    text = batch_of(tokenizer, 8)
    one, two = (mask_tokens(text, rule, (0, step), np.arange(8), WIDTH) for step in (1, 2))
    assert not torch.equal(one.labels, two.labels)
