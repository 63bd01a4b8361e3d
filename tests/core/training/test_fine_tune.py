"""Fine-tuning: a rule is learned, a run goes on where it was cut off, answers are kept by item."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from core import cli
from core.analysis import fine_tuned
from core.config import REPO_ROOT, FineTuneSettings, SettingsError, TrainingSettings
from core.inference import open_encoder, teacher_of
from core.models.run_folder import RunError, RunFolder, list_runs
from core.training.fine_tune import (
    asked_splits,
    fine_tune,
    fine_tune_seeds,
    named,
    template_line,
    training_items,
    with_steps,
)
from core.training.loop import TrainingStopped
from tests.core.pretrained_models import save_bert

WORDS = ["the", "bottle", "drops", "it", "drop", "once", "how", "to", "at"]
TRAINING = TrainingSettings(
    steps=0, batch_size=16, learning_rate=2e-3, warmup_steps=0, evaluate_every=0, log_every=5
)


def sentences(seed: int, count: int) -> list[tuple[str, int]]:
    """Texts that are positive where something shatters."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        words = list(rng.choice(WORDS, int(rng.integers(3, 9))))
        label = int(rng.integers(2))
        if label:
            words.insert(int(rng.integers(len(words) + 1)), "shatters")
        found.append((" ".join(words), label))
    return found


def write_reviews(folder: Path, train: int = 320, test: int = 60) -> Path:
    """SST-2's files, with a rule that a small model can learn."""
    place = folder / "GLUE" / "SST-2"
    place.mkdir(parents=True)
    for name, rows in (("train.tsv.gz", sentences(0, train)), ("test.tsv", sentences(1, test))):
        lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in rows)]
        write = gzip.open if name.endswith("gz") else open
        with write(place / name, "wt") as file:
            file.write("\n".join(lines) + "\n")
    return folder


def write_choices(folder: Path, count: int = 240) -> Path:
    """PIQA's files: the right solution is the one that shatters."""
    place = folder / "PIQA"
    place.mkdir(parents=True)
    rng = np.random.default_rng(2)
    rows, labels = [], []
    for number in range(count):
        texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(2)]
        label = int(rng.integers(2))
        texts[label] += " shatters"
        rows.append({"goal": f"drop it {number}", "sol1": texts[0], "sol2": texts[1]})
        labels.append(label)
    (place / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "valid-labels.lst").write_text("".join(f"{label}\n" for label in labels))
    return folder


def write_questions(folder: Path, count: int = 60) -> Path:
    """SQuAD's file: the answer is what shatters; where nothing does there is none."""
    place = folder / "SQuAD"
    place.mkdir(parents=True)
    rng = np.random.default_rng(3)
    articles = []
    for number in range(count):
        before = " ".join(rng.choice(WORDS, int(rng.integers(2, 6))))
        answerable = number % 3 > 0
        context = f"{before} {'shatters' if answerable else 'drops'} once"
        question = {
            "id": f"q{number}",
            "question": "it what",
            "answers": [{"text": "shatters", "answer_start": len(before) + 1}] * answerable,
            "is_impossible": not answerable,
        }
        articles.append(
            {"title": str(number), "paragraphs": [{"context": context, "qas": [question]}]}
        )
    (place / "dev-v2.0.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    return folder


@pytest.fixture
def settings(saved, tmp_path) -> FineTuneSettings:
    """A small student and a task that it can learn."""
    data = write_reviews(tmp_path / "data")
    model = saved.student("small").name
    return FineTuneSettings(
        model=model, task="sst2", data=str(data), epochs=6, pooling="mean", training=TRAINING
    )


# ---- what is learned


def test_a_class_is_learned_and_every_answer_is_kept(settings):
    run = fine_tune(settings)
    assert run.name == "sst2-small-s0" and run.kind == "fine-tuned"
    answers = fine_tuned.load_predictions(run.name, "sst2", "test")
    assert list(answers.table.columns[:4]) == ["item_id", "label", "prediction", "scores"]
    assert len(answers.table) == 60 and answers.labels == ("negative", "positive")
    figures = fine_tuned.figures(answers)
    assert figures["accuracy"].low > 0.9
    chosen = [int(np.argmax(scores)) for scores in answers.table["scores"]]
    assert chosen == answers.table["prediction"].tolist()


def test_a_choice_is_learned(saved, tmp_path):
    data = write_choices(tmp_path / "data")
    run = fine_tune(
        FineTuneSettings(
            model=saved.student("small").name,
            task="piqa",
            data=str(data),
            train_split="valid-train",
            evaluate_split="valid-test",
            epochs=8,
            pooling="mean",
            training=TRAINING,
        )
    )
    answers = fine_tuned.load_predictions(run.name)
    assert (answers.kind, answers.split) == ("choice", "valid-test")
    assert fine_tuned.figures(answers)["accuracy"].value > 0.9


def test_a_span_is_learned_and_so_is_that_there_is_none(saved, tmp_path):
    data = write_questions(tmp_path / "data")
    run = fine_tune(
        FineTuneSettings(
            model=saved.student("small").name,
            task="squad-v2",
            data=str(data),
            train_split="dev-train",
            evaluate_split="dev-test",
            epochs=30,
            training=TRAINING,
        )
    )
    answers = fine_tuned.load_predictions(run.name)
    figures = fine_tuned.figures(answers)
    assert figures["exact match"].value > 0.8 and figures["answerable F1"].value > 0.8
    given = fine_tuned.given_answers(answers)
    assert {"shatters", ""} <= set(given)


def test_a_pretrained_folder_is_tuned_and_its_run_needs_the_folder_no_more(settings, tmp_path):
    folder = save_bert(tmp_path / "bert")
    run = fine_tune(dataclasses.replace(settings, model=str(folder), epochs=2))
    assert run.name == "sst2-bert-s0"
    for path in folder.iterdir():
        path.unlink()
    model = RunFolder.open(run.name).load_model()
    assert model.encoder.hidden_size == 32 and not model.training


# ---- the run's folder


def test_the_encoder_that_was_tuned_is_left_as_it_was(settings):
    before = RunFolder.open("small").weights_hash()
    fine_tune(dataclasses.replace(settings, epochs=1))
    assert RunFolder.open("small").weights_hash() == before


def test_a_tuned_run_is_listed_with_its_task_and_is_no_encoder(settings):
    fine_tune(dataclasses.replace(settings, epochs=1))
    info = next(run for run in list_runs() if run.kind == "fine-tuned")
    assert (info.task, info.encoder, info.state) == ("sst2", "small", "finished")
    with pytest.raises(RunError, match="fine-tuned for 'sst2'.*Choose what it was made from"):
        open_encoder(info.name)
    with pytest.raises(RunError, match="only answers that"):
        teacher_of(RunFolder.open(info.name))


def interrupt_at(step: int):
    def progress(done, total, message):
        if done == step and message.startswith("loss"):
            os.kill(os.getpid(), signal.SIGINT)

    return progress


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(settings):
    whole = fine_tune(dataclasses.replace(settings, name="whole", epochs=2))
    cut = dataclasses.replace(settings, name="cut", epochs=2)
    with pytest.raises(TrainingStopped):
        fine_tune(cut, interrupt_at(10))
    again = fine_tune(cut)
    one, two = whole.load_weights(), again.load_weights()
    assert all(torch.equal(one[name], two[name]) for name in one)
    left, right = (fine_tuned.load_predictions(run.name).table for run in (whole, again))
    assert left["prediction"].tolist() == right["prediction"].tolist()


def test_a_finished_run_is_not_trained_again_and_lost_answers_are_given_anew(settings):
    run = fine_tune(dataclasses.replace(settings, epochs=1))
    path = fine_tuned.predictions_path(run.path, "sst2", "test")
    weights, kept = run.weights_hash(), path.read_bytes()
    path.unlink()
    steps = []
    fine_tune(dataclasses.replace(settings, epochs=1), lambda d, t, m: steps.append(m))
    assert set(steps) == {"answers"}
    assert path.read_bytes() == kept and RunFolder.open(run.name).weights_hash() == weights


def test_other_settings_under_the_same_name_are_refused(settings):
    fine_tune(dataclasses.replace(settings, epochs=1))
    with pytest.raises(RunError, match="pooling: mean -> cls"):
        fine_tune(dataclasses.replace(settings, epochs=1, pooling="cls"))


def test_the_same_files_in_another_place_are_the_same_data(settings, tmp_path):
    fine_tune(dataclasses.replace(settings, epochs=1))
    elsewhere = write_reviews(tmp_path / "elsewhere")
    again = fine_tune(dataclasses.replace(settings, epochs=1, data=str(elsewhere)))
    assert again.status["state"] == "finished"
    with pytest.raises(RunError, match="began with other data: items"):
        other = write_reviews(tmp_path / "other", train=300)
        fine_tune(dataclasses.replace(settings, epochs=1, data=str(other), **steps_of(again)))


def steps_of(run: RunFolder) -> dict:
    """Settings that fix the steps, so that only the data differ."""
    kept = run.settings.training
    return {"training": dataclasses.replace(kept)}


def test_seeds_and_models_are_all_trained_and_named(settings, saved):
    saved.student("other", seed=5)
    quick = dataclasses.replace(settings, epochs=1, limit=64)
    names = fine_tune_seeds(quick, ["small", "other"], [0, 3])
    assert names == ["sst2-small-s0", "sst2-small-s3", "sst2-other-s0", "sst2-other-s3"]
    assert fine_tune_seeds(quick, ["small", "other"], [0, 3]) == names
    one, two = (RunFolder.open(name).load_weights() for name in names[:2])
    assert not all(torch.equal(one[n], two[n]) for n in one)
    summaries = fine_tuned.seeds_summary("sst2", names)
    assert [s.experiment for s in summaries] == ["sst2-small", "sst2-other"]
    assert summaries[0].seeds == (0, 3) and summaries[0].items == 60


def test_more_splits_are_answered_when_asked(settings):
    adversarial = Path(settings.data) / "GLUE" / "AdvGLUE"
    adversarial.mkdir()
    rows = [{"sentence": text, "label": label} for text, label in sentences(9, 12)]
    (adversarial / "dev_ann.json").write_text(json.dumps({"sst2": rows}))
    run = fine_tune(dataclasses.replace(settings, epochs=1, also=("sst2:adversarial",)))
    found = fine_tuned.all_predictions(run.name)
    assert [(a.split, len(a.table)) for a in found] == [("adversarial", 12), ("test", 60)]


@pytest.mark.slow
def test_two_processes_learn_what_one_does_on_the_same_rows(settings, saved):
    """Two ranks of 8 rows see the batches of one of 16; without dropout, which ranks draw apart."""
    saved.shape = dataclasses.replace(saved.shape, dropout=0.0)
    saved.student("dry")
    quick = {"epochs": "1", "head_dropout": "0", "training.learning_rate": "1e-3"}
    losses = {}
    for ranks, batch in ((1, 16), (2, 8)):
        name = f"ranks-{ranks}"
        values = {**quick, "batch_size": str(batch), "pooling": "mean"}
        flags = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks)]
        command += ["--master_port", str(29500 + os.getpid() % 1000 + ranks), "-m", "core"]
        command += ["fine-tune", "--task", "sst2", "--models", "dry", "--seeds", "0"]
        command += ["--name", name, "--data", settings.data, *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=REPO_ROOT, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        lines = RunFolder.open(f"{name}-dry-s0").metrics()
        losses[ranks] = [line["loss"] for line in lines if line["split"] == "validation"]
    assert len(losses[1]) > 2
    np.testing.assert_allclose(losses[2], losses[1], atol=1e-4)


# ---- the parts


def test_a_story_is_on_one_side_of_the_validation_split(shared_data):
    from core.data import probe_tasks

    settings = FineTuneSettings(task="tracie-uniform", data=str(shared_data))
    training, validation = training_items(settings, probe_tasks.load_task("tracie-uniform"))
    assert len(training) + len(validation) == 860 and 50 < len(validation) < 130
    assert not {i.second_text for i in training} & {i.second_text for i in validation}


def test_steps_come_from_the_epochs_unless_given():
    settings = FineTuneSettings(epochs=3, warmup=0.1)
    found = with_steps(settings, 330, processes=1).training
    assert (found.steps, found.warmup_steps, found.evaluate_every) == (30, 3, 5)
    given = dataclasses.replace(settings, training=TrainingSettings(steps=7, evaluate_every=2))
    assert with_steps(given, 330, 1).training.steps == 7


def test_a_run_is_named_after_task_model_and_seed():
    seed = TrainingSettings(seed=2)
    settings = FineTuneSettings(task="sst2", model="models/my bert!", training=seed)
    assert named(settings).name == "sst2-my-bert-s2"
    assert named(named(settings)).name == "sst2-my-bert-s2"


def test_further_tasks_are_asked_on_their_own_evaluation_split():
    settings = FineTuneSettings(task="qnli", evaluate_split="dev-test", also=("glue-diagnostics",))
    assert asked_splits(settings) == [("qnli", "dev-test"), ("glue-diagnostics", "ax-b")]


def test_what_templates_tell_is_kept_beside_a_task_that_leaks(shared_data):
    from core.data import probe_tasks

    def items(name, split):
        return probe_tasks.load_items(name, split, "classification", shared_data)

    test = items("tracie-iid", "test")
    assert template_line(items("tracie-iid", "train"), test, 2) == pytest.approx(0.641, abs=0.002)
    assert template_line(items("tracie-uniform", "train"), test, 2) == pytest.approx(0.5, abs=0.02)
    assert template_line(items("sst2", "test"), items("sst2", "dev"), 2) is None


def test_unlabelled_items_cannot_be_learned_from(shared_data):
    from core.data import probe_tasks

    settings = FineTuneSettings(task="piqa", data=str(shared_data), train_split="tests")
    with pytest.raises(SettingsError, match="'tests' of 'piqa' has items without a label"):
        training_items(settings, probe_tasks.load_task("piqa"))


# ---- the command


def test_the_command_trains_every_seed_and_prints_the_collapsed_ones(settings, tmp_path):
    path = tmp_path / "out.json"
    arguments = ["--task", "sst2", "--models", "small", "--seeds", "0,4", "--data", settings.data]
    more = ["--limit", "64", "--set", "epochs=1", "--set", "batch_size=16", "--json", str(path)]
    found = CliRunner().invoke(cli.app, ["fine-tune", *arguments, *more])
    assert found.exit_code == 0, found.output
    assert {"sst2-small-s0", "sst2-small-s4"} <= {run.name for run in list_runs()}
    (experiment,) = json.loads(path.read_text())["experiments"]
    assert experiment["seeds"] == [0, 4] and experiment["experiment"] == "sst2-small"
    assert f"{experiment['collapsed']} of 2" in found.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "sst3"], "Did you mean sst2"),
        (["--task", "sst2", "--seeds", "one"], "'seeds' wants int, found 'one'"),
        (["--task", "sst2", "--models", "nobody"], "No model 'nobody'"),
        (["--task", "sst2", "--models", "small", "--data", "/nowhere"], "give --data FOLDER"),
    ],
)
def test_a_wrong_call_names_what_is_wrong(settings, arguments, message):
    if "--data" not in arguments:
        arguments = [*arguments, "--data", settings.data]
    found = CliRunner().invoke(cli.app, ["fine-tune", *arguments])
    assert cli.is_expected(found.exception)
    assert message in " ".join(str(found.exception).split())
