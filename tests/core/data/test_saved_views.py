"""Named views: kept, replaced, deleted, and honest about what cannot be read."""

from __future__ import annotations

import pytest

from core import config
from core.data.saved_views import SavedViewError, delete_view, list_views, save_view


def test_a_view_is_found_as_it_was_saved(workspace):
    save_view("projections", "  nouns  of the lake ", {"source": "demo", "select": "box:0,1,2,3"})
    (view,) = list_views("projections")
    assert view.name == "nouns of the lake"
    assert view.query == {"source": "demo", "select": "box:0,1,2,3"}
    assert list_views("probes") == []


def test_the_same_name_replaces_and_order_is_of_saving(workspace):
    for name, run in (("a", "1"), ("b", "2"), ("a", "3")):
        save_view("projections", name, {"run": run})
    assert [(v.name, v.query["run"]) for v in list_views("projections")] == [("b", "2"), ("a", "3")]


def test_a_deleted_view_is_gone_and_deleting_twice_is_no_fault(workspace):
    save_view("projections", "a", {})
    delete_view("projections", "a")
    delete_view("projections", "a")
    assert list_views("projections") == []


@pytest.mark.parametrize("name", ["", "   ", "x" * 61])
def test_a_name_must_be_one(workspace, name):
    with pytest.raises(SavedViewError, match="1 to 60"):
        save_view("projections", name, {})


def test_a_view_too_large_for_a_link_is_refused(workspace):
    with pytest.raises(SavedViewError, match="simpler"):
        save_view("projections", "a", {"select": "1," * 20_000})


def test_a_damaged_file_is_named_and_not_overwritten(workspace):
    path = config.cache_root() / ".views" / "projections.json"
    path.parent.mkdir(parents=True)
    path.write_text('[{"name": "a"')
    for act in (lambda: list_views("projections"), lambda: save_view("projections", "b", {})):
        with pytest.raises(SavedViewError, match=r"projections\.json"):
            act()
    assert path.read_text() == '[{"name": "a"'
