"""Scores are computed once, survive a kill, and are never read damaged."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from core import score_cache
from core.config import REPO_ROOT
from core.inference import Encoder
from core.records import ProbeItem
from core.score_cache import ScoreCache, ScoreCacheError, ScoringStopped, score_items
from core.scoring import score_texts

WORDS = ["bottle", "drop", "it", "time", "house", "water", "day", "great", "world", "city"]


def make_items(count: int, seed: int = 0) -> list[ProbeItem]:
    generator = np.random.default_rng(seed)
    pick = lambda n: " ".join(generator.choice(WORDS, n))  # noqa: E731
    return [
        ProbeItem(f"{i}", "test", pick(3), (f"{i} {pick(3)}", f"{i} {pick(5)}"), 0)
        for i in range(count)
    ]


@pytest.fixture
def encoder(saved):
    return Encoder(saved.teacher())


@pytest.fixture
def calls(encoder, monkeypatch) -> list[int]:
    """How many rows each call of the model had."""
    seen, real = [], encoder.model.asked_logits
    monkeypatch.setattr(
        encoder.model,
        "asked_logits",
        lambda batch: seen.append(len(batch.token_ids)) or real(batch),
    )
    return seen


def test_kept_scores_are_those_of_score_texts(encoder):
    items = make_items(12)
    wanted = score_texts(encoder, [i.context for i in items], [i.choices for i in items])
    score_items(encoder, items)
    for row, again in zip(wanted, ScoreCache.of("teacher", "PLL-word-l2r").lookup(items)):
        for one, other in zip(row, again, strict=True):
            np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-5)
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert list(one.tokens) == list(other.tokens)


def test_a_second_run_computes_nothing(encoder, calls):
    items = make_items(12)
    first = score_items(encoder, items)
    assert calls
    calls.clear()
    second = score_items(encoder, items)
    assert not calls
    assert [[s.score for s in row] for row in first] == [[s.score for s in row] for row in second]


def test_only_what_is_missing_is_computed(encoder, calls):
    items = make_items(12)
    score_items(encoder, items[:5])
    calls.clear()
    scored = score_items(encoder, items)
    assert sum(calls) == sum(len(s.log_probs) for row in scored[5:] for s in row)
    # The same texts in another order and another task are the same texts.
    calls.clear()
    turned = [ProbeItem("x", "other", i.context, i.choices[::-1], None) for i in items]
    again = score_items(encoder, turned)
    assert not calls
    for row, other in zip(scored, again):
        assert [x.score for x in row[::-1]] == [x.score for x in other]


def test_models_and_methods_are_kept_apart(encoder, saved):
    items = make_items(3)
    score_items(encoder, items, "PLL")
    assert ScoreCache.of("teacher", "pll").lookup(items)[0] is not None
    assert ScoreCache.of("teacher", "PLL-word-l2r").lookup(items) == [None] * 3
    saved.teacher("other", seed=5)
    assert ScoreCache.of("other", "PLL").lookup(items) == [None] * 3


def test_readers_see_results_come_in(encoder, monkeypatch):
    monkeypatch.setattr(score_cache, "PART_SEC", 0.0)
    monkeypatch.setattr(score_cache, "PIECES_PER_STEP", 20)
    items, reader, seen = make_items(20), ScoreCache(encoder.hash, "PLL"), []

    def progress(done, total, _):
        seen.append(sum(row is not None for row in reader.lookup(items)))

    score_items(encoder, items, "PLL", progress)
    assert len(set(seen)) > 3 and seen == sorted(seen) and seen[-1] == len(items)
    assert len(os.listdir(reader.folder)) == 1  # joined in the end
    assert None not in reader.lookup(items) + ScoreCache(encoder.hash, "PLL").lookup(items)


def test_a_cancelled_run_keeps_what_it_did(encoder, calls, monkeypatch):
    monkeypatch.setattr(score_cache, "PIECES_PER_STEP", 20)
    items = make_items(20)
    with pytest.raises(ScoringStopped, match="kept"):
        score_items(encoder, items, cancel=lambda: len(calls) >= 3)
    kept = sum(row is not None for row in ScoreCache(encoder.hash, "PLL-word-l2r").lookup(items))
    assert 0 < kept < len(items)
    before = sum(calls)
    scored = score_items(encoder, items)
    assert sum(calls) == sum(len(s.log_probs) for row in scored for s in row) > before


def test_a_damaged_part_is_refused_with_the_command_that_mends_it(encoder):
    items = make_items(4)
    score_items(encoder, items)
    (part,) = ScoreCache(encoder.hash, "PLL-word-l2r").folder.glob("part-*.npz")
    whole = part.read_bytes()
    for damaged in (whole[: len(whole) // 2], _flipped(whole, len(whole) // 3), b""):
        part.write_bytes(damaged)
        with pytest.raises(ScoreCacheError, match=f"rm '{part}'"):
            ScoreCache(encoder.hash, "PLL-word-l2r").lookup(items)
    part.unlink()
    assert None not in score_items(encoder, items)


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


def test_a_part_that_was_being_written_is_no_part(encoder):
    items = make_items(2)
    cache = ScoreCache(encoder.hash, "PLL")
    cache.folder.mkdir(parents=True)
    (cache.folder / f".part-{'0' * 32}.npz.tmp").write_bytes(b"half")
    assert cache.lookup(items) == [None, None]


def test_a_killed_run_leaves_whole_parts(encoder, workspace):
    """SIGKILL while parts are being written; what can be read is right, and nothing is damaged."""
    items = make_items(400)
    process = multiprocessing.get_context("spawn").Process(target=_score_slowly, args=("teacher",))
    process.start()
    cache = ScoreCache(encoder.hash, "PLL")
    deadline = time.monotonic() + 60
    while sum(row is not None for row in cache.lookup(items)) < 10:
        assert time.monotonic() < deadline and process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kept = [row for row in ScoreCache(encoder.hash, "PLL").lookup(items) if row is not None]
    assert 10 <= len(kept) < len(items)
    wanted = score_items(encoder, items, "PLL")
    assert len(wanted) == len(items) and None not in wanted


def _score_slowly(run: str) -> None:
    score_cache.PART_SEC, score_cache.PIECES_PER_STEP = 0.0, 20
    score_items(Encoder.open(run), make_items(400), "PLL")


def test_two_processes_at_once_give_one_whole_set(encoder, workspace):
    items = make_items(400)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_score_slowly, args=("teacher",)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    found = ScoreCache(encoder.hash, "PLL").lookup(items)
    wanted = score_texts(
        encoder, [i.context for i in items[:20]], [i.choices for i in items[:20]], "PLL"
    )
    for row, again in zip(wanted, found):
        for one, other in zip(row, again, strict=True):
            np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-5)
    assert None not in found


def test_reading_needs_no_torch_and_is_fast(encoder):
    score_items(encoder, make_items(1838))
    code = (
        "import sys, time\n"
        "from tests.core.test_score_cache import make_items\n"
        "from core.score_cache import ScoreCache\n"
        "assert 'torch' not in sys.modules, 'the test itself imported torch'\n"
        "items = make_items(1838)\n"
        "cache = ScoreCache.of('teacher', 'PLL-word-l2r')\n"
        "assert None not in cache.lookup(items)\n"
        "start = time.process_time()\n"
        "assert None not in ScoreCache.of('teacher', 'PLL-word-l2r').lookup(items)\n"
        "opened = time.process_time() - start\n"
        "start = time.process_time()\n"
        "cache.lookup(items)\n"
        "took = time.process_time() - start\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "print(opened, took)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # Time of this process alone: others on the machine do not count.
    opened, took = map(float, done.stdout.split())
    assert opened < 0.5 and took < 0.05
