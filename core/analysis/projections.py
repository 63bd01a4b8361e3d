"""Maps of the embedding space: what is close there should be close on the plane.

A map has a place f32 [2] for each of N points. PCA is exact and quick; UMAP and t-SNE are fitted
by core/analysis/manifold_maps.py. What lies inside a box or a lasso is asked of all points here,
however few of them a screen shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 65_536  # rows that are held as float32 at once


# ---- selection ---------------------------------------------------------------------------


def select_box(coordinates: np.ndarray, x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    """Rows int64, rising, of the points [N, 2] in the box; its edges belong to it."""
    x, y = coordinates[:, 0], coordinates[:, 1]
    (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
    return np.flatnonzero((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))


def select_lasso(coordinates: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Rows int64, rising, of the points [N, 2] inside the polygon [P, 2], which closes itself.

    Even-odd rule: what a line drawn over itself encloses twice is outside. Exact in float64:
    each edge looks only at the points of its own height, so that the cost is that of the points
    times how often a horizontal line crosses the lasso, not times its number of corners.
    """
    polygon = np.asarray(polygon, np.float64).reshape(-1, 2)
    rows = select_box(coordinates, *_extent(polygon))
    x, y = (np.asarray(coordinates[rows, axis], np.float64) for axis in (0, 1))
    order = np.argsort(y, kind="stable")
    x, y = x[order], y[order]
    inside = np.zeros(len(rows), bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0)):
        first, last = np.searchsorted(y, sorted((ay, by)))  # ay <= y < by: a corner counts once
        if first < last:
            crossing = ax + (y[first:last] - ay) * ((bx - ax) / (by - ay))
            inside[first:last] ^= x[first:last] < crossing
    return np.sort(rows[order[inside]])


def _extent(polygon: np.ndarray) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = polygon.min(0), polygon.max(0)
    return x0, x1, y0, y1


def sample_stratified(labels: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """`size` rows int64, rising, with each label [N] in its share; all rows where N is less.

    Shares are rounded down; what is left over goes by lot, so that no rare label is shut out.
    """
    count = len(labels)
    if count <= size:
        return np.arange(count)
    random = np.random.default_rng(seed)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # Shuffled, then ordered by label: the first few of each label are a random choice of it.
    shuffled = random.permutation(count)
    shuffled = shuffled[np.argsort(codes.reshape(-1)[shuffled], kind="stable")]
    place = np.arange(count) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = place < np.repeat(counts * size // count, counts)
    rest = random.permutation(shuffled[~chosen])[: size - int(chosen.sum())]
    return np.sort(np.concatenate([shuffled[chosen], rest]))


# ---- PCA ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axes:
    """The two directions of greatest variance, and the mean that they start from."""

    components: np.ndarray  # f64 [2, D], orthonormal
    mean: np.ndarray  # f64 [D]
    explained: tuple[float, float]  # share of the variance

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Places f32 [N, 2] of vectors [N, D]."""
        places = np.empty((len(vectors), 2), np.float32)
        for start in range(0, len(vectors), BLOCK):
            block = np.asarray(vectors[start : start + BLOCK], np.float64) - self.mean
            places[start : start + BLOCK] = block @ self.components.T
        return places


def fit_pca(vectors: np.ndarray) -> Axes:
    """Exact principal axes of vectors [N, D], from their covariance, in bounded memory.

    Each axis points where its largest weight is positive, so that equal data give equal maps.
    """
    mean = sum(block.sum(0) for block in _blocks(vectors)) / len(vectors)
    covariance = sum((block - mean).T @ (block - mean) for block in _blocks(vectors))
    values, basis = np.linalg.eigh(covariance)
    components = basis[:, ::-1][:, :2].T
    largest = np.abs(components).argmax(1)
    components = components * np.sign(components[np.arange(2), largest])[:, None]
    share = values[::-1][:2] / max(float(values.sum()), 1e-12)
    return Axes(components, mean, (float(share[0]), float(share[1])))


def place_by_axes(vectors: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Places f32 [N, 2] of vectors [N, D] on a PCA map with axes [2, D + 1]."""
    linear = Axes(axes[:, :-1].astype(np.float64), np.zeros(axes.shape[1] - 1), (0.0, 0.0))
    return linear(vectors) + axes[:, -1]


def _blocks(vectors: np.ndarray):
    for start in range(0, len(vectors), BLOCK):
        yield np.asarray(vectors[start : start + BLOCK], np.float64)


# ---- one map beside another --------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """A rotation or reflection with one scale and a shift, fitted to lay a map on another."""

    matrix: np.ndarray  # f64 [2, 2]: scale times rotation
    shift: np.ndarray  # f64 [2]
    disparity: float  # share of the reference's variance that is not met, in [0, 1]

    def __call__(self, coordinates: np.ndarray) -> np.ndarray:
        return (np.asarray(coordinates, np.float64) @ self.matrix + self.shift).astype(np.float32)


def procrustes(coordinates: np.ndarray, reference: np.ndarray) -> Turn:
    """The turn that lays coordinates [N, 2] nearest to a reference [N, 2] of the same points.

    Least squares over rotation or reflection, scale and shift (Schönemann 1966).
    """
    source, target = np.asarray(coordinates, np.float64), np.asarray(reference, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    source, target = source - source_mean, target - target_mean
    left, values, right = np.linalg.svd(source.T @ target)
    spread, wanted = float((source**2).sum()), float((target**2).sum())
    matrix = (left @ right) * (values.sum() / max(spread, 1e-12))
    met = values.sum() ** 2 / max(spread * wanted, 1e-12)
    return Turn(matrix, target_mean - source_mean @ matrix, float(max(0.0, 1.0 - met)))
