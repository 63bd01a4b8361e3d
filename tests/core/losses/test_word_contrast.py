"""Word-level InfoNCE against its formula, pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from core.losses.word_contrast import word_info_nce

WORDS = torch.tensor([[4, 5, 6, 7, 4], [5, 8, 9, 1, 2], [1, 2, 3, 9, 9], [6, 6, 4, 3, 8]])


@pytest.fixture
def vectors(make_batch):
    """Unit token and clip vectors, float64, a ragged mask and words with -1 outside it."""
    tokens, clips, mask = make_batch(4, 5, 8, 8)
    words = WORDS.masked_fill(~mask, -1)
    return F.normalize(tokens, dim=-1), F.normalize(clips[:, 0], dim=-1), mask, words


def value_of(tokens, clips, mask, words, temperature=0.3):
    return word_info_nce(tokens, clips, mask, words=words, temperature=temperature)


def by_loops(tokens, clips, mask, words, temperature=0.3):
    def score(b, i, c):
        return float(tokens[b, i] @ clips[c]) / temperature

    rows, length = mask.shape
    said = [{int(w) for w in words[c] if w >= 0} for c in range(rows)]
    terms = []
    for b in range(rows):
        for i in range(length):
            if not mask[b, i]:
                continue
            whole = sum(math.exp(score(b, i, c)) for c in range(rows))
            positives = [c for c in range(rows) if c == b or int(words[b, i]) in said[c]]
            to_clips = -sum(math.log(math.exp(score(b, i, c)) / whole) for c in positives)
            strange = sum(
                math.exp(score(c, j, b))
                for c in range(rows)
                for j in range(length)
                if mask[c, j] and int(words[c, j]) not in said[b]
            )
            own = math.exp(score(b, i, b))
            terms.append((to_clips / len(positives) - math.log(own / (own + strange))) / 2)
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.07, 0.3, 1.0])
def test_word_info_nce_equals_the_loops(vectors, temperature):
    expected = by_loops(*vectors, temperature)
    assert value_of(*vectors, temperature).item() == pytest.approx(expected, rel=1e-10)


def test_gradient_in_tokens_and_clips(vectors):
    tokens, clips, mask, words = vectors
    assert torch.autograd.gradcheck(
        lambda t, c: value_of(t, c, mask, words), (tokens.requires_grad_(), clips.requires_grad_())
    )


def test_what_stands_outside_the_mask_changes_nothing(vectors):
    tokens, clips, mask, words = vectors
    other = tokens.masked_fill(~mask[..., None], float("nan"))
    assert torch.equal(value_of(other, clips, mask, words), value_of(*vectors))


def test_a_hidden_word_still_makes_its_clip_a_positive(vectors):
    """A token left out of the mask is no anchor, but its caption holds the word all the same."""
    tokens, clips, mask, words = vectors
    mask = mask & (words != 9)
    expected = by_loops(tokens, clips, mask, words)
    assert value_of(tokens, clips, mask, words).item() == pytest.approx(expected, rel=1e-10)


def test_a_word_of_all_captions_is_drawn_to_all_clips_alike(vectors):
    """Its best vector is equally near to every clip; nearness to its own alone costs."""
    _, _, mask, _ = vectors
    clips = torch.eye(4, 8, dtype=torch.float64)
    words = torch.ones(4, 5, dtype=torch.long)
    alike = F.normalize(clips.sum(0), dim=0).expand(4, 5, 8)
    own = clips[:, None].expand(4, 5, 8)
    assert value_of(alike, clips, mask, words) < value_of(own, clips, mask, words)


def test_order_of_rows_does_not_matter(vectors):
    order = torch.tensor([3, 1, 0, 2])
    shuffled = [x[order] for x in vectors]
    assert value_of(*shuffled).item() == pytest.approx(value_of(*vectors).item(), rel=1e-10)


def test_one_row_has_nothing_to_contrast(vectors):
    tokens, clips, mask, words = (x[:1] for x in vectors)
    assert value_of(tokens, clips, mask, words).item() == pytest.approx(0.0, abs=1e-12)
