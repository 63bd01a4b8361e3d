"""The teacher's contrastive losses against their formulas, pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from core.losses.token_contrast import (
    sentence_contrast,
    sentence_info_nce,
    token_contrast,
    token_info_nce,
)


@pytest.fixture
def vectors(make_batch):
    """Unit token and clip vectors, float64, and a ragged mask."""
    tokens, clips, mask = make_batch(6, 5, 8, 8)
    return F.normalize(tokens, dim=-1), F.normalize(clips[:, 0], dim=-1), mask


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b))


def negatives_of(b, rows, paired, same):
    others = {(b + rows // 2) % rows} if paired else set(range(rows)) - {b}
    return [c for c in others if same is None or not same[b][c]]


def hinge_by_loops(tokens, clips, mask, margin, paired=False, same=None):
    rows, length = mask.shape
    clip_terms, token_terms = [], []
    for b in range(rows):
        for i in range(length):
            if not mask[b, i]:
                continue
            positive = dot(tokens[b, i], clips[b])
            for c in negatives_of(b, rows, paired, same):
                clip_terms.append(max(0.0, margin - positive + dot(tokens[b, i], clips[c])))
                if mask[c, i]:
                    token_terms.append(max(0.0, margin - positive + dot(tokens[c, i], clips[b])))
    return sum(clip_terms) / len(clip_terms) + sum(token_terms) / len(token_terms)


def info_nce_by_loops(tokens, clips, mask, temperature, same=None):
    rows, length = mask.shape
    terms = []
    for b in range(rows):
        for i in range(length):
            if not mask[b, i]:
                continue
            others = negatives_of(b, rows, False, same)
            positive = math.exp(dot(tokens[b, i], clips[b]) / temperature)
            to_clips = [math.exp(dot(tokens[b, i], clips[c]) / temperature) for c in others]
            to_tokens = [
                math.exp(dot(tokens[c, i], clips[b]) / temperature) for c in others if mask[c, i]
            ]
            terms.append(-math.log(positive / (positive + sum(to_clips))) / 2)
            terms.append(-math.log(positive / (positive + sum(to_tokens))) / 2)
    return 2 * sum(terms) / len(terms)


@pytest.mark.parametrize("margin", [1.0, 0.2])
@pytest.mark.parametrize("negatives", ["all", "paired"])
def test_token_contrast_equals_the_loops(vectors, margin, negatives):
    expected = hinge_by_loops(*vectors, margin, paired=negatives == "paired")
    value = token_contrast(*vectors, margin=margin, negatives=negatives)
    assert value.item() == pytest.approx(expected, rel=1e-10)


def test_paired_negatives_are_the_papers_sum_for_a_pair(vectors):
    """Two aligned pairs of full length: the paper's sum over both, divided by their tokens."""
    tokens, clips, _ = vectors
    tokens, clips, mask = tokens[:2], clips[:2], torch.ones(2, 5, dtype=torch.bool)
    paper = 0.0
    for b, other in ((0, 1), (1, 0)):
        for i in range(5):
            score = dot(tokens[b, i], clips[b])
            paper += max(0.0, 1 - score + dot(tokens[b, i], clips[other]))
            paper += max(0.0, 1 - score + dot(tokens[other, i], clips[b]))
    value = token_contrast(tokens, clips, mask, negatives="paired")
    assert value.item() * mask.sum().item() == pytest.approx(paper, rel=1e-10)


def test_paired_negatives_take_an_odd_batch(vectors):
    tokens, clips, mask = (x[:5] for x in vectors)
    expected = hinge_by_loops(tokens, clips, mask, 1.0, paired=True)
    value = token_contrast(tokens, clips, mask, negatives="paired")
    assert value.item() == pytest.approx(expected, rel=1e-10)


def test_token_info_nce_equals_the_loops(vectors):
    expected = info_nce_by_loops(*vectors, 0.07)
    assert token_info_nce(*vectors).item() == pytest.approx(expected, rel=1e-10)


SAME = [[b == c or {b, c} <= {0, 3, 4} for c in range(6)] for b in range(6)]


@pytest.mark.parametrize("same_clip", [torch.tensor(SAME), torch.tensor([7, 1, 2, 7, 7, 5])])
def test_rows_of_the_same_clip_are_no_negatives(vectors, same_clip):
    expected = hinge_by_loops(*vectors, 1.0, same=SAME)
    assert token_contrast(*vectors, same_clip=same_clip).item() == pytest.approx(expected)
    expected = info_nce_by_loops(*vectors, 0.07, same=SAME)
    assert token_info_nce(*vectors, same_clip=same_clip).item() == pytest.approx(expected)


def test_sentence_contrast_is_token_contrast_of_the_mean_token(vectors):
    tokens, clips, mask = vectors
    means = [sum(t for t, m in zip(row, kept) if m) for row, kept in zip(tokens, mask)]
    means = torch.stack([m / m.norm() for m in means])[:, None]
    once = torch.ones(6, 1, dtype=torch.bool)
    expected = hinge_by_loops(means, clips, once, 1.0)
    assert sentence_contrast(*vectors).item() == pytest.approx(expected, rel=1e-10)
    expected = info_nce_by_loops(means, clips, once, 0.07)
    assert sentence_info_nce(*vectors).item() == pytest.approx(expected, rel=1e-10)


def test_margin_is_honoured():
    """All vectors alike: every hinge is the margin, in both directions."""
    tokens = F.normalize(torch.ones(3, 4, 2), dim=-1)
    mask = torch.ones(3, 4, dtype=torch.bool)
    for margin in (0.3, 1.0, 2.0):
        value = token_contrast(tokens, tokens[:, 0], mask, margin=margin)
        assert value.item() == pytest.approx(2 * margin, rel=1e-6)


def test_contrast_is_zero_once_the_margin_is_met():
    clips = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    tokens = clips[:, None].repeat(1, 3, 1)
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert token_contrast(tokens, clips, mask, margin=1.0).item() == 0.0
    assert sentence_contrast(tokens, clips, mask, margin=2.0).item() == 0.0
    assert token_contrast(tokens, clips, mask, margin=2.5).item() == pytest.approx(1.0)
    assert token_info_nce(tokens, clips, mask).item() < 1e-10


CONTRASTS = [token_contrast, token_info_nce, sentence_contrast, sentence_info_nce]


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_contrast_gradient_in_tokens_and_clips(vectors, contrast):
    tokens, clips, mask = vectors
    assert torch.autograd.gradcheck(
        lambda t, c: contrast(t, c, mask), (tokens.requires_grad_(), clips.requires_grad_())
    )


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_contrast_does_not_depend_on_the_order_of_rows(vectors, contrast):
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = [x[order] for x in vectors]
    assert contrast(*shuffled).item() == pytest.approx(contrast(*vectors).item(), rel=1e-10)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_one_row_has_nothing_to_contrast(vectors, contrast):
    tokens, clips, mask = (x[:1] for x in vectors)
    tokens.requires_grad_()
    value = contrast(tokens, clips, mask)
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    assert tokens.grad.abs().max().item() == pytest.approx(0.0, abs=1e-12)


def test_doubling_the_batch_does_not_double_the_value(make_batch):
    """Random pairs: the value estimates the same mean whatever the batch size."""
    values = []
    for rows in (16, 128):
        tokens, clips, mask = make_batch(rows, 5, 8, 8)
        tokens, clips = F.normalize(tokens, dim=-1), F.normalize(clips[:, 0], dim=-1)
        values.append(token_contrast(tokens, clips, mask).item())
    assert values[0] == pytest.approx(values[1], rel=0.1)


def test_unknown_negatives_are_refused(vectors):
    with pytest.raises(ValueError, match="'all' or 'paired'"):
        token_contrast(*vectors, negatives="some")
