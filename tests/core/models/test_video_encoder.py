"""VideoEncoder: unit vectors a second, clips as the mean of their span, nothing from padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.config import SettingsError
from core.models.video_encoder import VideoEncoder, video_batch

RNG = np.random.default_rng(0)


def encoder(pooling="mean"):
    torch.manual_seed(0)
    return VideoEncoder(
        10, hidden=32, layers=2, heads=4, joint_size=16, max_steps=8, pooling=pooling
    ).eval()


def windows(*lengths):
    return [RNG.normal(size=(length, 10)).astype(np.float32) for length in lengths]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_changes_nothing(pooling):
    model, parts = encoder(pooling), windows(8, 3, 5)
    spans = [(2, 5), (0, 3), (4, 5)]
    together = model(video_batch(parts, spans))
    for row, (part, span) in enumerate(zip(parts, spans)):
        alone = model(video_batch([part], [span]))
        own = together.step_vectors[row, : len(part)]
        torch.testing.assert_close(own, alone.step_vectors[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(together.clip_vectors[row], alone.clip_vectors[0])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_all_vectors_are_unit(pooling):
    output = encoder(pooling)(video_batch(windows(8, 3), [(1, 4), (0, 3)]))
    for vectors in (output.step_vectors, output.clip_vectors):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))
    assert output.step_vectors.shape == (2, 8, 16)


def test_a_clip_is_the_mean_of_its_own_steps():
    output = encoder()(video_batch(windows(6), [(1, 4)]))
    mean = output.step_vectors[0, 1:4].mean(dim=0)
    torch.testing.assert_close(output.clip_vectors[0], mean / mean.norm())


def test_the_clip_token_looks_at_its_span_and_leaves_the_steps_alone():
    model, parts = encoder("cls"), windows(6)
    early, late = (model(video_batch(parts, [span])) for span in ((0, 2), (4, 6)))
    assert torch.equal(early.step_vectors, late.step_vectors)
    assert not torch.allclose(early.clip_vectors, late.clip_vectors)


def test_features_are_standardised_by_what_was_fitted():
    model, (part,) = encoder(), windows(6)
    mean, std = RNG.normal(size=10), RNG.uniform(1, 9, size=10)
    std[3] = 0.0  # a dead feature is centred and not blown up
    plain = model(video_batch([part], [(0, 6)])).step_vectors
    model.fit_standardisation(mean, std)
    shifted = part * np.where(std > 0, std, 1) + mean
    again = model(video_batch([shifted.astype(np.float32)], [(0, 6)])).step_vectors
    torch.testing.assert_close(plain, again, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(SettingsError, match="mean or cls, found 'max'"):
        encoder("max")
    with pytest.raises(ValueError, match="at most 8 steps, found 9"):
        encoder()(video_batch(windows(9), [(0, 9)]))
