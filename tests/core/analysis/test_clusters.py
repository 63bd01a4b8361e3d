"""Clusters of points, and their names."""

import numpy as np
import pytest

from core.analysis.alignment import unit
from core.analysis.clusters import cluster, cluster_names


def groups(sizes=(60, 40, 20), size=16):
    random = np.random.default_rng(0)
    centers = np.eye(size)[: len(sizes)]
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return unit(centers[truth] + random.normal(scale=0.08, size=(len(truth), size))), truth


@pytest.mark.parametrize("method", ["kmeans", "hdbscan"])
def test_clear_groups_are_found_and_numbered_from_the_largest(method):
    vectors, truth = groups()
    order = np.random.default_rng(1).permutation(len(truth))
    found = cluster(vectors[order], method, number=3)
    known = found >= 0
    assert known.mean() > 0.9
    assert np.array_equal(found[known], truth[order][known])


def test_points_beyond_the_sample_join_their_group(monkeypatch):
    from core.analysis import clusters

    monkeypatch.setattr(clusters, "FITTED_ON", 40)
    vectors, truth = groups()
    assert np.array_equal(cluster(vectors, number=3), truth)
    assert np.array_equal(cluster(vectors, number=3), cluster(vectors, number=3))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="kmeans, hdbscan"):
        cluster(np.eye(4), "means")


def test_names_tell_clusters_apart():
    labels = np.repeat([0, 1, 2], 10)
    texts = ["the"] * 4 + ["ball"] * 6 + ["the"] * 4 + ["glass"] * 6 + ["the"] * 5 + ["run"] * 5
    names = cluster_names(labels, texts)
    assert [name.split(", ")[0] for name in names] == ["ball", "glass", "run"]


def test_captions_are_named_by_what_few_of_them_say():
    labels = np.repeat([0, 1], 8)
    texts = ["the ball falls on the floor"] * 3 + ["the chair falls on the floor"] * 5
    texts += ["the rain falls on the floor"] * 3 + ["the wet dog on the floor"] * 5
    names = cluster_names(labels, texts)
    assert "ball" in names[0] and "the" not in names[0].split(", ")
    assert "rain" in names[1]


def test_points_without_cluster_or_words_have_a_name_all_the_same():
    assert cluster_names(np.array([-1, -1]), ["a", "b"]) == []
    assert cluster_names(np.array([0, 1]), ["", ""]) == ["(no words)", "(no words) (1)"]


def test_words_that_stand_for_many_contexts_come_first_in_a_name():
    labels = np.array([0, 0, 0, 1, 1])
    texts = ["anvil", "ball", "cup", "run", "walk"]
    assert cluster_names(labels, texts, np.array([1, 9, 4, 2, 8])) == [
        "ball, cup, anvil",
        "walk, run",
    ]


def test_function_words_name_only_a_cluster_of_function_words():
    labels = np.repeat([0, 1], 5)
    texts = ["the", "was", "ball", "cup", "vase", "of", "in", "to", "with", "glue"]
    often = np.array([90, 80, 5, 4, 3, 50, 40, 30, 20, 1])
    assert cluster_names(labels, texts, often) == ["ball, cup, vase", "of, in, to"]
