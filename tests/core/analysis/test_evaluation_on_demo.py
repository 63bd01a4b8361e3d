"""Evaluation on a built demo world: what is perfect must score 1, what is random, chance."""

import dataclasses
import json

import numpy as np
import pytest

from core import config
from core.analysis import evaluation, grounding
from core.analysis.grounding import WordQuery
from core.config import GroundSettings
from core.demo import LIBRARY, STUDENTS, TEACHER
from core.extraction import embeddings
from core.models.run_folder import RunFolder


@pytest.fixture
def demo(tiny_demo, monkeypatch):
    monkeypatch.setenv("VIDLANKD_HOME", str(tiny_demo))
    return tiny_demo


@pytest.fixture
def held_out(demo):
    whole = embeddings.load_clip_embeddings(LIBRARY, TEACHER)
    names = set(RunFolder.open(TEACHER).provenance["held_out_videos"])
    return evaluation.clips_of(whole, names)


def with_seconds(video, seconds):
    """The same clips over other second vectors [S, D]."""
    seconds = (seconds / np.linalg.norm(seconds, axis=1, keepdims=True)).astype(np.float16)
    place = {name: row for row, name in enumerate(video.video_ids)}
    spans = []
    for clip in video.clips:
        first, last = video.second_offsets[place[clip.video_id] :][:2]
        start, end = clip.steps
        spans.append((first + start, min(first + end, last)))
    vectors = embeddings.clip_vectors(seconds, np.array(spans))
    return dataclasses.replace(video, second_vectors=seconds, vectors=vectors)


def truth(video):
    events, mentions = evaluation.load_truth(video)
    labels = sorted({(event.role, event.label) for event in events})
    return events, mentions, labels


def test_vectors_that_know_the_truth_score_one(held_out):
    """Each second is marked with what is to be seen in it, each word with what it means."""
    events, mentions, labels = truth(held_out)
    seconds = np.full((len(held_out.second_vectors), len(labels) + 1), 1e-3)
    for event in events:
        start, stop = held_out.second_offsets[held_out.video_ids.index(event.video_id) :][:2]
        for step in range(stop - start):
            shared = min(step + 1, event.end_sec) - max(step, event.start_sec)
            if shared > 0:
                seconds[start + step, labels.index((event.role, event.label))] = shared
    axes = np.eye(len(labels) + 1)
    queries = [
        WordQuery(m.event, m.word, axes[labels.index((m.event.role, m.event.label))])
        for m in mentions
    ]
    figures = grounding.evaluate_words(queries, events, with_seconds(held_out, seconds), 100)
    assert len(figures) == 12
    for figure in figures:
        assert figure.value == 1.0, figure
        assert 0 < figure.chance < 1


def test_random_vectors_score_chance(held_out):
    events, mentions, _ = truth(held_out)
    rng = np.random.default_rng(0)
    video = with_seconds(held_out, rng.standard_normal((len(held_out.second_vectors), 64)))
    # Many draws for each word, so that the mean is sure.
    queries = [
        WordQuery(mention.event, mention.word, vector)
        for mention in mentions
        for vector in rng.standard_normal((40, 64))
    ]
    for figure in grounding.evaluate_words(queries, events, video, 100):
        assert figure.value == pytest.approx(figure.chance, abs=0.06), figure


def test_every_mentioned_word_is_found_in_its_caption(held_out):
    _, mentions, _ = truth(held_out)
    captions = {clip.video_id: [] for clip in held_out.clips}
    for clip in sorted(held_out.clips, key=lambda clip: clip.start_sec):
        captions[clip.video_id].append(clip.caption.lower())
    assert mentions
    for mention in mentions:
        assert mention.word in captions[mention.event.video_id][mention.sentence_index]


def test_teacher_and_students_are_reported_and_kept(demo):
    settings = GroundSettings(library=LIBRARY, evaluate=True, bootstrap=200)
    reports = evaluation.evaluate_runs(settings)
    assert {report.run for report in reports} == {TEACHER, *STUDENTS}
    assert reports[0].run == TEACHER
    for report in reports:
        kept = json.loads((config.runs_root() / report.run / "grounding" / "demo.json").read_text())
        assert kept == json.loads(json.dumps(evaluation.as_json(report)))
        for figure in report.figures:
            assert figure.interval.low <= figure.value <= figure.interval.high
        how = {"demo-crd": "crd head", "demo-nst-crd": "crd head", TEACHER: "trained"}
        assert report.alignment == how.get(report.run, "ridge")
        assert (report.alignment_r2 is None) == (report.run == TEACHER)


def test_a_trained_teacher_finds_unseen_clips_better_than_chance(demo):
    settings = GroundSettings(library=LIBRARY, evaluate=True, bootstrap=500)
    (report,) = evaluation.evaluate_runs(settings, [TEACHER])
    figures = {figure.name: figure for figure in report.figures}
    assert figures["R@10 captions"].interval.low > figures["R@10 captions"].chance
