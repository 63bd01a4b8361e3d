"""The demo is the whole chain: what it leaves behind is complete, true and small."""

from __future__ import annotations

import json

import pytest

from core import config, demo
from core.config import DemoSettings
from core.data.video_library import load_library
from core.models.run_folder import list_runs


@pytest.fixture(autouse=True)
def home(tiny_demo, monkeypatch):
    monkeypatch.setenv("VIDLANKD_HOME", str(tiny_demo))


def test_demo_has_rendered_and_real_videos():
    videos = load_library("demo").videos
    rendered = [v for v in videos if v.path.is_relative_to(demo.demo_folder())]
    assert len(rendered) == 72
    assert {v.path.name for v in videos} - {v.path.name for v in rendered} == set(demo.REAL_CLIPS)


def test_demo_leaves_a_teacher_and_four_students():
    runs = {run.name: run for run in list_runs()}
    assert set(runs) == {demo.TEACHER, *demo.STUDENTS}
    assert {run.state for run in runs.values()} == {"finished"}
    assert runs["demo-text-only"].objectives == ()


def test_a_second_build_does_nothing(monkeypatch):
    def fail(*_):
        raise AssertionError("a stage ran again")

    monkeypatch.setattr(demo, "_stages", fail)
    assert list(demo.run_demo(DemoSettings())) == list(demo.STAGES)


def test_teacher_grounds_held_out_words_well_above_chance():
    """The tiny demo learns less than the full one; far above chance it must be all the same."""
    report = json.loads((config.runs_root() / demo.TEACHER / "grounding/demo.json").read_text())
    figures = {figure["name"]: figure for figure in report["figures"]}
    words = figures["R@1 things and actions"]
    assert words["interval"]["low"] > words["chance"] + 0.1


def test_probe_items_are_there():
    for name in ("demo_physics", "demo_time"):
        lines = (demo.demo_folder() / f"{name}.jsonl").read_text().splitlines()
        assert len(lines) >= 300
        item = json.loads(lines[0])
        assert len(item["choices"]) == 2 and item["label"] in (0, 1)


def test_every_run_has_its_scores_of_the_demos_probes():
    from core.data.probe_tasks import load_items
    from core.score_cache import ScoreCache

    items = [item for task in demo.PROBES for item in load_items(task)]
    for run in (demo.TEACHER, *demo.STUDENTS):
        assert ScoreCache.of(run, "PLL-word-l2r").missing(items) == []


def test_nothing_trained_or_rendered_lies_outside_the_home(tiny_demo):
    assert config.cache_root().is_relative_to(tiny_demo)
    for video in load_library("demo").videos:
        assert video.path.is_relative_to(tiny_demo) or video.path.name in demo.REAL_CLIPS
