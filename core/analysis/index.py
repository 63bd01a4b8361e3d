"""Search among clip or second vectors with FAISS: exact while that is quick, IVF above."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

EXACT_BELOW = 100_000  # vectors; a flat search over 100k × 256 takes 9 ms
PROBES = 16  # of the IVF lists; recall 0.999 at a million vectors


class IndexNotFound(RuntimeError):
    """There is no saved index; the message has the command that makes it."""


class ClipIndex:
    """Inner-product search over unit vectors; ids are rows of the array it was built from."""

    def __init__(self, index):
        self._index = index

    @classmethod
    def build(cls, vectors: np.ndarray, exact_below: int = EXACT_BELOW) -> ClipIndex:
        """Index vectors [C, D] (any float type; kept as float32)."""
        import faiss

        count, size = vectors.shape
        if count < exact_below:
            index = faiss.IndexFlatIP(size)
        else:
            lists = max(1, int(np.sqrt(count)))
            index = faiss.index_factory(size, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
            index.train(_sample(vectors, 64 * lists))
        for start in range(0, count, 65_536):  # float32 copies stay small
            index.add(np.ascontiguousarray(vectors[start : start + 65_536], np.float32))
        return cls(index)

    @classmethod
    def open(cls, path: Path) -> ClipIndex:
        """Open a saved index; its vectors stay on disk, mapped into memory."""
        import faiss

        if not path.exists():
            raise IndexNotFound(f"No index at {path}. Run: python -m core embed")
        return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))

    def save(self, path: Path) -> None:
        import faiss

        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        faiss.write_index(self._index, str(temporary))
        os.replace(temporary, path)

    def search(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best rows for each vector [N, D]: scores f32 [N, k] falling, ids int64 [N, k].

        Where fewer than k were found, the id is −1.
        """
        import faiss

        queries = np.ascontiguousarray(np.atleast_2d(vectors), np.float32)
        if queries.shape[1] != self._index.d:
            raise ValueError(f"Wanted vectors of size {self._index.d}, found {queries.shape[1]}.")
        k = min(k, len(self))
        if isinstance(self._index, faiss.IndexIVF):
            options = faiss.SearchParametersIVF(nprobe=PROBES)
            return self._index.search(queries, k, params=options)
        return self._index.search(queries, k)

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def is_exact(self) -> bool:
        import faiss

        return not isinstance(self._index, faiss.IndexIVF)


def _sample(vectors: np.ndarray, size: int) -> np.ndarray:
    rows = np.random.default_rng(0).permutation(len(vectors))[:size]
    return np.ascontiguousarray(vectors[np.sort(rows)], np.float32)
