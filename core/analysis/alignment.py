"""A closed-form linear map from a student's states to the teacher's joint space.

A student that was matched by its Gram matrix alone (NST) is defined up to a rotation, and a
text-only student was never matched at all. A ridge regression on cached (student, teacher)
pairs of words shows what of the teacher's space can be read off linearly, and its held-out R²
says how much to trust the picture.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILE = "map.safetensors"
FACTS = "alignment.json"
MIN_SENTENCES = 20  # fewer cannot be cut into three parts that mean anything
WORD_FOLDS = 5


class AlignmentError(RuntimeError):
    """A map that is missing, stale or cannot be fitted; the message says what to do."""


@dataclass(frozen=True)
class RidgeMap:
    """teacher ≈ states @ weight + bias.

    `held_out_r2` is measured on sentences that the fit did not see, `word_type_r2` on words
    that it did not see in any sentence (every word type weighs the same). Both may be below 0.
    """

    weight: np.ndarray  # f32 [H, D]
    bias: np.ndarray  # f32 [D]
    ridge: float  # penalty, in units of the mean eigenvalue of the states' covariance
    held_out_r2: float
    word_type_r2: float
    num_words: int  # pairs the map was fitted on
    num_held_out: int  # pairs that held_out_r2 was measured on
    num_word_types: int

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Unit vectors f32 [N, D] for states [N, H]."""
        return unit(np.asarray(states, np.float32) @ self.weight + self.bias)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows divided by their length; a zero row stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def r_squared(wanted: np.ndarray, found: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Share of the variance of `wanted` [N, D] that `found` explains, all dimensions together.

    1 − Σ w‖t − p‖² / Σ w‖t − t̄‖² with t̄ the (weighted) mean of `wanted` itself.
    """
    weights = np.ones(len(wanted)) if weights is None else weights
    mean = np.average(wanted, axis=0, weights=weights)
    total = (weights * ((wanted - mean) ** 2).sum(1)).sum()
    error = (weights * ((wanted - found) ** 2).sum(1)).sum()
    return float(1.0 - error / total) if total > 0 else float("nan")


def fit_ridge(
    student_states: np.ndarray,
    teacher_vectors: np.ndarray,
    sentences: Sequence,
    words: Sequence[str],
    ridges: Sequence[float] = tuple(10.0**p for p in range(-6, 3)),
    seed: int = 0,
) -> RidgeMap:
    """Fit the map from student states [N, H] to unit teacher vectors [N, D], in float64.

    `sentences` names each word's sentence: equal sentences fall on one side of every split.
    70 % of them are fitted on and 15 % choose the penalty; the map is then fitted on both,
    and its R² is measured on the last 15 %. Raises AlignmentError for too little text.
    """
    states, vectors = np.asarray(student_states, np.float64), np.asarray(teacher_vectors, float)
    part = split_sentences(sentences, seed)
    fit, validation, test = part == 0, part == 1, part == 2
    best = _choose_ridge(states, vectors, fit, validation, ridges)
    weight, bias = _solve(states[~test], vectors[~test], [best])[0]
    return RidgeMap(
        weight.astype(np.float32),
        bias.astype(np.float32),
        float(best),
        r_squared(vectors[test], states[test] @ weight + bias),
        _word_type_r2(states, vectors, words, best, seed),
        int((~test).sum()),
        int(test.sum()),
        len(set(words)),
    )


def check_direct(
    found: np.ndarray, teacher_vectors: np.ndarray, sentences: Sequence, words: Sequence[str]
) -> RidgeMap:
    """The identity with its R², for a student whose head ends in the joint space by itself.

    Nothing is fitted, so that all N words are held out.
    """
    found, vectors = np.asarray(found, float), np.asarray(teacher_vectors, float)
    size, weights = vectors.shape[1], _equal_types(words)
    return RidgeMap(
        np.eye(size, dtype=np.float32),
        np.zeros(size, np.float32),
        0.0,
        r_squared(vectors, unit(found)),
        r_squared(vectors, unit(found), weights),
        0,
        len(vectors),
        len(set(words)),
    )


def split_sentences(sentences: Sequence, seed: int = 0) -> np.ndarray:
    """0 (fit, 70 %), 1 (validation, 15 %) or 2 (test, 15 %) for each word [N]."""
    names, membership = np.unique(np.asarray(sentences), return_inverse=True)
    if len(names) < MIN_SENTENCES:
        raise AlignmentError(
            f"Wanted at least {MIN_SENTENCES} different sentences to fit an alignment, found "
            f"{len(names)}. Give the student a longer corpus, then: python -m core embed"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    part = np.zeros(len(names), int)
    held = max(1, round(0.15 * len(names)))
    part[order[:held]], part[order[held : 2 * held]] = 2, 1
    return part[membership]


def _choose_ridge(states, vectors, fit, validation, ridges) -> float:
    solutions = _solve(states[fit], vectors[fit], ridges)
    scores = [r_squared(vectors[validation], states[validation] @ w + b) for w, b in solutions]
    return ridges[int(np.argmax(scores))]


def _solve(states, vectors, ridges) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias for every penalty, from one eigendecomposition of the covariance."""
    center, target = states.mean(0), vectors.mean(0)
    centered = states - center
    values, basis = np.linalg.eigh(centered.T @ centered)  # [H], [H, H]
    projected = basis.T @ (centered.T @ (vectors - target))  # [H, D]
    scale = max(float(values.mean()), 1e-12)
    solutions = []
    for ridge in ridges:
        weight = basis @ (projected / (np.maximum(values, 0.0) + ridge * scale)[:, None])
        solutions.append((weight, target - center @ weight))
    return solutions


def _word_type_r2(states, vectors, words: Sequence[str], ridge: float, seed: int) -> float:
    """R² on words that no sentence of the fit contained: each type is held out once."""
    types, membership = np.unique(np.asarray(words, dtype=str), return_inverse=True)
    if len(types) < 2 * WORD_FOLDS:
        return float("nan")
    fold_of_type = np.random.default_rng(seed).permutation(len(types)) % WORD_FOLDS
    fold = fold_of_type[membership]
    found = np.empty_like(vectors)
    for number in range(WORD_FOLDS):
        weight, bias = _solve(states[fold != number], vectors[fold != number], [ridge])[0]
        found[fold == number] = states[fold == number] @ weight + bias
    return r_squared(vectors, found, _equal_types(words))


def _equal_types(words: Sequence[str]) -> np.ndarray:
    """Weights with which every word type counts the same: else "the" would decide the figure."""
    _, membership, counts = np.unique(
        np.asarray(words, dtype=str), return_inverse=True, return_counts=True
    )
    return 1.0 / counts[membership]


# ---- on disk -----------------------------------------------------------------------------


def save_map(folder: Path, ridge_map: RidgeMap, made_from: dict) -> None:
    """Write the map; `made_from` (hashes and names) goes last and marks it whole."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"weight": ridge_map.weight, "bias": ridge_map.bias}
    _replace_file(folder / FILE, save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
    figures = {
        f.name: getattr(ridge_map, f.name)
        for f in dataclasses.fields(RidgeMap)
        if f.name not in arrays
    }
    content = json.dumps({"made_from": made_from, **figures}, indent=1)
    _replace_file(folder / FACTS, content.encode())


def load_map(folder: Path, made_from: dict, command: str) -> RidgeMap:
    """Read the map, or raise AlignmentError when it is missing or made from other weights."""
    from safetensors.numpy import load_file

    facts = read_facts(folder)
    if facts is None:
        raise AlignmentError(f"No alignment at {folder}. Run: {command}")
    if facts.pop("made_from") != made_from:
        raise AlignmentError(f"The alignment at {folder} is of other weights. Run: {command}")
    return RidgeMap(**load_file(folder / FILE), **facts)


def read_facts(folder: Path) -> dict | None:
    """What alignment.json says, or None where there is no finished map."""
    if not (folder / FACTS).exists() or not (folder / FILE).exists():
        return None
    return json.loads((folder / FACTS).read_text())


def _replace_file(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
