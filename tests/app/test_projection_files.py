"""Exports: the points with their columns and places, the map as one page."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest

from app import point_resources, projection_saved
from app.projection_map import Shown
from core.data import point_store
from tests.app.test_scatter import unpacked
from tests.point_samples import GROUPS, WORDS, write_point_set


@pytest.fixture
def shown(workspace) -> Shown:
    return Shown(write_point_set(), "pca", color="pos")


def test_csv_and_parquet_hold_the_selected_points_with_their_places(shown):
    mask = np.zeros(len(shown.points), bool)
    mask[[3, 10, 1500]] = True
    places = point_store.load_projection(shown.points, "pca").coordinates[mask]
    for frame in (
        pd.read_csv(io.BytesIO(projection_saved.csv_file(shown, mask))),
        pd.read_parquet(io.BytesIO(projection_saved.parquet_file(shown, mask))),
    ):
        assert frame["row"].tolist() == [3, 10, 1500]
        assert frame["text"].tolist() == [WORDS[row % GROUPS] for row in (3, 10, 1500)]
        assert frame["sentence"][1] == f"the {WORDS[10 % GROUPS]} of line 10"
        assert np.allclose(frame[["x", "y"]], places)
        assert (frame["map"] == "pca").all() and (frame["run"] == "demo-teacher").all()
    assert len(projection_saved.parquet_file(shown, mask)) < 40_000


def test_without_a_selection_all_points_are_exported(shown):
    frame = pd.read_csv(io.BytesIO(projection_saved.csv_file(shown, None)))
    assert len(frame) == len(shown.points)


@pytest.fixture
def page(shown, monkeypatch) -> str:
    monkeypatch.setattr(projection_saved.projection_view, "selection", tuple)
    return projection_saved.html_file(shown, None).decode()


def test_the_page_needs_nothing_from_elsewhere(page):
    assert not re.search(r"""(src|href)=["']?(https?:|/)""", page.split("<script")[0])
    assert "import " not in re.sub(r"//.*", "", page.split('<script type="module">')[1])[:4000]
    assert "export default" not in page and "--st-primary-color: #" in page


def test_the_page_carries_the_points_and_their_labels(page, shown):
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    points, labels = (
        unpacked(base64.b64decode(address.split(",")[1]))
        for address in (data["layer"]["points"], data["labels"])
    )
    assert sorted(points["rows"]) == list(range(len(shown.points)))
    row = int(points["rows"][7])
    assert labels["contexts"][labels["context"][7]] == f"the {WORDS[row % GROUPS]} of line {row}"
    assert data["still"] and {i["choice"] for i in data["legend"]["items"]} == {None}


def test_texts_cannot_end_the_script_of_the_page(workspace, monkeypatch):
    from app.scatter import Layer, Picture, points_pack
    from app.scatter_page import html_page

    rows = np.arange(3)
    layer = Layer(points_pack(np.eye(3, 2, dtype=np.float32), rows, (0, 1, 0, 1)), rows)
    bad = "</script><script>alert(1)</script>"
    page = html_page(
        bad, bad, Picture((0, 1, 0, 1), names=[{"text": bad, "x": 0, "y": 0}]), layer, 3
    )
    assert page.count("</script>") == 2 and "<script>alert" not in page


def test_numbers_and_texts_keep_their_kinds_in_the_files(shown):
    frame = point_resources.stored(shown.points, np.array([0, 1]))
    assert frame["sentence_id"].tolist() == [0, 1] and frame["position"].dtype.kind == "i"
