"""UMAP and t-SNE: maps that keep neighbourhoods, fitted on a sample, with the rest placed between.

No fitted model is kept: a point is placed by its nearest neighbours among the points that the map
was fitted on, which needs their vectors and places only, and no pickle that runs code when read.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from core.analysis.index import ClipIndex
from core.analysis.neighbours import nearest, others
from core.analysis.projections import fit_pca

# Measured on WikiText-2 (4,000 to 6,000 words, a third of them placed): trustworthiness 0.92, as of a map
# fitted on all; 0.89 with all five neighbours, which may lie in different parts of the map and
# draw a point into the gap between them.
PLACING_NEIGHBOURS = 5
PLACING_POWER = 4.0
PLACING_RADIUS = 0.02  # of the map's extent, around the nearest neighbour
INDEXED_FROM = 4096  # fitted points: an index is three times as fast, and finds 99 % of them
QUERIES_AT_ONCE = 8192


@dataclass(frozen=True)
class UmapOptions:
    neighbours: int = 15
    min_dist: float = 0.1
    seed: int | None = 0  # None: all cores, and another map each time


def fit_umap(
    vectors: np.ndarray, options: UmapOptions, start: np.ndarray | None = None
) -> np.ndarray:
    """Places f32 [N, 2] of unit vectors [N, D] by UMAP (McInnes et al. 2018).

    `start` [N, 2] are places to begin from, so that a map keeps the layout of another where
    the data allow it; else PCA's. Neighbours are exact, by FAISS.
    """
    import numba
    import umap

    # Numba's layer on OpenMP would change torch's number of threads as well, and for good.
    numba.config.THREADING_LAYER = "workqueue"

    vectors = np.asarray(vectors, np.float32)
    seeded = options.seed is not None
    model = umap.UMAP(
        n_neighbors=min(options.neighbours, len(vectors) - 1),
        min_dist=options.min_dist,
        metric="euclidean",  # of unit vectors: the same neighbours as by cosine
        init=_start(vectors, start),
        random_state=options.seed,
        n_jobs=1 if seeded else -1,
        precomputed_knn=_knn(vectors, min(options.neighbours, len(vectors) - 1)),
    )
    with warnings.catch_warnings():
        # It says that it cannot transform: `place` does.
        warnings.simplefilter("ignore", UserWarning)
        return np.asarray(model.fit_transform(vectors), np.float32)


def fit_tsne(
    vectors: np.ndarray,
    perplexity: float = 30.0,
    seed: int = 0,
    start: np.ndarray | None = None,
    parallel: bool = False,
) -> np.ndarray:
    """Places f32 [N, 2] of unit vectors [N, D] by t-SNE (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    model = TSNE(
        perplexity=min(perplexity, (len(vectors) - 1) / 3),
        init=_start(vectors, start) * 1e-5,  # t-SNE wants to begin near the middle
        random_state=seed,
        n_jobs=-1 if parallel else 1,
    )
    return np.asarray(model.fit_transform(np.asarray(vectors, np.float32)), np.float32)


def place(
    queries: np.ndarray,
    vectors: np.ndarray,
    coordinates: np.ndarray,
    neighbours: int = PLACING_NEIGHBOURS,
    progress=None,
) -> np.ndarray:
    """Places f32 [Q, 2] of new unit vectors [Q, D] on the map of others [N, D], [N, 2].

    A weighted mean of the nearest neighbours' places, weights falling with the fourth power of
    their distance; of the neighbours only those count that lie by the nearest on the map, too.
    Equal vectors come to equal places.
    """
    search = _searcher(vectors, len(queries))
    radius = PLACING_RADIUS * float(np.ptp(coordinates, axis=0).max())
    places = np.empty((len(queries), 2), np.float32)
    for first in range(0, len(queries), QUERIES_AT_ONCE):
        block = queries[first : first + QUERIES_AT_ONCE]
        cosines, rows = search(block, neighbours)
        places[first : first + len(block)] = _between(cosines, coordinates[rows], radius)
        if progress:
            progress(first + len(block), len(queries), "placing points")
    return places


def _searcher(vectors: np.ndarray, num_queries: int):
    """What finds nearest rows: an index where there is much to find, which pays for building it."""
    if len(vectors) < INDEXED_FROM or num_queries < INDEXED_FROM:
        return lambda queries, k: nearest(vectors, queries, k)
    return ClipIndex.build(vectors, exact_below=INDEXED_FROM).search


def _between(cosines: np.ndarray, places: np.ndarray, radius: float) -> np.ndarray:
    """Mean places [Q, 2] of neighbours with cosines [Q, k] at places [Q, k, 2]."""
    distances = np.sqrt(np.maximum(2.0 - 2.0 * cosines.astype(np.float64), 1e-8))
    weights = (distances[:, :1] / distances) ** PLACING_POWER  # 1 for the nearest
    weights[np.linalg.norm(places - places[:, :1], axis=-1) > radius] = 0.0
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("qk,qkd->qd", weights, places)


def _start(vectors: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    """Places to begin from, about ten units wide as UMAP's own, no two quite the same."""
    places = fit_pca(vectors)(vectors) if start is None else start
    places = np.asarray(places, np.float64) - np.mean(places, axis=0, dtype=np.float64)
    places *= 10.0 / max(float(np.abs(places).max()), 1e-12)
    noise = np.random.default_rng(0).normal(scale=1e-4, size=places.shape)
    return (places + noise).astype(np.float32)


def _knn(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Each point itself and its k − 1 nearest others, as UMAP reads them: rows and distances."""
    rows = np.empty((len(vectors), k), np.int64)
    distances = np.zeros((len(vectors), k), np.float32)
    for first in range(0, len(vectors), QUERIES_AT_ONCE):
        own = np.arange(first, min(first + QUERIES_AT_ONCE, len(vectors)))
        cosines, found = others(vectors, own, k - 1)
        rows[own, 0], rows[own, 1:] = own, found
        distances[own, 1:] = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0))
    return rows, distances
