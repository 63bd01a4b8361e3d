"""Distillation: every objective teaches, the control differs in nothing else."""

from __future__ import annotations

import dataclasses
import math
import os
from signal import SIGINT

import pytest
import torch
from training_settings import TEACHER, TEXT

from core.config import DistillSettings, SettingsError
from core.losses.catalog import DISTILLATION_LOSSES
from core.models.run_folder import RunError, RunFolder, list_runs, load_model
from core.models.student import Student
from core.training.distill_student import distill
from core.training.loop import TrainingStopped
from core.training.train_teacher import train_teacher

STUDENT = DistillSettings(
    name="student",
    teacher=TEACHER.name,
    text=dataclasses.replace(TEXT, num_layers=1, hidden_size=32),
    training=dataclasses.replace(TEACHER.training, steps=30, evaluate_every=15),
)


@pytest.fixture
def student(in_tiny_home):
    """Settings of a student in the tiny home, with values replaced."""

    def with_values(name, steps=30, **values):
        training = dataclasses.replace(STUDENT.training, steps=steps)
        corpus = str(in_tiny_home / "corpus.txt")
        return dataclasses.replace(STUDENT, name=name, corpus=corpus, training=training, **values)

    return with_values


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_every_objective_falls_with_a_student_of_other_size(student, name):
    run = distill(student(f"one-{name.replace('_', '-')}", objectives=(name,)))
    terms = [x["terms"] for x in run.metrics() if x["split"] == "train"]
    assert set(terms[0]) == {"mlm", name}
    assert terms[-1][name] < terms[0][name]
    assert all(math.isfinite(t[name]) for t in terms)


def test_nst_and_crd_together_leave_a_student_and_its_heads(student):
    run = distill(student("nst-crd", objectives=("nst", "crd"), weights=(1.0, 0.5)))
    lines = [x for x in run.metrics() if x["split"] == "train"]
    last = lines[-1]
    expected = last["terms"]["mlm"] + last["terms"]["nst"] + 0.5 * last["terms"]["crd"]
    assert last["loss"] == pytest.approx(expected)
    model, tokenizer = load_model("nst-crd")
    assert isinstance(model, Student)
    assert not any("head" in n and "mlm_head" not in n for n in model.state_dict())
    heads = run.load_heads()
    states = model.encode_text(tokenizer.encode_batch(["the ball rolls"], 32).batch).token_states
    assert heads["crd"].student_head(states).shape[-1] == 128
    saved = run.load_weights("heads.safetensors")
    assert torch.equal(heads["crd"].teacher_head[0].weight, saved["crd.teacher_head.0.weight"])


def test_a_text_only_student_sees_the_same_text_in_the_same_order(student):
    """With weight zero a distilled student must walk the control's very way."""
    control = distill(student("control", objectives=()))
    silent = distill(student("silent", objectives=("nst", "crd"), weights=(0.0, 0.0)))
    for a, b in zip(control.metrics(), silent.metrics()):
        assert a["step"] == b["step"]
        assert a["terms"]["mlm"] == pytest.approx(b["terms"]["mlm"], abs=1e-5)
    one, two = control.load_weights(), silent.load_weights()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-4)


def test_the_teacher_is_left_as_it_was(student, in_tiny_home):
    before = RunFolder.open(TEACHER.name).weights_hash()
    run = distill(student("harmless", steps=5))
    assert run.provenance["teacher"] == {"name": TEACHER.name, "hash": before}
    assert RunFolder.open(TEACHER.name).weights_hash() == before
    info = next(i for i in list_runs() if i.name == "harmless")
    assert info.teacher == TEACHER.name and info.objectives == ("nst", "crd")


def test_the_student_reads_with_the_teachers_tokenizer(student):
    run = distill(student("reader", steps=3))
    teacher = RunFolder.open(TEACHER.name)
    assert run.load_tokenizer().content_hash == teacher.load_tokenizer().content_hash


def test_a_control_without_any_teacher_takes_bert(student):
    run = distill(student("alone", steps=2, objectives=(), teacher="nobody"))
    assert run.load_tokenizer().vocab_size == 30522
    assert run.info().teacher == ""


def test_a_control_may_begin_before_its_teacher_is_done(student, in_tiny_home):
    unfinished = dataclasses.replace(TEACHER, name="unfinished")
    with pytest.raises(TrainingStopped):
        train_teacher(unfinished, lambda done, *_: done == 10 and os.kill(os.getpid(), SIGINT))
    run = distill(student("eager", steps=2, objectives=(), teacher="unfinished"))
    tokenizer = RunFolder.open("unfinished").load_tokenizer()
    assert run.load_tokenizer().content_hash == tokenizer.content_hash
    with pytest.raises(RunError, match="'unfinished' has no weights yet: it is stopped"):
        distill(student("impatient", steps=2, teacher="unfinished"))


def test_without_heads_a_student_of_equal_width_is_compared_directly(student):
    text = dataclasses.replace(TEXT, num_layers=1)
    run = distill(student("headless", steps=5, objectives=("nst", "crd"), heads=False, text=text))
    assert not any("head" in name for name in run.load_weights("heads.safetensors"))
    assert set(run.load_heads()) == {"nst", "crd"}
    with pytest.raises(SettingsError, match="hidden_size=48"):
        distill(student("narrow", objectives=("regression",), heads=False))


def test_the_offset_of_crd_is_kept_with_its_heads_and_the_queue_is_not(student):
    run = distill(student("queue", steps=6, objectives=("crd",), crd_negatives="queue"))
    saved = run.load_weights("heads.safetensors")
    assert all(not saved[name].dim() for name in saved if ".loss." in name)
    assert saved["crd.loss.offset_is_set"] and saved["crd.loss.offset"] != 0
    assert run.load_heads()["crd"].loss.offset == saved["crd.loss.offset"]


def test_half_precision_export_halves_the_file(student):
    half = student("half", steps=3)
    half = dataclasses.replace(
        half, training=dataclasses.replace(half.training, weights_dtype="float16")
    )
    small = (distill(half).path / "model.safetensors").stat().st_size
    full = (distill(student("full", steps=3)).path / "model.safetensors").stat().st_size
    assert small < 0.55 * full
    a, b = (RunFolder.open(n).load_weights() for n in ("half", "full"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objectives": ("nts",)}, "Did you mean 'nst'"),
        ({"objectives": ("nst", "nst")}, "Each objective once"),
        ({"weights": (1.0,)}, "one weight per objective"),
        ({"crd_negatives": "all"}, "crd_negatives batch or queue"),
        ({"teacher": "nobody"}, "No run 'nobody'"),
        ({"text": dataclasses.replace(TEXT, max_tokens=64)}, "text.max_tokens=32"),
    ],
    ids=["unknown", "twice", "weights", "negatives", "no-teacher", "too-long"],
)
def test_impossible_settings_say_what_is_wanted(student, values, message):
    with pytest.raises((SettingsError, RunError), match=message):
        distill(student("impossible", **values))


def test_a_student_is_no_teacher(student):
    distill(student("pupil", steps=2))
    with pytest.raises(SettingsError, match="found the student 'pupil'"):
        distill(student("grandchild", teacher="pupil"))
