"""A small real task for the loop's tests, and a script that trains it in a process of its own.

python loop_task.py HOME NAME [--steps N] [--sleep S] [--batch B] …
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class Numbers:
    inputs: Tensor
    targets: Tensor
    kept: Tensor  # bool: rows that the second term counts

    def to(self, device):
        return Numbers(*(t.to(device) for t in (self.inputs, self.targets, self.kept)))


class Fitting(nn.Module):
    """Fit a known function with dropout; "kept" is a mean over a varying number of rows."""

    keeps_snapshots = True

    def __init__(self, rows: int = 96, held_out: int = 16, sleep: float = 0.0, poison=None):
        super().__init__()
        generator = np.random.default_rng(5)
        self.x = generator.normal(size=(rows + held_out, 6)).astype(np.float32)
        self.y = np.tanh(self.x[:, :1] * self.x[:, 1:2]).astype(np.float32)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.2), nn.GELU(), nn.Linear(16, 1))
        self.weights = {"fit": 1.0, "kept": 0.5}
        self.num_rows, self.num_validation_rows = rows, held_out
        self.sleep, self.poison, self.calls = sleep, poison, 0

    def forward(self, batch: Numbers) -> dict[str, Tensor]:
        from core.losses.gather import global_mean

        time.sleep(self.sleep)
        error = (self.net(batch.inputs) - batch.targets).square().squeeze(1)
        kept = global_mean((error * batch.kept).sum(), int(batch.kept.sum()))
        if self.poison is not None and self.training:
            self.calls += 1
            kept = kept * (float("nan") if self.calls == self.poison else 1.0)
        return {"fit": global_mean(error.sum(), len(error)), "kept": kept}

    def _rows(self, rows) -> Numbers:
        rows = np.asarray(rows)
        kept = torch.from_numpy(rows % 3 == 0)
        return Numbers(torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows]), kept)

    def batch(self, rows, places, seed) -> Numbers:
        return self._rows(rows)

    def validation_batch(self, rows, seed) -> Numbers:
        return self._rows(self.num_rows + np.asarray(rows))

    def lengths(self):
        return None

    def counts(self, batch: Numbers) -> dict[str, int]:
        return {"fit": len(batch.kept), "kept": int(batch.kept.sum())}

    def num_tokens(self, batch: Numbers) -> int:
        return len(batch.kept)

    def prepare(self, device) -> None:
        pass

    def export(self, run, dtype: str) -> None:
        run.save_weights(self.net.state_dict(), dtype)


def fit(name: str, task_options=None, progress=None, **training):
    """Train the task in a run folder of this name and return the folder."""
    from core.config import TeacherSettings, TrainingSettings
    from core.models.run_folder import RunFolder
    from core.training.loop import make_accelerator, seed_everything, train

    options = {
        "steps": 40,
        "batch_size": 16,
        "learning_rate": 0.01,
        "warmup_steps": 4,
        "log_every": 5,
        "evaluate_every": 10,
        "checkpoint_every": 7,
        **training,
    }
    settings = TeacherSettings(name=name, training=TrainingSettings(**options))
    accelerator = make_accelerator(settings.training)
    with accelerator.main_process_first():
        run = RunFolder.create("teacher", settings, {"inputs": {}, "created": ""})
    if run.status["state"] == "finished":
        return run
    seed_everything(settings.training.seed)
    train(Fitting(**(task_options or {})), settings.training, run, accelerator, progress)
    return run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home")
    parser.add_argument("name")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--no-dropout", action="store_true")
    arguments = parser.parse_args()
    os.environ["VIDLANKD_HOME"] = arguments.home
    torch.set_num_threads(1)
    if arguments.no_dropout:
        nn.Dropout.forward = lambda self, states: states
    fit(
        arguments.name,
        {"sleep": arguments.sleep},
        steps=arguments.steps,
        batch_size=arguments.batch,
    )
    print("finished", flush=True)


if __name__ == "__main__":
    main()
