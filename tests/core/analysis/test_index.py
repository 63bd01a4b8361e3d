import numpy as np
import pytest

from core.analysis.index import ClipIndex, IndexNotFound


def unit_vectors(count, size=32, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((count, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def test_exact_search_agrees_with_numpy():
    vectors, queries = unit_vectors(500), unit_vectors(7, seed=1)
    scores, ids = ClipIndex.build(vectors).search(queries, 5)
    wanted = queries.astype(np.float32) @ vectors.astype(np.float32).T
    np.testing.assert_array_equal(ids, np.argsort(-wanted, axis=1)[:, :5])
    np.testing.assert_allclose(scores, -np.sort(-wanted, axis=1)[:, :5], atol=1e-6)


def test_saved_index_finds_the_same(tmp_path):
    vectors = unit_vectors(200)
    built = ClipIndex.build(vectors)
    built.save(tmp_path / "clips.faiss")
    opened = ClipIndex.open(tmp_path / "clips.faiss")
    assert len(opened) == 200 and opened.is_exact
    for wanted, found in zip(built.search(vectors[:9], 4), opened.search(vectors[:9], 4)):
        np.testing.assert_array_equal(wanted, found)


def test_large_sets_use_lists_and_still_find_the_neighbours(tmp_path):
    # Clustered, as embeddings are: 60 groups.
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((60, 32))
    points = centers[rng.integers(0, 60, 4000)] + 0.4 * rng.standard_normal((4000, 32))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    index = ClipIndex.build(points, exact_below=1000)
    assert not index.is_exact
    index.save(tmp_path / "ivf.faiss")
    _, found = ClipIndex.open(tmp_path / "ivf.faiss").search(points[:200], 10)
    _, wanted = ClipIndex.build(points).search(points[:200], 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted)])
    assert recall > 0.95


def test_more_neighbours_than_vectors_gives_all_of_them():
    _, ids = ClipIndex.build(unit_vectors(3)).search(unit_vectors(1), 10)
    assert sorted(ids[0]) == [0, 1, 2]


def test_wrong_size_and_missing_file_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="size 32, found 8"):
        ClipIndex.build(unit_vectors(5)).search(np.ones((1, 8)), 1)
    with pytest.raises(IndexNotFound, match="python -m core embed"):
        ClipIndex.open(tmp_path / "none.faiss")
