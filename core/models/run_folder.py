"""runs/<name>/: everything that one training run leaves behind, and how others read it.

    settings.json      the resolved settings, and whether this is a teacher, student or fine-tuned
    provenance.json    data, teacher, code and library versions; sizes needed to rebuild the model
    status.json        state, step, heartbeat
    metrics.jsonl      one line per log and per evaluation
    model.safetensors  the exported weights; heads.safetensors beside a student's
    snapshots/         a student on its way: step-00000100.safetensors and its heads
    tokenizer/         what the model reads
    predictions/       a fine-tuned run's answers, item by item
    checkpoint/        of an unfinished run

Reading lists and curves needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from core import config

if TYPE_CHECKING:
    import torch

    from core.models.student import Student
    from core.models.task_heads import TaskModel
    from core.models.teacher import Teacher
    from core.models.tokenizer import Tokenizer

KINDS = {
    "teacher": config.TeacherSettings,
    "student": config.DistillSettings,
    "fine-tuned": config.FineTuneSettings,
}
ENCODERS = ("teacher", "student")  # kinds that have word vectors; the third answers one task
# Settings that belong to the machine and to the onlooker, not to the experiment. What lies in the
# folder of data is in the inputs' hashes.
MAY_CHANGE = ("num_threads", "compile", "snapshots", "data", "also")
SNAPSHOT = re.compile(r"step-(\d+)\.safetensors")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SILENT_SEC = 600  # a live process that has said nothing for so long is taken for stuck


class RunError(RuntimeError):
    """A run that is missing, unfinished or different from what was asked."""


@dataclass(frozen=True)
class RunInfo:
    """What a list of runs shows. `state` is running, interrupted, stopped, failed or finished."""

    name: str
    kind: str  # "teacher" | "student" | "fine-tuned"
    state: str
    step: int
    steps: int
    created: str  # ISO 8601, UTC
    objectives: tuple[str, ...]  # of a student; () for the text-only control and for teachers
    teacher: str  # run name; "" for teachers and text-only students
    library: str  # of a teacher
    task: str = ""  # of a fine-tuned run
    encoder: str = ""  # what was fine-tuned: a run, "minilm", a folder or hub name


class RunFolder:
    """One run on disk. Opening reads only small JSON files."""

    def __init__(self, path: Path):
        self.path = path
        self.name = path.name

    # ---- opening and creating

    @classmethod
    def open(cls, name: str | Path) -> RunFolder:
        """The run of this name, or in this folder. Raises RunError when there is none."""
        path = run_path(name)
        if not (path / "settings.json").is_file():
            known = ", ".join(run.name for run in list_runs()) or "none yet"
            raise RunError(
                f"No run '{name}' at {path}. Runs: {known}. Run: python -m core train-teacher"
            )
        return cls(path)

    @classmethod
    def create(cls, kind: str, settings, provenance: dict) -> RunFolder:
        """A new run folder, or the existing one when it has the same settings and data.

        Raises RunError, naming the keys that differ, when it has others.
        """
        run = cls(config.runs_root() / checked_name(settings.name))
        content = {"kind": kind, "settings": _jsonable(config.as_dict(settings))}
        if (run.path / "settings.json").is_file():
            _check_same(run, content, provenance)
            return run
        run.path.mkdir(parents=True, exist_ok=True)
        write_json(run.path / "provenance.json", provenance)
        # The settings go last: a folder with settings is a whole run.
        write_json(run.path / "settings.json", content)
        return run

    # ---- what it says

    @cached_property
    def _content(self) -> dict:
        return json.loads((self.path / "settings.json").read_text())

    @property
    def kind(self) -> str:
        return self._content["kind"]

    @cached_property
    def settings(self) -> config.TeacherSettings | config.DistillSettings:
        return config.from_dict(KINDS[self.kind], self._content["settings"])

    @property
    def provenance(self) -> dict:
        return json.loads((self.path / "provenance.json").read_text())

    @property
    def status(self) -> dict:
        """state, step, steps, updated_at (seconds since 1970), pid, host, reason."""
        path = self.path / "status.json"
        if not path.is_file():
            return {"state": "interrupted", "step": 0, "steps": 0, "updated_at": 0.0, "reason": ""}
        status = json.loads(path.read_text())
        if status["state"] == "running" and not _alive(status):
            status["state"] = "interrupted"
        return status

    def info(self) -> RunInfo:
        status, settings = self.status, self.settings
        return RunInfo(
            name=self.name,
            kind=self.kind,
            state=status["state"],
            step=status["step"],
            steps=status["steps"],
            created=self.provenance.get("created", ""),
            objectives=tuple(getattr(settings, "objectives", ())),
            teacher=self.provenance.get("teacher", {}).get("name", ""),
            library=getattr(settings, "library", ""),
            task=getattr(settings, "task", ""),
            encoder=getattr(settings, "model", ""),
        )

    def metrics(self) -> list[dict]:
        """Logged lines in order; a line that is being written at this moment is left out."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.strip()]

    # ---- what training writes

    def write_status(self, state: str, step: int, steps: int, reason: str = "") -> None:
        status = {
            "state": state,
            "step": step,
            "steps": steps,
            "updated_at": time.time(),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "reason": reason,
        }
        write_json(self.path / "status.json", status, durable=state != "running")

    def append_metrics(self, line: dict) -> None:
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def cut_metrics(self, step: int) -> None:
        """Forget what was logged after a step: the run goes on from there."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        write_bytes(
            self.path / "metrics.jsonl", "".join(json.dumps(x) + "\n" for x in kept).encode()
        )

    def update_provenance(self, **values) -> None:
        write_json(self.path / "provenance.json", {**self.provenance, **values})

    def save_weights(
        self, state: dict[str, torch.Tensor], dtype: str, file: str = "model.safetensors"
    ) -> None:
        """Export tensors; floating ones in `dtype`. The file appears whole or not at all."""
        import torch
        from safetensors.torch import save

        as_dtype = getattr(torch, dtype)
        # Single numbers stay exact: they cost nothing, and float16 ends at 65,504.
        exported = {
            name: (t.to(as_dtype) if t.is_floating_point() and t.dim() else t).cpu().contiguous()
            for name, t in state.items()
        }
        path = self.weights_file(file)
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, save(exported))

    # ---- what others read

    def weights_file(self, file: str) -> Path:
        """Where tensors of this name lie; a snapshot's lie elsewhere."""
        return self.path / file

    def snapshot(self, step: int) -> Snapshot:
        """This run as it was after `step` steps, to be written or read."""
        return Snapshot(self.path, step)

    def snapshots(self) -> list[Snapshot]:
        """What was kept on the way, by step."""
        found = (SNAPSHOT.fullmatch(p.name) for p in (self.path / "snapshots").glob("*"))
        return [self.snapshot(step) for step in sorted(int(m[1]) for m in found if m)]

    @property
    def has_weights(self) -> bool:
        return self.weights_file("model.safetensors").is_file()

    def weights_hash(self) -> str:
        """sha256 of the exported weights, hex. Raises RunError before there are any."""
        return file_hash(self._weights())

    def load_weights(self, file: str = "model.safetensors") -> dict[str, torch.Tensor]:
        """The exported tensors; floating ones as float32, whatever they are stored as."""
        from safetensors.torch import load_file

        path = self._weights() if file == "model.safetensors" else self.weights_file(file)
        tensors = load_file(path)
        return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}

    def load_model(self) -> Teacher | Student | TaskModel:
        """The trained model in eval mode, on CPU."""
        from core.models.student import Student
        from core.models.teacher import Teacher

        sizes = self.provenance["model"]
        if self.kind == "fine-tuned":
            from core.models.task_heads import rebuilt_model

            model = rebuilt_model(sizes)
        elif self.kind == "teacher":
            model = Teacher(self.settings, sizes["vocab_size"], sizes["feature_size"])
        else:
            model = Student(self.settings.text, sizes["vocab_size"])
        model.load_state_dict(self.load_weights())
        return model.eval()

    def load_heads(self) -> dict:
        """A student's trained distillation heads by objective name, HeadedObjective in eval mode.

        They are no part of the exported student; CRD's and regression's lead into teacher space.
        """
        from core.models.heads import HeadedObjective

        heads = {}
        weights = self.load_weights("heads.safetensors") if self._has_heads else {}
        for name, arguments in self.provenance.get("heads", {}).items():
            head = HeadedObjective(name, **arguments)
            own = {k.removeprefix(f"{name}."): v for k, v in weights.items()}
            wanted = head.state_dict()
            head.load_state_dict({k: v for k, v in own.items() if k in wanted}, strict=False)
            heads[name] = head.eval()
        return heads

    @property
    def _has_heads(self) -> bool:
        return self.weights_file("heads.safetensors").is_file()

    def load_tokenizer(self) -> Tokenizer:
        from core.models.tokenizer import load_tokenizer

        return load_tokenizer(self.path / "tokenizer")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoint"

    def _weights(self) -> Path:
        path = self.weights_file("model.safetensors")
        if not path.is_file():
            state = self.status
            raise RunError(
                f"Run '{self.name}' has no weights yet: it is {state['state']} at step "
                f"{state['step']} of {state['steps']}. {_how_to_continue(self)}"
            )
        return path


class Snapshot(RunFolder):
    """A run with the weights of an earlier step; all else is the run's own."""

    def __init__(self, path: Path, step: int):
        super().__init__(path)
        self.step = step

    def weights_file(self, file: str) -> Path:
        # The heads are written first: a snapshot is there when its model is.
        ending = "safetensors" if file == "model.safetensors" else file
        return self.path / "snapshots" / f"step-{self.step:08d}.{ending}"


# ---- over all runs -----------------------------------------------------------------------


def list_runs() -> list[RunInfo]:
    """All runs, oldest first. A folder that cannot be read as a run is passed over."""
    root = config.runs_root()
    if not root.is_dir():
        return []
    # A name that no run can have (".old") is somebody's way to set a folder aside.
    named = [path for path in sorted(root.iterdir()) if NAME.fullmatch(path.name)]
    folders = [RunFolder(path) for path in named if (path / "settings.json").is_file()]
    infos = [info for run in folders if (info := _info_or_none(run)) is not None]
    return sorted(infos, key=lambda info: (info.created, info.name))


def load_model(name: str | Path) -> tuple[Teacher | Student, Tokenizer]:
    """A run's trained model in eval mode, and its tokenizer."""
    run = RunFolder.open(name)
    return run.load_model(), run.load_tokenizer()


def checked_name(name: str) -> str:
    """The name, when it can be a folder's. Raises SettingsError otherwise."""
    if not NAME.fullmatch(name):
        raise config.SettingsError(
            f"A run's name wants letters, digits, '.', '_' and '-', found {name!r}. "
            "Give another: --name my-run"
        )
    return name


def run_path(name: str | Path) -> Path:
    """Where a run of this name lies; a path with a separator is taken as it is."""
    text = str(name)
    if isinstance(name, Path) or os.sep in text:
        return Path(text)
    return config.runs_root() / checked_name(text)


# ---- files that appear whole or not at all --------------------------------------------------


def write_json(path: Path, content, durable: bool = True) -> None:
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode(), durable)


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """Replace a file at once; `durable` also survives a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def remove_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _info_or_none(run: RunFolder) -> RunInfo | None:
    try:
        return run.info()
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a foreign folder, or one being written or removed right now


def _alive(status: dict) -> bool:
    """Whether the process that trains still does. On another host only its heartbeat can tell."""
    fresh = time.time() - status["updated_at"] < SILENT_SEC
    if status.get("host") != socket.gethostname():
        return fresh
    try:
        os.kill(status["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return fresh  # it lives, under another user
    return fresh


_hashes: dict[tuple, str] = {}


def file_hash(path: Path) -> str:
    """sha256 of a file, hex; read again only when its time or size changed."""
    stat = path.stat()
    key = (str(path), stat.st_mtime_ns, stat.st_size)
    if key not in _hashes:
        with open(path, "rb") as file:
            _hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[key]


def _check_same(run: RunFolder, content: dict, provenance: dict) -> None:
    """Refuse to continue a run with other settings or other data."""
    # A setting that came after the run had its default then, though nobody wrote it down.
    kept = {"kind": run.kind, "settings": _jsonable(config.as_dict(run.settings))}
    before, now = _flat(kept), _flat(content)
    differing = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
    differing = [k for k in differing if k.rpartition(".")[2] not in MAY_CHANGE]
    if differing:
        shown = "; ".join(f"{_short(k)}: {before.get(k)} -> {now.get(k)}" for k in differing)
        raise RunError(
            f"Run '{run.name}' exists with other settings ({shown}). Choose another --name, give "
            f"the same settings, or remove {run.path}."
        )
    old = run.provenance.get("inputs", {})
    changed = [k for k, v in provenance.get("inputs", {}).items() if old.get(k) != v]
    if changed:
        raise RunError(
            f"Run '{run.name}' began with other data: {', '.join(changed)} changed since. "
            f"Choose another --name, or remove {run.path}."
        )


def _how_to_continue(run: RunFolder) -> str:
    commands = {"teacher": "train-teacher", "student": "distill", "fine-tuned": "fine-tune"}
    command = commands[run.kind]
    return f"Give the same `python -m core {command}` command again: it goes on where it stopped."


def _short(key: str) -> str:
    return key.removeprefix("settings.")


def _flat(values, prefix: str = "") -> dict:
    if not isinstance(values, dict):
        return {prefix: values}
    flat = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else key))
    return flat


def _jsonable(content: dict) -> dict:
    return json.loads(json.dumps(content))
