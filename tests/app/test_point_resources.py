"""Selections over full sets, samples and windows, against direct computations."""

from __future__ import annotations

import numpy as np
import pytest

from app import point_resources
from app.point_resources import FATE
from core.analysis.point_columns import counts_of
from core.data import point_store
from tests.app.test_scatter import unpacked
from tests.point_samples import GROUPS, WORDS, write_map, write_point_set


@pytest.fixture
def points(workspace):
    return write_point_set()


def places_of(points) -> np.ndarray:
    return np.array(point_store.load_projection(points, "pca").coordinates)


def test_a_selection_is_the_direct_computation_on_all_points(points):
    x, y = places_of(points).T
    x0, x1 = np.quantile(x, [0.2, 0.7]).astype(float).round(4)
    y0, y1 = np.quantile(y, [0.1, 0.8]).astype(float).round(4)
    found = point_resources.mask(points, "pca", f"box:{x0},{x1},{y0},{y1}")
    assert (found == ((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))).all()
    assert 0 < found.sum() < len(points)
    assert point_resources.mask(points, "pca", "") is None


def test_a_selection_by_value_and_by_search_follow_the_table(points):
    groups = np.arange(len(points)) % GROUPS
    assert (point_resources.mask(points, "pca", "match:duck") == (groups == 3)).all()
    nouns = [word not in ("rolls", "sinks") for word in np.array(WORDS)[groups]]
    assert (point_resources.mask(points, "pca", "is:pos=noun") == nouns).all()


def test_a_shape_on_another_runs_map_is_worked_out_on_that_map(points):
    other = write_point_set("demo-nst-crd", shift=2.0)
    x, y = places_of(other).T
    box = (float(np.median(x)), float(x.max()), float(y.min()), float(y.max()))
    text = ",".join(f"{v:.6g}" for v in box)
    found = point_resources.mask(points, "pca", f"box@demo-nst-crd:{text}")
    x0, x1, y0, y1 = map(float, text.split(","))
    assert (found == ((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))).all()
    assert not point_resources.mask(points, "pca", f"box@nobody:{text}").any()


def test_partners_have_the_same_points_and_another_run(points):
    write_point_set("demo-nst", count=1000)
    same = write_point_set("demo-crd", shift=1.0)
    assert [each.run for each in point_resources.partners(points)] == [same.run]


def test_a_map_computed_anew_is_not_taken_from_the_cache(points):
    text = "box:-2,2,-2,2"
    before = point_resources.mask(points, "pca", text).sum()
    map_ = point_store.load_projection(points, "pca")
    moved = type(map_)("pca", map_.coordinates + 100, {"method": "pca", "again": 1}, 0.9, 0.2, 9, 9)
    point_store.write_projection(points, moved)
    assert before > 0 and point_resources.mask(points, "pca", text).sum() == 0


def test_a_small_set_is_drawn_whole_and_in_no_order_of_its_rows(points):
    files = point_resources.map_files(points, "pca")
    assert sorted(files.rows) == list(range(len(points)))
    assert (np.diff(files.rows) < 0).any()
    found = unpacked(files.points)
    assert (found["rows"] == files.rows).all()


def test_a_sample_has_its_size_and_every_region():
    rng = np.random.default_rng(0)
    dense, far = rng.normal(size=(9000, 2)), 50 + rng.normal(size=(1000, 2))
    places = np.concatenate([dense, far]).astype(np.float32)
    rows = point_resources.drawn_rows(places, most=2000)
    assert len(rows) == len(set(rows)) == 2000
    assert abs((rows >= 9000).mean() - 0.1) < 0.02


def test_a_window_has_all_of_its_points_in_finer_steps(points):
    x, y = places_of(points).T
    window = tuple(float(v) for v in (*np.quantile(x, [0.1, 0.9]), *np.quantile(y, [0.1, 0.9])))
    files = point_resources.window_files(points, "pca", window)
    x0, x1, y0, y1 = window
    inside = np.flatnonzero((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
    assert sorted(files.rows) == inside.tolist() and files.inside == len(inside)
    steps = unpacked(files.points)["xy"].reshape(-1, 2) / 65535
    assert np.abs(x0 + steps[:, 0] * (x1 - x0) - x[files.rows]).max() < (x1 - x0) / 60_000


def test_labels_say_the_word_in_its_sentence(points):
    rows = np.array([11, 3, 1999])
    found = unpacked(point_resources.labels_of(points, rows))
    for place, row in enumerate(rows):
        sentence = found["contexts"][found["context"][place]]
        word = found["texts"][found["text"][place]]
        assert sentence == f"the {WORDS[row % GROUPS]} of line {row}"
        assert sentence[found["start"][place] : found["end"][place]] == word


def test_cluster_names_stand_in_the_middle_of_their_points(points):
    places = places_of(points)
    for named in point_resources.cluster_places(points, "pca"):
        group = WORDS.index(named["text"].split(",")[0])
        middle = np.median(places[np.arange(len(points)) % GROUPS == group], axis=0)
        assert np.allclose([named["x"], named["y"]], middle)


def test_columns_of_one_value_colour_nothing(points):
    names = point_resources.column_names(points)
    assert "dataset" not in names and "position" not in names
    assert {"text", "pos", "zipf", "groundedness", "cluster_name"} <= set(names)


def test_fates_are_a_column_in_their_own_order(points):
    student = write_point_set("demo-nst-crd", shift=1.0)
    own, other = (
        point_store.read_points(each, ["groundedness"])["groundedness"].to_numpy()
        for each in (points, student)
    )
    colors = point_resources.colors(points, f"{FATE}demo-nst-crd")
    rows = {row.name: row.total for row in counts_of(colors, None)}
    assert list(colors.names) == ["kept", "lost", "gained"]
    assert rows == {
        "kept": int(((own >= 0.5) & (other >= 0.5)).sum()),
        "lost": int(((own >= 0.5) & (other < 0.5)).sum()),
        "gained": int(((own < 0.5) & (other >= 0.5)).sum()),
        "never grounded": int(((own < 0.5) & (other < 0.5)).sum()),
    }


def test_files_hold_every_column_and_the_sentence(points):
    frame = point_resources.stored(points, np.array([5, 9]))
    assert frame["sentence"].tolist() == [f"the {WORDS[r % GROUPS]} of line {r}" for r in (5, 9)]
    assert {"dataset", "position", "start", "end", "run"} <= set(frame.columns)


def test_overlap_is_that_of_exact_neighbours(points):
    other = write_point_set("demo-nst-crd", shift=2.0)
    rows, k = (0, 7, 100), 10
    shares = []
    for row in rows:
        found = []
        for each in (points, other):
            vectors = np.asarray(each.vectors, np.float32)
            scores = vectors @ vectors[row]
            scores[row] = -2
            found.append(set(np.argsort(-scores)[:k]))
        shares.append(len(found[0] & found[1]) / k)
    assert abs(point_resources.overlap(points, other, rows, k) - np.mean(shares)) < 1e-6


def test_a_teacher_has_its_students_shared_map_as_its_own(points):
    student = write_map(write_point_set("demo-nst-crd", shift=1.0), "pca-shared")
    assert point_resources.methods(points) == ["pca", "pca-shared"]
    assert point_resources.methods(student) == ["pca", "pca-shared"]
    own, lent = (point_resources.point_map(points, m) for m in ("pca", "pca-shared"))
    assert (np.array(own.coordinates) == np.array(lent.coordinates)).all()
    text = "box:-2,0,-2,2"
    assert (
        point_resources.mask(points, "pca", text)
        == point_resources.mask(points, "pca-shared", text)
    ).all()
