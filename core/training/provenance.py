"""Where a run came from: data, code, libraries, command."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from importlib.metadata import version

from core.config import REPO_ROOT

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "numpy")


def provenance(*, seed: int, inputs: dict, model: dict, **more) -> dict:
    """What a run folder keeps. `inputs` must not change when the run goes on; `model` rebuilds it."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        "command": " ".join(sys.argv),
        "code": code_version(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "seed": seed,
        "inputs": inputs,
        "model": model,
        **more,
    }


def code_version() -> str:
    """The git commit, with "+changes" when files differ from it; "unknown" outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPO_ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
