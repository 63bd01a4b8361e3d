"""The teacher: it learns to see what words mean, on clips that it was not shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from training_settings import TEACHER

from benchmarks import tiny_world
from core.config import SettingsError
from core.data.video_library import load_library
from core.models.run_folder import RunFolder, load_model
from core.training.loop import seed_everything
from core.training.train_teacher import (
    NothingToLearn,
    TeacherTask,
    clip_rows,
    load_teacher_features,
    split_clips,
    train_teacher,
)


@pytest.fixture
def parts(in_tiny_home):
    run = RunFolder.open(TEACHER.name)
    library = load_library(tiny_world.NAME)
    features = load_teacher_features(TEACHER)
    _, held_out, _ = split_clips(library, features, TEACHER)
    rows = clip_rows(TEACHER, held_out, features, run.load_tokenizer())
    return run, held_out, rows


def with_settings(name, steps=3, **values):
    training = dataclasses.replace(TEACHER.training, steps=steps)
    return dataclasses.replace(TEACHER, name=name, training=training, **values)


def test_words_find_their_clips_among_videos_never_trained_on(parts):
    run, clips, rows = parts
    teacher, tokenizer = load_model(run.name)
    with torch.no_grad():
        vectors = teacher.encode_video(rows.video(range(len(clips)))).clip_vectors
        text = tokenizer.encode_batch([f"now the {t} rolls" for t in tiny_world.THINGS], 32).batch
        tokens = teacher.encode_text(text).token_vectors[:, 3]  # the thing's word
    best = (tokens @ vectors.T).argmax(dim=1).tolist()
    right = [t in clips[i].caption for t, i in zip(tiny_world.THINGS, best)]
    assert np.mean(right) >= 0.75  # chance is one in eight


def test_no_held_out_video_is_trained_on(parts):
    run, held_out, _ = parts
    told = set(run.provenance["held_out_videos"])
    assert {clip.video_id for clip in held_out} <= told
    training, _, _ = split_clips(
        load_library(tiny_world.NAME), load_teacher_features(TEACHER), TEACHER
    )
    assert not {clip.video_id for clip in training} & told
    assert len(told) == 20


def test_both_losses_fall_and_provenance_tells_where_from(parts):
    run, _, _ = parts
    lines = [x for x in run.metrics() if x["split"] == "train"]
    for term in ("contrast", "mlm"):
        assert lines[-1]["terms"][term] < 0.7 * lines[0]["terms"][term]
    provenance = run.provenance
    assert set(provenance["inputs"]) == {"library", "features", "tokenizer", "processes"}
    assert provenance["weights_hash"] == run.weights_hash()
    assert provenance["seed"] == 0 and provenance["libraries"]["torch"] == torch.__version__


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(in_tiny_home):
    one, two = (train_teacher(with_settings(name)) for name in ("same-one", "same-two"))
    assert one.weights_hash() == two.weights_hash()
    other = with_settings("other-seed")
    other = dataclasses.replace(other, training=dataclasses.replace(other.training, seed=1))
    assert train_teacher(other).weights_hash() != one.weights_hash()


@pytest.mark.parametrize(
    "values",
    [
        {"contrast": "hinge"},
        {"contrast_level": "sentence"},
        {"contrast": "hinge", "negatives": "paired"},
        {"pooling": "cls"},
        {"image_only": True, "streams": "2d"},
        {"streams": "temporal"},
        {"mlm_weight": 0.0},
        {"contrast_weight": 0.0},
    ],
    ids=lambda v: "-".join(map(str, v)),
)
def test_every_variant_trains_and_loads(in_tiny_home, values):
    name = "v-" + "-".join(f"{k}-{v}" for k, v in values.items()).replace("_", "").replace(" ", "")
    run = train_teacher(with_settings(name, **values))
    assert run.status["state"] == "finished"
    assert load_model(run.name)[0].settings == run.settings


def test_clips_of_one_caption_are_no_negatives(parts):
    _, clips, rows = parts
    batch = rows.batch(range(len(clips)), np.arange(len(clips)), (0, 0))
    captions = [clip.caption for clip in clips]
    same = batch.groups[:, None] == batch.groups
    assert same.tolist() == [[a == b for b in captions] for a in captions]


def test_the_contrast_does_not_see_hidden_words(parts, in_tiny_home):
    run, clips, rows = parts
    task = TeacherTask(run.load_model(), rows, rows)
    batch = rows.batch(range(8), np.arange(8), (0, 3))
    text = batch.rows.text
    hidden = text.labels >= 0
    seen = []
    task.contrast = lambda tokens, clips, mask, batch: seen.append(mask) or tokens.sum()
    task.eval()(batch)
    assert hidden.any() and not seen[0][hidden].any()
    assert torch.equal(seen[0] | hidden, text.content_mask)


def test_an_image_only_teacher_gets_one_step_of_the_clip(parts):
    _, clips, _ = parts
    settings = dataclasses.replace(TEACHER, image_only=True, streams="2d")
    features = load_teacher_features(settings)
    rows = clip_rows(settings, clips, features, RunFolder.open(TEACHER.name).load_tokenizer())
    batch = rows.batch(range(6), np.arange(6), (0, 9)).rows.video
    assert batch.features.shape[1] == 1
    for row in range(6):
        first, end = clips[row].steps
        own = features.video(clips[row].video_id)[first:end]
        assert any(np.array_equal(batch.features[row, 0].numpy(), step) for step in own)


def test_initial_weights_do_not_depend_on_what_was_drawn_before(in_tiny_home):
    seed_everything(5)
    first = torch.rand(3)
    torch.rand(100)
    seed_everything(5)
    assert torch.equal(torch.rand(3), first)


def test_what_cannot_be_learned_from_is_said(in_tiny_home, tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match="Wanted contrast hinge, .* found 'triplet'"):
        train_teacher(with_settings("bad", contrast="triplet"))
    with pytest.raises(SettingsError, match="streams=2d"):
        train_teacher(with_settings("bad", image_only=True))
    library = load_library(tiny_world.NAME)
    silent = dataclasses.replace(
        library, clips=tuple(dataclasses.replace(c, caption="") for c in library.clips)
    )
    with pytest.raises(NothingToLearn, match="caption"):
        split_clips(silent, load_teacher_features(TEACHER), TEACHER)
