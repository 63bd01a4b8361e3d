"""The demo world: rendered videos with narration, text without the facts, and two probes.

A small closed world whose right answers are known. What its things do is told and shown in
the videos alone; the student's text has all the words and none of the facts. So whatever a
student knows of them has come through its teacher.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.config import DemoSettings
from core.data.demo_corpus import write_corpus
from core.data.demo_facts import (
    ACTION_WORDS,
    COLOURS,
    MATERIAL_WORDS,
    MATERIALS,
    THINGS,
    demo_facts,
    word_labels,
)
from core.data.demo_items import write_physics_items, write_time_items
from core.data.demo_narration import mentions, narrate
from core.data.demo_story import Story, plan_stories
from core.orphans import end_with_parent
from core.records import ProbeItem

__all__ = ["DemoWorld", "build_demo_world", "demo_facts", "word_labels"]

Progress = Callable[[int, int, str], None]

# Raised whenever the same settings give another world, so that an old one is not kept.
WORLD_VERSION = 4


@dataclass(frozen=True)
class DemoWorld:
    """A built demo world: `folder` holds media/, captions.csv, ground truth, corpora and probes."""

    folder: Path
    stories: tuple[Story, ...]

    @property
    def videos(self) -> list[Path]:
        return [self.folder / "media" / story.name for story in self.stories]


def build_demo_world(
    settings: DemoSettings, out: Path, progress: Progress | None = None
) -> DemoWorld:
    """Render the videos and write captions, ground truth, corpora and probe items into `out`.

    The same settings give the same bytes with any number of workers. A world that is already
    there is kept unless `settings.force`; world.json, written last, marks a whole one.
    """
    out = Path(out)
    stories = plan_stories(settings.videos, settings.seed, settings.frame_rate)
    world = DemoWorld(out, stories)
    if not settings.force and _is_whole(world, settings):
        return world
    (out / "media").mkdir(parents=True, exist_ok=True)
    (out / "world.json").unlink(missing_ok=True)
    _write_texts(settings, stories, out)
    _render_all(settings, world, progress or (lambda done, total, message: None))
    _write_json(out / "world.json", _describe(settings))
    return world


def _is_whole(world: DemoWorld, settings: DemoSettings) -> bool:
    path = world.folder / "world.json"
    if not path.exists() or json.loads(path.read_text())["made_by"] != _made_by(settings):
        return False
    return all(video.exists() for video in world.videos)


# ---- videos ----------------------------------------------------------------------------


def _render_all(settings: DemoSettings, world: DemoWorld, progress: Progress) -> None:
    jobs = [(s, settings.size, settings.frame_rate, v) for s, v in zip(world.stories, world.videos)]
    workers = max(1, min(settings.workers, len(jobs) // 4))
    if workers == 1:
        for done, job in enumerate(jobs, start=1):
            progress(done, len(jobs), _render(*job))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=end_with_parent) as pool:
        futures = [pool.submit(_render, *job) for job in jobs]
        for done, future in enumerate(as_completed(futures), start=1):
            progress(done, len(jobs), future.result())


def _render(story: Story, size: int, frame_rate: int, path: Path) -> str:
    import cv2

    from core.data.demo_drawing import render_story

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # each worker has one core
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        render_story(story, size, frame_rate, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        cv2.setNumThreads(threads)
    return story.name


# ---- texts -----------------------------------------------------------------------------


def _write_texts(settings: DemoSettings, stories: tuple[Story, ...], out: Path) -> None:
    _write_captions(stories, out / "captions.csv")
    _write_ground_truth(stories, out / "ground_truth.parquet")
    corpus, held_out = write_corpus(settings.corpus_sentences, settings.seed)
    _write_lines(out / "corpus.txt", corpus)
    _write_lines(out / "corpus_heldout.txt", held_out)
    _write_items(out / "demo_physics.jsonl", write_physics_items(settings.items, settings.seed))
    _write_items(out / "demo_time.jsonl", write_time_items(settings.items, settings.seed))


def _write_captions(stories: tuple[Story, ...], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "start", "end", "text"])
        for story in stories:
            for sentence in narrate(story):
                start, end = f"{sentence.start_sec:.2f}", f"{sentence.end_sec:.2f}"
                writer.writerow([f"media/{story.name}", start, end, sentence.text])


def _write_ground_truth(stories: tuple[Story, ...], path: Path) -> None:
    rows = [
        {"video": story.name, "split": story.split, **asdict(mention)}
        for story in stories
        for mention in mentions(story, narrate(story))
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def _write_items(path: Path, items: list[ProbeItem]) -> None:
    _write_lines(path, [json.dumps(asdict(item)) for item in items])


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


# ---- description ------------------------------------------------------------------------


def _made_by(settings: DemoSettings) -> dict:
    """What decides a world's content; workers and force do not."""
    names = ("videos", "size", "frame_rate", "corpus_sentences", "items", "seed")
    return {"version": WORLD_VERSION, **{name: getattr(settings, name) for name in names}}


def _describe(settings: DemoSettings) -> dict:
    return {
        "made_by": _made_by(settings),
        "things": list(THINGS),
        "materials": {m: list(words) for m, words in MATERIAL_WORDS.items() if m in MATERIALS},
        "colours": list(COLOURS),
        "actions": {action: list(words) for action, words in ACTION_WORDS.items()},
        "facts": [{"fact": fact.fact_id, **asdict(fact)} for fact in demo_facts()],
    }


def _write_json(path: Path, content: dict) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
