"""Vokens: the exact nearest clip, by FAISS and by the product alike."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from core.training import vokens
from core.training.vokens import Vokens, nearest_by_product


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


def test_vokens_are_the_clips_of_highest_cosine():
    tokens, clips = unit(2, 5, 8), unit(11, 8, seed=1)
    found = Vokens(clips).assign(tokens)
    assert found.shape == (2, 5) and found.dtype == torch.int64
    for b in range(2):
        for t in range(5):
            scores = [float(tokens[b, t] @ clip) for clip in clips]
            assert found[b, t] == scores.index(max(scores))


@pytest.mark.parametrize("clips", [1, 50, 3000])
def test_faiss_and_the_product_assign_the_same(clips):
    tokens, known = unit(16, 64, 32), unit(clips, 32, seed=1)
    assert torch.equal(Vokens(known).assign(tokens), nearest_by_product(tokens, known))


def test_the_search_stays_exact_where_other_indexes_are_not(monkeypatch):
    monkeypatch.setattr("core.analysis.index.EXACT_BELOW", 10)
    assert Vokens(unit(500, 8))._index.is_exact


def test_of_equal_clips_the_first_is_taken():
    clips = unit(4, 8)[[0, 1, 1, 2, 2, 3]]
    tokens = clips[None]
    wanted = torch.tensor([[0, 1, 1, 3, 3, 5]])
    assert torch.equal(Vokens(clips).assign(tokens), wanted)
    assert torch.equal(nearest_by_product(tokens, clips), wanted)


def test_near_clips_stay_apart_under_bfloat16():
    """In bfloat16 cosines of 0.999 and 0.9995 are one number."""
    base = unit(1, 64)
    clips = F.normalize(
        base + torch.linspace(0.05, 0.001, 20)[:, None] * unit(20, 64, seed=2), dim=1
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert vokens.nearest_by_product(base, clips) == 19
        assert Vokens(clips).assign(base) == 19
