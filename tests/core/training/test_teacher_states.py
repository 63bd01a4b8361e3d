"""Cached teacher states are the live ones of text with nothing hidden, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from training_settings import TEACHER, TEXT

from core.config import DistillSettings, SettingsError
from core.data.text_corpus import load_corpus
from core.feature_cache import CacheError
from core.models.run_folder import RunFolder
from core.models.teacher import Teacher
from core.training import teacher_states
from core.training.distill_student import (
    StudentTask,
    distill,
    head_arguments,
    new_student,
    split_rows,
)
from core.training.loop import make_accelerator
from core.training.teacher_states import cached_states, states_folder

STUDENT = DistillSettings(
    teacher=TEACHER.name,
    teacher_states="cached",
    text=dataclasses.replace(TEXT, num_layers=1, hidden_size=32, dropout=0.0),
    training=dataclasses.replace(TEACHER.training, steps=6, evaluate_every=6),
)
ODD = "The [MASK] ball rolls [SEP] away.\nIt falls.\n" + "The vase slides on the table. " * 40


@pytest.fixture
def reader(in_tiny_home, tmp_path, monkeypatch):
    """Teacher's run, teacher, a corpus of short, long and odd lines, tokenizer; small keys."""
    monkeypatch.setattr(teacher_states, "BLOCKS_PER_KEY", 4)
    monkeypatch.setattr(teacher_states, "ROWS_AT_ONCE", 3)
    run = RunFolder.open(TEACHER.name)
    (tmp_path / "odd.txt").write_text(ODD)
    tokenizer = run.load_tokenizer()
    corpus = load_corpus(str(tmp_path / "odd.txt"), tokenizer, TEXT.max_tokens)
    yield run, run.load_model().eval(), corpus, tokenizer
    for folder in (in_tiny_home / "cached_features/corpora").glob("states-*"):
        shutil.rmtree(folder)


def opened(run, teacher, corpus, tokenizer):
    accelerator = make_accelerator(STUDENT.training)
    return cached_states(run, teacher, corpus, tokenizer, accelerator)


def count_forwards(monkeypatch) -> list:
    calls, original = [], Teacher.encode_text

    def counted(self, text, *arguments, **how):
        calls.append(len(text.mask))
        return original(self, text, *arguments, **how)

    monkeypatch.setattr(Teacher, "encode_text", counted)
    return calls


def test_states_are_the_teachers_of_the_text_as_it_stands(reader):
    run, teacher, corpus, tokenizer = reader
    states = opened(*reader)
    assert len(corpus) > 8  # several keys
    blocks = np.array([7, 0, 5, 1])
    text = tokenizer.text_batch(corpus.rows(blocks))
    taught = states.beside(text, blocks)
    with torch.no_grad():
        wanted = teacher.encode_text(text).token_states
    mask = text.content_mask
    torch.testing.assert_close(taught.states[mask].float(), wanted[mask], atol=2e-3, rtol=2e-3)
    assert not taught.states[~text.mask].any()
    assert torch.equal(taught.token_ids, text.token_ids)
    assert isinstance(taught.to("cpu"), teacher_states.TaughtText)


def test_the_second_opening_computes_nothing(reader, monkeypatch):
    opened(*reader)
    calls = count_forwards(monkeypatch)
    opened(*reader)
    assert calls == []


def test_an_interrupted_reading_goes_on_where_it_was(reader, monkeypatch):
    run, teacher, corpus, tokenizer = reader
    whole = [np.array(opened(*reader).block(b)) for b in range(len(corpus))]
    folder = next(states_folder(run, {}).parent.glob("states-*"))
    (folder / "manifest.json").unlink()
    (folder / "shards/00000.parquet").unlink()
    again = opened(*reader)
    for number, block in enumerate(whole):
        np.testing.assert_array_equal(again.block(number), block)


def test_another_text_and_another_teacher_get_states_of_their_own(reader, in_tiny_home):
    run, _, corpus, tokenizer = reader
    one = states_folder(run, teacher_states._identity(run, corpus, tokenizer))
    other = load_corpus(str(in_tiny_home / "corpus.txt"), tokenizer, TEXT.max_tokens)
    assert states_folder(run, teacher_states._identity(run, other, tokenizer)) != one

    class Retrained(RunFolder):
        def weights_hash(self):
            return "0" * 64

    retrained = Retrained(run.path)
    assert states_folder(run, teacher_states._identity(retrained, corpus, tokenizer)) != one


def test_stale_states_are_refused(reader):
    opened(*reader)
    run = reader[0]
    folder = next(states_folder(run, {}).parent.glob("states-*"))
    plan = json.loads((folder / "plan.json").read_text())
    plan["settings"]["teacher"] = "0" * 64
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(CacheError, match="other settings"):
        opened(*reader)


@pytest.mark.parametrize("names", [("nst", "crd"), ("regression",), ("voken",)], ids="+".join)
def test_a_student_learns_from_cached_states_without_the_teachers_forward(
    in_tiny_home, names, monkeypatch
):
    settings = dataclasses.replace(
        STUDENT,
        name=f"cached-{names[0]}",
        objectives=names,
        corpus=str(in_tiny_home / "corpus.txt"),
    )
    corpus = load_corpus(
        settings.corpus, RunFolder.open(TEACHER.name).load_tokenizer(), TEXT.max_tokens
    )
    calls = count_forwards(monkeypatch)
    run = distill(
        dataclasses.replace(settings, training=dataclasses.replace(STUDENT.training, steps=30))
    )
    # Each block once, on whichever test came first; none at the steps.
    assert sum(calls) in (0, len(corpus))
    terms = [x["terms"] for x in run.metrics() if x["split"] == "train"]
    for name in names:
        assert terms[-1][name] < terms[0][name]


def test_the_objective_is_that_of_a_teacher_that_reads_unmasked_text(in_tiny_home):
    """One batch by hand: student on hidden words, teacher on the text as it stood."""
    run = RunFolder.open(TEACHER.name)
    tokenizer, teacher = run.load_tokenizer(), run.load_model().eval()
    settings = dataclasses.replace(
        STUDENT, objectives=("regression",), corpus=str(in_tiny_home / "corpus.txt")
    )
    corpus = load_corpus(settings.corpus, tokenizer, TEXT.max_tokens)
    states = opened(run, teacher, corpus, tokenizer)
    student, heads = new_student(settings, head_arguments(settings, teacher), tokenizer)
    weights = {"mlm": 1.0, "regression": 1.0}
    rows = split_rows(settings, corpus, tokenizer)
    task = StudentTask(student, teacher, heads, weights, *rows, states=states).eval()
    batch = task.batch(np.arange(8), np.arange(8), (0, 0))
    assert (batch.labels >= 0).any()
    found = task(batch)["regression"]
    ids = torch.where(batch.labels >= 0, batch.labels, batch.token_ids)
    whole = dataclasses.replace(batch, token_ids=ids, labels=None)
    with torch.no_grad():
        theirs, live = (teacher.encode_text(t).token_states for t in (whole, batch))
        own = student.encode_text(batch).token_states
        wanted, masked = (heads["regression"](own, s, batch.content_mask) for s in (theirs, live))
    assert found.item() == pytest.approx(wanted.item(), rel=2e-4)  # float16's rounding
    assert found.item() != pytest.approx(masked.item(), rel=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teacher_states": "cache"}, "teacher_states live or cached, found 'cache'"),
        ({"objectives": ("nst", "soft_label")}, "'soft_label' wants the teacher's logits"),
    ],
    ids=["unknown", "logits"],
)
def test_what_cannot_be_cached_is_refused(in_tiny_home, values, message):
    with pytest.raises(SettingsError, match=message):
        distill(dataclasses.replace(STUDENT, name="impossible", corpus="x.txt", **values))
