"""A made-up library and a teacher trained on it, once for all tests of this room."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from training_settings import TEACHER

from benchmarks import tiny_world


@contextmanager
def living_in(home: Path):
    """VIDLANKD_HOME for a while; monkeypatch lives for one test only."""
    before = os.environ.get("VIDLANKD_HOME")
    os.environ["VIDLANKD_HOME"] = str(home)
    try:
        yield home
    finally:
        if before is None:
            del os.environ["VIDLANKD_HOME"]
        else:
            os.environ["VIDLANKD_HOME"] = before


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory) -> Path:
    """A home with the tiny library, a corpus and a trained teacher. Read it, or copy it."""
    from core.training.train_teacher import train_teacher

    with living_in(tmp_path_factory.mktemp("tiny-home")) as home:
        tiny_world.make_library(videos=80)
        (home / "corpus.txt").write_text(tiny_world.corpus_text(300))
        train_teacher(TEACHER)
    return home


@pytest.fixture
def in_tiny_home(tiny_home):
    with living_in(tiny_home):
        yield tiny_home
