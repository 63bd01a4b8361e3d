"""The shared layer: dropout keeps means and shares, masks hide what they hide."""

from __future__ import annotations

import pytest
import torch

from core.models.transformer import Dropout, TransformerLayer


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_keeps_its_share_and_the_mean(probability):
    torch.manual_seed(0)
    dropped = Dropout(probability).train()(torch.ones(1_000_003))
    assert (dropped == 0).float().mean() == pytest.approx(probability, abs=2e-3)
    assert dropped.mean() == pytest.approx(1.0, abs=5e-3)
    assert dropped[dropped != 0].unique().tolist() == pytest.approx([1 / (1 - probability)])


def test_dropout_is_off_in_evaluation_and_its_gradient_follows_the_mask():
    layer = Dropout(0.5)
    states = torch.ones(64, requires_grad=True)
    assert layer.eval()(states) is states
    dropped = layer.train()(states)
    dropped.sum().backward()
    assert torch.equal(states.grad, dropped.detach())


def test_what_is_masked_changes_nothing():
    torch.manual_seed(0)
    layer = TransformerLayer(32, 4, 64, dropout=0.1).eval()
    states = torch.randn(2, 7, 32)
    attend = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    attend[..., 5:] = False
    first = layer(states, attend)[:, :5]
    states[:, 5:] = 100.0
    torch.testing.assert_close(layer(states, attend)[:, :5], first)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="5 heads can share, found 32"):
        TransformerLayer(32, 5, 64, 0.1)
