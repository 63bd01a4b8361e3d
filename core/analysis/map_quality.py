"""How far a map may be trusted: nobody should read more from a picture than it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.analysis.neighbours import BLOCK, others, shared

QUERIES = 500  # enough for two digits: the standard error of either figure stays below 0.01
NEIGHBOURS = 10


@dataclass(frozen=True)
class MapQuality:
    """Both figures are means over `queries` points drawn by lot, each held against all points."""

    trustworthiness: float
    neighbour_preservation: float
    queries: int
    neighbours: int


def map_quality(
    vectors: np.ndarray,
    coordinates: np.ndarray,
    queries: int = QUERIES,
    k: int = NEIGHBOURS,
    seed: int = 0,
) -> MapQuality:
    """Quality of a map [N, 2] of unit vectors [N, D].

    Trustworthiness is that of Venna and Kaski (2001): 1 where all k neighbours on the map are
    among the k nearest in the space, less the farther they come from. Neighbour preservation
    is the share of the k nearest in the space that are among the k nearest on the map.
    """
    count = len(vectors)
    k = min(k, max(1, (count - 1) // 2 - 1))  # the first is defined for k below N / 2
    rows = np.sort(np.random.default_rng(seed).permutation(count)[:queries])
    on_map = _map_neighbours(coordinates, rows, k)
    in_space = others(vectors, rows, k)[1]
    ranks = _space_ranks(vectors, rows, on_map)
    worst = len(rows) * k * (2 * count - 3 * k - 1) / 2
    trust = 1.0 - float(np.maximum(ranks - k, 0).sum()) / worst
    kept = float(shared(in_space, on_map).mean())
    return MapQuality(trust, kept, len(rows), k)


def _map_neighbours(coordinates: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """The k nearest others on the map, int64 [R, k]."""
    from scipy.spatial import cKDTree

    places = np.asarray(coordinates, np.float64)
    _, found = cKDTree(places).query(places[rows], k + 1)
    own = found == rows[:, None]
    own[~own.any(1), -1] = True  # many points on one spot: then the last goes
    return found[~own].reshape(len(rows), k)


def _space_ranks(vectors: np.ndarray, rows: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The place, from 1, that each of `found` [R, k] has among a row's neighbours in the space."""
    queries = np.asarray(vectors[rows], np.float32)
    theirs = np.asarray(vectors[found.reshape(-1)], np.float32).reshape(*found.shape, -1)
    cosines = np.einsum("rd,rkd->rk", queries, theirs)
    ranks = np.ones(found.shape, np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK], np.float32)
        near = queries @ block.T  # [R, block]
        inside = np.flatnonzero((rows >= start) & (rows < start + len(block)))
        near[inside, rows[inside] - start] = -np.inf  # a point is no neighbour of its own
        for column in range(found.shape[1]):
            # Two ways of summing differ in the last digit: equal is not nearer.
            ranks[:, column] += (near > cosines[:, column : column + 1] + 1e-6).sum(1)
    return ranks
