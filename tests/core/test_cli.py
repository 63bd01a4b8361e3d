"""The command line as a person meets it: in a process of its own."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import cli, config

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*arguments, home=None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "COLUMNS": "120"}
    if home:
        environment["VIDLANKD_HOME"] = str(home)
    command = [sys.executable, "-m", "core", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_help_answers_at_once_and_names_every_command():
    began = time.monotonic()
    found = run("--help")
    elapsed = time.monotonic() - began
    assert found.returncode == 0
    for name in (
        "demo",
        "import",
        "extract",
        "train-teacher",
        "distill",
        "embed",
        "ground",
        "probe",
        "fine-tune",
        "layer-probe",
        "ablate",
    ):
        assert f" {name} " in found.stdout
    assert elapsed < 3.0  # 0.3 s on an idle machine; torch alone would take longer


def test_help_loads_nothing_heavy():
    code = (
        "import sys, core.cli\n"
        "heavy = {'torch', 'transformers', 'pandas', 'faiss', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-teacher", "--set", "learn_rate=1"], "Did you mean 'training.learning_rate'?"),
        (["distill", "--preset", "dmo"], "Unknown preset 'dmo'. Did you mean 'demo'?"),
        (["extract", "--set", "workers=two"], "Setting 'workers' wants int, found 'two'."),
        (["ground"], "Wanted a sentence or --evaluate"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(workspace, arguments, message):
    found = run(*arguments, home=workspace)
    assert found.returncode == 2
    assert found.stderr.startswith("Error: ") and message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1 and found.stdout == ""


def test_a_missing_run_is_one_line_and_exit_code_2(workspace):
    found = run("embed", "--library", "none", "--run", "nobody", home=workspace)
    assert found.returncode == 2
    assert "No run 'nobody'" in found.stderr and "Traceback" not in found.stderr


def test_an_unknown_flag_is_refused():
    found = run("embed", "--libary", "x")
    assert found.returncode == 2 and "--library" in found.stderr


def test_empty_listings_say_what_fills_them(workspace):
    assert "python -m core train-teacher" in run("runs", home=workspace).stdout
    assert "python -m core import" in run("libraries", home=workspace).stdout


def test_a_fault_keeps_its_traceback():
    """Errors that core did not define are bugs: hiding where they come from helps nobody."""
    assert cli.is_expected(config.SettingsError("x"))
    assert not cli.is_expected(ValueError("x"))
    assert not cli.is_expected(KeyError("x"))


# ---- settings ----------------------------------------------------------------------------


def test_preset_then_flags_then_assignments():
    settings = cli.settings_of(
        config.TeacherSettings,
        "demo",
        ["steps=7", "training.seed=3"],
        library="kitchen",
        name=None,
        steps=5,
        training_seed=2,
    )
    demo = config.preset(config.TeacherSettings, "demo")
    assert (settings.library, settings.name) == ("kitchen", demo.name)
    assert (settings.training.steps, settings.training.seed) == (7, 3)
    assert settings.text == demo.text
    again = cli.settings_of(config.TeacherSettings, "demo", steps=5)
    assert again == dataclasses.replace(demo, training=dataclasses.replace(demo.training, steps=5))


class Stop(Exception):
    pass


def seen_settings(monkeypatch, module: str, function: str, arguments: list[str]):
    """The settings with which a command would call core; nothing is computed."""
    import importlib

    from typer.testing import CliRunner

    seen = []

    def record(settings, *rest):
        seen.append(settings)
        raise Stop

    monkeypatch.setattr(importlib.import_module(module), function, record)
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, Stop), result.output
    return seen[0]


def test_distill_flags_reach_the_settings(monkeypatch):
    settings = seen_settings(
        monkeypatch,
        "core.training.distill_student",
        "distill",
        [
            "distill",
            "--preset",
            "demo",
            "--teacher",
            "t",
            "--name",
            "s",
            "--corpus",
            "text.txt",
            "--objectives",
            "nst,crd",
            "--weights",
            "1,0.5",
            "--no-heads",
            "--steps",
            "9",
            "--seed",
            "4",
        ],
    )
    assert settings.objectives == ("nst", "crd") and settings.weights == (1.0, 0.5)
    assert (settings.teacher, settings.name, settings.corpus) == ("t", "s", "text.txt")
    assert settings.heads is False
    assert (settings.training.steps, settings.training.seed) == (9, 4)


def test_objectives_none_is_the_text_only_control(monkeypatch):
    settings = seen_settings(
        monkeypatch,
        "core.training.distill_student",
        "distill",
        ["distill", "--objectives", "none"],
    )
    assert settings.objectives == () and settings.heads is True


def test_embed_runs_may_be_repeated(monkeypatch):
    settings = seen_settings(
        monkeypatch,
        "core.extraction.embeddings",
        "embed",
        ["embed", "--library", "kitchen", "--run", "a", "--run", "b"],
    )
    assert settings == config.EmbedSettings(library="kitchen", runs=("a", "b"))


# ---- progress ------------------------------------------------------------------------------


def test_without_a_terminal_progress_is_plain_lines_now_and_then(capsys):
    progress = cli.PlainProgress("extract", every_sec=1000)
    for done in range(101):
        progress(done, 100, "kitchen.mp4")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # the first and the last
    assert lines[0].startswith("extract: 0/100")
    assert lines[1].startswith("extract: 100/100") and lines[1].endswith("kitchen.mp4")
    assert "/s" in lines[1] and "0 s left" in lines[1]


def test_only_rank_zero_speaks(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with cli.progress_bar("embed") as progress:
        progress(1, 1, "x")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_one_bar_has_rate_and_time_left():
    """In a pseudo-terminal, as a person has one."""
    import pty

    code = (
        "import time\nfrom core.cli import progress_bar\n"
        "with progress_bar('extract') as progress:\n"
        "    for i in range(21):\n"
        "        time.sleep(0.05); progress(i, 20, 'kitchen.mp4')\n"
    )
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=follower, stdout=follower
    ) as process:
        os.close(follower)
        seen = b""
        while process.poll() is None or seen == b"":
            try:
                seen += os.read(leader, 65536)
            except OSError:
                break
    os.close(leader)
    text = seen.decode()
    for part in ("extract", "20/20", "/s", "left", "0:00:0", "kitchen.mp4"):
        assert part in text
