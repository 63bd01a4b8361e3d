"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests load hub models only from folders they make
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

REPO_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """An empty home for cached_features/ and runs/, for this test alone."""
    monkeypatch.setenv("VIDLANKD_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the project; skips where it is absent."""
    folder = REPO_ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data sets: the folder shared/data beside the project is absent")
    return folder


# A demo small enough for every test session, trained long enough for the chain to be true.
TINY_DEMO = {"videos": 72, "size": 224, "corpus_sentences": 1500, "items": 300}
TINY_STEPS = {"teacher_steps": 250, "student_steps": 60}


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory) -> Path:
    """A home with a built demo: rendered, imported, extracted, trained, embedded, evaluated."""
    home = tmp_path_factory.mktemp("tiny_demo")
    before = os.environ.get("VIDLANKD_HOME")
    os.environ["VIDLANKD_HOME"] = str(home)
    try:
        from core.config import DemoSettings
        from core.demo import run_demo

        run_demo(DemoSettings(**TINY_DEMO, **TINY_STEPS))
        yield home
    finally:
        os.environ.pop("VIDLANKD_HOME", None)
        if before is not None:
            os.environ["VIDLANKD_HOME"] = before
