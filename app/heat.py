"""From cosine scores to shades: what strips, chips and heatmaps have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Heat:
    """One model's scores with their shades in [0, 1]; "a" is the first model, "b" the second."""

    scores: np.ndarray  # f32 cosine
    shades: np.ndarray  # same shape
    color: str = "a"


@dataclass(frozen=True)
class Scale:
    """The cosine that is drawn as nothing, and the one that is drawn in full colour."""

    low: float
    high: float

    def heat(self, scores: np.ndarray, color: str = "a") -> Heat:
        width = max(self.high - self.low, 1e-6)
        return Heat(scores, np.clip((scores - self.low) / width, 0.0, 1.0), color)


def binned(scores: np.ndarray, num_columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds [N, S] joined into at most `num_columns` columns, each the best of its seconds.

    Returns the scores [N, K], the second of each one's peak int [N, K], and the columns'
    first seconds with the end appended, int [K + 1].
    """
    num_seconds = scores.shape[1]
    width = max(1, -(-num_seconds // num_columns))
    edges = np.append(np.arange(0, num_seconds, width), num_seconds)
    parts = [scores[:, a:b] for a, b in zip(edges[:-1], edges[1:])]
    best = np.stack([part.max(1) for part in parts], axis=1)
    peaks = np.stack([part.argmax(1) + a for part, a in zip(parts, edges)], axis=1)
    return best, peaks, edges
