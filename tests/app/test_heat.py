import numpy as np

from app.heat import Scale, binned


def test_shades_run_from_nothing_to_full_between_the_ends_of_the_scale():
    heat = Scale(0.2, 0.6).heat(np.array([0.0, 0.2, 0.4, 0.6, 0.9]), "b")
    assert np.allclose(heat.shades, [0, 0, 0.5, 1, 1])
    assert heat.color == "b" and heat.scores[0] == 0.0


def test_a_column_of_several_seconds_has_the_best_of_them_and_knows_where_it_is():
    scores = np.array([[0.1, 0.5, 0.2, 0.9, 0.3]])
    best, peaks, edges = binned(scores, 3)
    assert best.tolist() == [[0.5, 0.9, 0.3]]
    assert peaks.tolist() == [[1, 3, 4]]
    assert edges.tolist() == [0, 2, 4, 5]


def test_short_videos_keep_every_second():
    scores = np.random.default_rng(0).random((3, 7))
    best, peaks, edges = binned(scores, 120)
    assert np.array_equal(best, scores)
    assert peaks.tolist() == [list(range(7))] * 3 and edges.tolist() == list(range(8))
