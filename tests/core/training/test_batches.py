"""Batches: windows hold their clip, spans mark it, and chance depends on the step alone."""

from __future__ import annotations

import numpy as np
import pytest

from core.records import Clip
from core.training import batches
from core.training.batches import feature_statistics, preloaded, window_around


class Store:
    """Features of two videos; counts how often each is read."""

    dim = 3

    def __init__(self):
        rng = np.random.default_rng(0)
        self.arrays = {"a": rng.normal(size=(9, 3)), "b": rng.normal(2, 3, size=(4, 3))}
        self.video_ids = tuple(self.arrays)
        self.reads: list[str] = []

    def video(self, video_id):
        self.reads.append(video_id)
        return self.arrays[video_id].astype(np.float32)


def clip(start, end):
    return Clip("c", "v", start, end, "text")


def test_a_short_video_is_taken_whole():
    assert window_around(clip(1, 3), num_steps=6, window_sec=16, draw=0.9) == (0, 6, (1, 3))


@pytest.mark.parametrize("start", [0, 7, 27])
def test_windows_move_over_all_places_that_hold_the_clip(start):
    seen = set()
    for draw in np.linspace(0, 0.9999, 200):
        first, end, span = window_around(clip(start, start + 3), 30, 8, float(draw))
        assert end - first == 8 and first >= 0 and end <= 30
        assert (first + span[0], first + span[1]) == (start, start + 3)
        seen.add(first)
    lowest, highest = max(0, start + 3 - 8), min(start, 30 - 8)
    assert seen == set(range(lowest, highest + 1))


def test_a_clip_longer_than_the_window_gives_a_part_of_itself():
    for draw in (0.0, 0.5, 0.99):
        first, end, span = window_around(clip(2, 20), 30, 8, draw)
        assert first >= 2 and end <= 20 and span == (0, 8)


def test_a_clip_past_the_last_step_keeps_one_step():
    assert window_around(clip(9, 12), num_steps=10, window_sec=16, draw=0.5) == (0, 10, (9, 10))
    assert window_around(clip(30, 31), num_steps=10, window_sec=4, draw=0.5)[2] == (3, 4)


def test_statistics_are_those_of_all_steps_together():
    store = Store()
    mean, std = feature_statistics(store, ["a", "b"])
    rows = np.concatenate([store.arrays["a"], store.arrays["b"]])
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, rows.std(axis=0), rtol=1e-5)


def test_small_features_are_read_once_and_large_ones_when_needed(monkeypatch):
    store = Store()
    read = preloaded(store, ["a", "b"])
    for video_id in "aabb":
        read(video_id)
    assert store.reads == ["a", "b"]
    monkeypatch.setattr(batches, "PRELOAD_BYTES", 10)
    store = Store()
    read = preloaded(store, ["a", "b"])
    read("b"), read("b")
    assert store.reads == ["a", "b", "b"]
