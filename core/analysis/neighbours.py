"""Nearest neighbours in the full space, and how far two spaces agree about them.

Vectors are unit [N, D], possibly half precision and mapped from disk; nearness is cosine. The
search is exact: FAISS goes over the rows in blocks, so that nothing has to be built or held.
"""

from __future__ import annotations

import numpy as np

BLOCK = 65_536  # rows that are held as float32 at once


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows nearest to each query [Q, D]: cosines f32 [Q, k] falling, rows int64 [Q, k]."""
    import faiss

    k = min(k, len(vectors))
    wanted = np.ascontiguousarray(queries, np.float32)
    heap = faiss.ResultHeap(len(wanted), k, keep_max=True)
    for start in range(0, len(vectors), BLOCK):
        block = np.ascontiguousarray(vectors[start : start + BLOCK], np.float32)
        size = min(k, len(block))
        scores, rows = faiss.knn(wanted, block, size, metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, rows + start)
    heap.finalize()
    return heap.D, heap.I


def neighbours(vectors: np.ndarray, row: int, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """A point's k nearest others: cosines f32 [k] falling, rows int64 [k]."""
    scores, rows = others(vectors, np.array([row]), k)
    return scores[0], rows[0]


def others(vectors: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of some rows [R] its k nearest others: cosines f32 [R, k], rows int64 [R, k]."""
    scores, found = nearest(vectors, vectors[rows], k + 1)
    own = found == np.asarray(rows)[:, None]
    # Of many equal vectors the point itself may not be among the first: then the last goes.
    own[~own.any(1), -1] = True
    shape = (len(rows), found.shape[1] - 1)
    return scores[~own].reshape(shape), found[~own].reshape(shape)


def overlap_at_k(one: np.ndarray, other: np.ndarray, rows: np.ndarray, k: int = 10) -> np.ndarray:
    """Share of each row's k nearest others that two row-aligned sets have in common, f32 [R]."""
    found, beside = (others(vectors, rows, k)[1] for vectors in (one, other))
    return shared(found, beside)


def shared(found: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Share of the rows [R, k] that stand in both, f32 [R]."""
    if not found.shape[1]:
        return np.full(len(found), np.nan, np.float32)
    common = (found[:, :, None] == beside[:, None, :]).any(2)
    return common.mean(1).astype(np.float32)
