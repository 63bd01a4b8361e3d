"""Groups of points, and the words that tell each from the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.analysis.evaluation import FUNCTION_WORDS
from core.analysis.neighbours import nearest

METHODS = ("kmeans", "hdbscan")
FITTED_ON = 10_000  # points; the others go to the cluster of what lies nearest
FEWEST, MOST = 4, 24  # clusters: more than two dozen colours nobody can tell apart
HDBSCAN_SIZE = 10  # dimensions: in more of them density says little
NOISE = "no cluster"
NAME_WORDS = 3
MOST_TEXTS = 0.2  # a word that more of the texts than this contain names no group of them


def cluster(vectors: np.ndarray, method: str = "kmeans", number: int = 0, seed: int = 0):
    """A cluster for each unit vector [N, D]: int32 [N], 0 the largest; −1 for none (HDBSCAN).

    Fitted on a sample of 10,000. `number` of k-means' clusters: 0 lets the points' number say.
    """
    if method not in METHODS:
        raise ValueError(f"Wanted a clustering of {', '.join(METHODS)}, found '{method}'.")
    rows = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:FITTED_ON])
    sample = np.asarray(vectors[rows], np.float32)
    if method == "kmeans":
        found = _kmeans(vectors, sample, number or usual_number(len(vectors)), seed)
    else:
        found = _hdbscan(vectors, sample)
    return _by_size(found)


def usual_number(points: int) -> int:
    """8 clusters for 2,000 points, 12 for 10,000, 24 for 200,000."""
    return int(np.clip(round(1.2 * points**0.25), FEWEST, MOST))


def _kmeans(vectors, sample: np.ndarray, number: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    model = KMeans(min(number, len(sample)), n_init=2, random_state=seed).fit(sample)
    centers = model.cluster_centers_.astype(np.float32)
    half = (centers**2).sum(1) / 2  # the nearest centre has the largest v·c − |c|²/2
    found = np.empty(len(vectors), np.int32)
    for start in range(0, len(vectors), 65_536):
        block = np.asarray(vectors[start : start + 65_536], np.float32)
        found[start : start + len(block)] = (block @ centers.T - half).argmax(1)
    return found


def _hdbscan(vectors, sample: np.ndarray) -> np.ndarray:
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA

    size = min(HDBSCAN_SIZE, *sample.shape)
    reduced = PCA(size, svd_solver="full").fit_transform(sample)
    smallest = max(5, len(sample) // 200)
    labels = HDBSCAN(min_cluster_size=smallest, min_samples=5, copy=True).fit_predict(reduced)
    found = np.empty(len(vectors), np.int32)
    for start in range(0, len(vectors), 8192):
        block = vectors[start : start + 8192]
        found[start : start + len(block)] = labels[nearest(sample, block, 1)[1][:, 0]]
    return found


def _by_size(labels: np.ndarray) -> np.ndarray:
    """The same groups, numbered from the largest; −1 stays."""
    known = labels[labels >= 0]
    names, counts = np.unique(known, return_counts=True)
    place = np.full(int(names.max(initial=-1)) + 2, -1, np.int32)  # the last for −1
    place[names[np.argsort(-counts, kind="stable")]] = np.arange(len(names))
    return place[labels]


def cluster_names(
    labels: np.ndarray, texts: Sequence[str], weights: np.ndarray | None = None
) -> list[str]:
    """A name for each cluster from 0 on: the words that tell it from the others, "rain, wet, sky".

    Class-based TF-IDF (Grootendorst 2022): a word's share of the cluster's words times
    log(1 + words per cluster / how often it is said in all). `texts` [N] are words or captions;
    of captions, words that a fifth of them contain say nothing. Function words name a cluster
    only if most of its different words are such. `weights` [N] say how often each text occurs,
    where it stands for several.
    """
    number = int(labels.max(initial=-1)) + 1
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    counts, terms = _term_counts(labels, texts, weights, number)
    total = counts.sum(0)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    scores = share * np.log(1 + total.sum() / max(number, 1) / np.maximum(total, 1))
    num_texts = weights[labels >= 0].sum()
    if total.sum() > 2 * num_texts:  # captions, not words
        scores[:, total > MOST_TEXTS * num_texts] = 0
    empty = np.array([term in FUNCTION_WORDS for term in terms], bool)
    spoken = counts > 0
    wordy = 2 * (spoken & empty).sum(1) <= spoken.sum(1)
    scores[wordy[:, None] & empty] = 0
    names: list[str] = []
    for row in scores:
        best = [
            terms[place] for place in np.argsort(-row, kind="stable")[:NAME_WORDS] if row[place]
        ]
        name = ", ".join(best) or "(no words)"
        names.append(name if name not in names else f"{name} ({len(names)})")
    return names


def _term_counts(labels: np.ndarray, texts: Sequence[str], weights: np.ndarray, number: int):
    """How often each cluster says each word, f64 [clusters, words], and the words."""
    different, codes = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    words_of = [_words(text) for text in different]
    terms = sorted({word for words in words_of for word in words})
    place = {term: row for row, term in enumerate(terms)}
    said = np.zeros((number, len(different)))
    known = labels >= 0
    np.add.at(said, (labels[known], codes.reshape(-1)[known]), weights[known])
    counts = np.zeros((number, len(terms)))
    for column, words in enumerate(words_of):
        for word in words:
            counts[:, place[word]] += said[:, column]
    return counts, terms


def _words(text: str) -> list[str]:
    """Words of two letters or more, in lower case; a lone sign names nothing."""
    return [w for raw in text.lower().split() if len(w := raw.strip(".,;:!?\"'()")) > 1]
