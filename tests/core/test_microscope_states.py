"""Students at moments of their training: the right weights, the right text, and honest refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from core.config import TrainingSettings
from core.microscope_states import Microscope, Stage, stages
from core.models.run_folder import RunError, RunFolder
from core.training.distill_student import distill, new_student

SENTENCES = [f"the bottle number {n} drops and shatters how fast" for n in range(60)]


@pytest.fixture
def student(saved, workspace) -> RunFolder:
    """A student trained for eight steps by a random teacher, with two snapshots."""
    saved.teacher()
    return distill(settings(saved, workspace))


def settings(saved, workspace, name="student", **values):
    from core.config import DistillSettings

    corpus = workspace / "corpus.txt"
    corpus.write_text("\n".join(SENTENCES))
    training = TrainingSettings(
        steps=8, batch_size=8, warmup_steps=2, evaluate_every=4, learning_rate=3e-3, snapshots=1
    )
    made = DistillSettings(
        name=name, corpus=str(corpus), text=saved.shape, training=training, validation_fraction=0.2
    )
    return dataclasses.replace(made, **values)


def test_stages_are_the_untrained_student_the_snapshots_and_the_export(student):
    assert stages(student) == [Stage(0, "untrained"), Stage(4, "snapshot"), Stage(8, "exported")]


def test_each_stage_shows_its_own_weights(student):
    opened = Microscope.open("student")
    untrained, snapshot, exported = opened.stages()
    found = [opened._student(stage)[0].state_dict() for stage in opened.stages()]
    kept = student.snapshot(4).load_weights()
    assert all(torch.equal(found[1][name], kept[name]) for name in kept)
    weights = student.load_weights()
    assert all(torch.equal(found[2][name], weights[name]) for name in weights)
    first = new_student(student.settings, student.provenance["heads"], opened.tokenizer)[0]
    assert all(torch.equal(found[0][n], t) for n, t in first.state_dict().items())
    name = "text_encoder.token_embedding.weight"
    assert not torch.equal(found[0][name], found[1][name])
    assert not torch.equal(found[1][name], found[2][name])


def test_the_untrained_stage_is_where_training_began(saved, workspace):
    """A run of one step at learning rate 0 exports the weights that it began with."""
    saved.teacher()
    made = settings(saved, workspace, "still")
    training = dataclasses.replace(made.training, steps=1, learning_rate=0.0)
    run = distill(dataclasses.replace(made, training=training))
    opened = Microscope.open("still")
    begun, heads = opened._student(Stage(0, "untrained"))
    weights, own_heads = run.load_weights(), run.load_heads()
    assert all(torch.equal(begun.state_dict()[name], weights[name]) for name in weights)
    for name in ("nst", "crd"):
        one, two = heads[name].student_head[0].weight, own_heads[name].student_head[0].weight
        assert torch.equal(one, two)


def test_held_out_text_was_never_trained_on(student):
    opened = Microscope.open("student")
    shown = {
        opened.tokenizer.backend.decode(row.tolist())
        for b in opened.held_out
        for row in b.token_ids
    }
    assert len(shown) == 12 and sum(len(b.token_ids) for b in opened.held_out) == 12
    assert all(batch.labels is None for batch in opened.held_out)  # nothing is hidden


def test_layers_and_scores_of_every_stage(student):
    opened = Microscope.open("student")
    for stage in opened.stages():
        table = opened.cka(stage)
        assert table.values.shape == (3, 3) and table.sentences == 12
        assert np.isfinite(table.values).all() and (table.values <= 1 + 1e-9).all()
        scores = opened.crd(stage)
        assert scores.counts[0] == table.tokens
        assert scores.frozen == (stage.kind != "untrained")
    # Eight steps with a random teacher already tell a token from another better than none.
    ranked = [opened.crd(stage).ranked for stage in opened.stages()]
    assert ranked[2] > ranked[0]


def test_the_kept_offset_is_that_of_training(student):
    loss = student.load_heads()["crd"].loss
    assert loss.offset_is_set and float(loss.offset_negatives) > 10
    assert float(loss.offset) == float(student.snapshot(4).load_heads()["crd"].loss.offset)


def test_grams_go_through_the_nst_head_where_there_is_one(student, saved):
    opened = Microscope.open("student")
    found = opened.grams(opened.stages()[-1], "Drop the bottle!")
    assert found.pieces == ("Drop", "the", "bottle", "!") and found.through_head
    assert found.grams.nst > 0 and np.trace(found.grams.student) == pytest.approx(1)
    assert opened.grams(opened.stages()[-1], "").pieces == ()


def test_a_student_of_its_own_teachers_weights_has_the_same_grams_and_layers(saved, workspace):
    teacher = saved.teacher()
    run = distill(settings(saved, workspace, "copy", objectives=()))
    weights = teacher.load_model().text_encoder.state_dict()
    run.save_weights({f"text_encoder.{n}": t for n, t in weights.items()}, "float32")
    opened = Microscope.open("copy")
    exported = opened.stages()[-1]
    assert opened.grams(exported, "drop the bottle").grams.nst == pytest.approx(0, abs=1e-12)
    assert np.allclose(np.diagonal(opened.cka(exported).values), 1)
    assert opened.crd(exported) is None


def test_what_cannot_be_compared_is_refused(student, workspace):
    with pytest.raises(RunError, match="Wanted a student, found the teacher"):
        Microscope.open("teacher")
    (workspace / "corpus.txt").write_text("another text altogether")
    opened = Microscope.open("student")
    with pytest.raises(RunError, match="changed since 'student' learned"):
        opened.cka(opened.stages()[0])
