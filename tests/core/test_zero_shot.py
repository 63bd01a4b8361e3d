"""The probe command's work: scores once, tables that say what is there, files that hold it all."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from app.jobs import PROGRESS
from core import zero_shot
from core.analysis import probe_report
from core.config import REPO_ROOT, ProbeSettings, SettingsError
from core.inference import open_encoder
from core.scoring import score_texts

GOALS = ["open the bottle", "drop the house", "find water", "see the city", "make it work"]


def write_piqa(folder, count: int):
    """A file of PIQA's layout with made-up goals."""
    generator = np.random.default_rng(0)
    words = [
        "bottle",
        "drop",
        "it",
        "time",
        "house",
        "water",
        "day",
        "great",
        "world",
        "city",
        "turn",
        "it",
        "into",
        "that",
    ]
    rows = [
        {
            "goal": f"{GOALS[i % len(GOALS)]} {i}",
            "sol1": " ".join(generator.choice(words, 5)),
            "sol2": " ".join(generator.choice(words, 6)),
        }
        for i in range(count)
    ]
    (folder / "PIQA").mkdir(parents=True)
    (folder / "PIQA/valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = "".join(f"{label}\n" for label in generator.integers(0, 2, count))
    (folder / "PIQA/valid-labels.lst").write_text(labels)
    return folder


@pytest.fixture
def data(tmp_path):
    return write_piqa(tmp_path / "data", 30)


@pytest.fixture
def runs(saved):
    return saved.teacher("one").name, saved.teacher("other", seed=3).name


def settings(data, runs, **more) -> ProbeSettings:
    return ProbeSettings("piqa", tuple(runs), data=str(data), **more)


def test_answers_are_those_of_the_scores(data, runs):
    report = zero_shot.probe(settings(data, runs, norm="char"))
    for name, answers in zip(runs, report.found):
        wanted = score_texts(
            open_encoder(name),
            [item.context for item in report.items],
            [item.choices for item in report.items],
            norm="char",
        )
        scores = np.array([[s.score for s in row] for row in wanted])
        np.testing.assert_allclose(np.stack(answers.scores), scores, atol=1e-5)
        right = scores.argmax(1) == [item.label for item in report.items]
        assert answers.right.tolist() == right.tolist()
        row = report.scores.set_index("model").loc[name]
        assert row["accuracy"] == pytest.approx(right.mean())
        assert row["low"] < row["accuracy"] < row["high"] and row["chance"] == 0.5
    (pair,) = report.pairs.to_dict("records")
    assert pair["difference"] == pytest.approx(
        report.found[0].right.mean() - report.found[1].right.mean()
    )


def test_a_second_run_with_another_norm_asks_no_model(data, runs, monkeypatch):
    assert zero_shot.probe(settings(data, runs)).computed == 2 * 60
    monkeypatch.setattr(zero_shot, "open_encoder", None)  # opening one would fail
    again = zero_shot.probe(settings(data, runs, norm="token"))
    assert again.computed == 0
    assert zero_shot.probe(settings(data, runs, limit=7, seed=4)).computed == 0


def test_a_sample_is_drawn_by_its_seed(data, runs):
    ids = lambda **how: [i.item_id for i in zero_shot.chosen_items(settings(data, runs, **how))]  # noqa: E731
    assert len(ids(limit=7)) == 7 and ids(limit=7, seed=1) == ids(limit=7, seed=1)
    assert ids(limit=7) != ids(limit=7, seed=1)


def test_files_hold_every_figure_and_where_it_comes_from(data, runs, tmp_path):
    report = zero_shot.probe(settings(data, runs))
    probe_report.write_json(report, tmp_path / "out" / "probe.json")
    probe_report.write_csv(report, tmp_path / "out" / "probe.csv")
    content = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert content["settings"]["method"] == "PLL-word-l2r" and content["count"] == 30
    assert [m["hash"] for m in content["models"]] == [open_encoder(n).hash for n in runs]
    assert content["scores"][0]["template"] is None  # PIQA has none; NaN is no JSON
    assert len(content["items"]) == 30 and len(content["items_hash"]) == 64
    with open(tmp_path / "out" / "probe.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 60
    for line in lines:
        item = next(i for i in content["items"] if i["item_id"] == line["item_id"])
        answer = item["answers"][line["model"]]
        assert [float(line["score_0"]), float(line["score_1"])] == answer["scores"]
        assert (int(line["choice"]) == item["label"]) == bool(int(line["right"]))
        assert line["items_hash"] == content["items_hash"]
    assert sum(answer["right"] for answer in (i["answers"]["one"] for i in content["items"])) == (
        report.found[0].right.sum()
    )


def test_wrong_wishes_are_said_before_anything_is_computed(data, runs):
    for more, message in [
        ({"method": "ppl"}, "PLL-word-l2r"),
        ({"norm": "words"}, "norm"),
        ({"slice": ("family=x",)}, "KEY=VALUE"),
        ({"split": "nowhere"}, "nowhere"),
    ]:
        with pytest.raises(SettingsError, match=message):
            zero_shot.probe(settings(data, runs, **more))
    with pytest.raises(SettingsError, match="fine-tune"):
        zero_shot.probe(ProbeSettings("sst2", runs, data=str(data)))
    with pytest.raises(SettingsError, match="No finished runs|No file"):
        zero_shot.probe(ProbeSettings("piqa", runs, data=str(data / "nowhere")))


def test_a_headless_model_stops_the_run_before_the_others_are_scored(data, runs):
    from core.models.pretrained_folder import PretrainedError
    from core.score_cache import ScoreCache

    with pytest.raises(PretrainedError, match="no masked-LM head"):
        zero_shot.probe(settings(data, (*runs, "minilm")))
    items = zero_shot.chosen_items(settings(data, runs))
    assert len(ScoreCache.of("one", "PLL-word-l2r").missing(items)) == 60


def test_slices_of_the_items_are_probed_alone(shared_data, saved):
    runs = [saved.teacher("one").name]
    chosen = zero_shot.chosen_items(
        ProbeSettings("tracie-uniform", runs, data=str(shared_data), slice=("point=end",))
    )
    assert chosen and {item.metadata["point"] for item in chosen} == {"end"}


def test_tracie_shows_the_answer_by_template(shared_data):
    """About 64 % where training leaks it, and no better than guessing where it does not."""

    def share(task: str) -> float:
        settings = ProbeSettings(task, data=str(shared_data))
        return zero_shot.template_hits(settings, zero_shot.chosen_items(settings)).mean()

    assert share("tracie-iid") == pytest.approx(0.641, abs=0.002)
    assert share("tracie-uniform") == 0.5


# ---- the command -----------------------------------------------------------------------------


def command(*arguments: str, home) -> list[str]:
    return [sys.executable, "-m", "core", "probe", "--task", "piqa", *arguments]


def environment(home) -> dict:
    return {**os.environ, "VIDLANKD_HOME": str(home), "VIDLANKD_PROGRESS_SEC": "0"}


def test_the_command_shows_tables_and_lines_that_the_app_reads(data, runs, workspace):
    arguments = ["--models", "one", "other", "--data", str(data), "--json", str(data / "o.json")]
    done = subprocess.run(
        command(*arguments, home=workspace),
        cwd=REPO_ROOT,
        env=environment(workspace),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for part in ("30 items", "one", "other", "chance", "majority", "p (Holm)", "120 texts"):
        assert part in done.stdout
    assert all(PROGRESS.match(line) for line in done.stderr.strip().splitlines())
    assert json.loads((data / "o.json").read_text())["computed_texts"] == 120


def test_an_error_is_one_line_and_exit_code_2(data, runs, workspace):
    done = subprocess.run(
        command("--models", "oen", "--data", str(data), home=workspace),
        cwd=REPO_ROOT,
        env=environment(workspace),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Did you mean the run 'one'?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_interrupted_it_exits_130_and_keeps_what_it_did(runs, workspace, tmp_path):
    data = write_piqa(tmp_path / "large", 4000)
    process = subprocess.Popen(
        command("--models", "one", "--data", str(data), home=workspace),
        cwd=REPO_ROOT,
        env=environment(workspace),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so would this one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    process.stderr.readline()  # it is at work
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    items = zero_shot.chosen_items(settings(data, ["one"]))
    from core.score_cache import ScoreCache

    assert 0 < len(ScoreCache.of("one", "PLL-word-l2r").missing(items)) < 8000
