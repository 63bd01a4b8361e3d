import pytest

from app import run_views

LINES = [
    {"step": 5, "split": "train", "loss": 3.0, "terms": {"mlm": 2.0, "nst": 1.0}},
    {"step": 10, "split": "train", "loss": 2.0, "terms": {"mlm": 1.5, "nst": 0.5}},
    {"step": 10, "split": "validation", "loss": 2.5, "terms": {"mlm": 2.5}},
]


def test_a_term_has_a_training_and_a_dotted_validation_curve():
    train, validation = run_views.curves("run", LINES, "mlm", place=1)
    assert (train.steps, train.values, train.dotted) == ([5, 10], [2.0, 1.5], False)
    assert (validation.steps, validation.values, validation.dotted) == ([10], [2.5], True)
    assert {train.place, validation.place} == {1}


def test_a_term_that_was_not_logged_has_no_curve():
    assert [c.name for c in run_views.curves("run", LINES, "nst", 0)] == ["run, train"]
    assert run_views.curves("run", LINES, "crd", 0) == []


def test_terms_are_listed_once_in_order_and_a_lone_one_is_the_sum_itself():
    assert run_views.terms(LINES) == ["mlm", "nst"]
    assert run_views.terms([LINES[2]]) == []


def test_nested_settings_become_lines():
    values = {"text": {"num_layers": 3}, "objectives": [], "rate": 0.0001234567, "corpus": ""}
    assert run_views.flat(values) == {
        "text.num_layers": "3",
        "objectives": "none",
        "rate": "0.0001235",
        "corpus": "not set",
    }


@pytest.mark.parametrize("only, wanted", [(True, ["b", "c"]), (False, ["a", "b", "c"])])
def test_side_by_side_can_leave_out_what_is_equal(only, wanted):
    rows = run_views.side_by_side({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}, only)
    assert [row[0] for row in rows] == wanted
    assert rows[-1] == ("c", "", "4")


def test_figures_are_grouped_by_what_they_ask():
    names = ["R@1 things", "peak in interval, things", "R@5 captions", "new"]
    groups = run_views.grouped([{"name": name} for name in names])
    assert {group: [row["name"] for row in rows] for group, rows in groups.items()} == {
        "Words to clips": ["R@1 things"],
        "Words to seconds": ["peak in interval, things"],
        "Captions to clips": ["R@5 captions"],
        "Other": ["new"],
    }


def test_gradient_norms_make_one_curve_a_term_and_leave_out_what_was_not_logged():
    logged = [
        {"step": 5, "split": "train", "terms": {}},
        {"step": 10, "split": "validation", "grad_norms": {"mlm": 2.0, "nst": 0.5}},
        {"step": 20, "split": "validation", "grad_norms": {"mlm": 1.0, "nst": 0.0}},
    ]
    mlm, nst = run_views.gradient_norms(logged)
    assert (mlm.name, mlm.steps, mlm.values) == ("mlm", [10, 20], [2.0, 1.0])
    assert (nst.steps, nst.values, nst.place) == ([10], [0.5], 1)
    assert run_views.gradient_norms(logged[:1]) == []
