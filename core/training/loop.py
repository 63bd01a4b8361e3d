"""The one training loop. Stages differ in data, model and loss terms: that is their Task.

    python -m core train-teacher --preset demo
    torchrun --nproc_per_node 2 -m core distill --teacher teacher --corpus text.txt

Everything drawn at random depends on (seed, step, rank) only, so a run that was killed and
started again walks the very same way.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from torch import Tensor, nn

from core.config import SettingsError, TrainingSettings
from core.models.run_folder import RunFolder, remove_folder, write_bytes
from core.training.checkpoint import load_checkpoint, save_checkpoint
from core.training.compilation import compile_layers

Progress = Callable[[int, int, str], None]

HEARTBEAT_SEC = 1.0
MIN_IMPROVEMENT = 1e-4  # of the validation loss, to count as progress for patience


class TrainingFailed(RuntimeError):
    """A loss or gradient that is no number, or processes that do not work together."""


class TrainingStopped(RuntimeError):
    """Ctrl-C or SIGTERM: the checkpoint is saved, the same command goes on."""


class Task(Protocol):
    """What a stage tells the loop. A Task is an nn.Module whose forward gives the loss terms."""

    weights: dict[str, float]  # of each term in the loss; fixed order
    num_rows: int  # rows to learn from
    num_validation_rows: int
    keeps_snapshots: bool  # whether the settings' snapshots are written

    def batch(self, rows: Sequence[int], places: np.ndarray, seed: tuple[int, ...]) -> Any:
        """Training rows as tensors; `places` are their numbers in the global batch."""

    def validation_batch(self, rows: Sequence[int], seed: tuple[int, ...]) -> Any: ...

    def lengths(self) -> np.ndarray | None:
        """Tokens of each row, to put rows of like length together; None = leave them mixed."""

    def counts(self, batch) -> dict[str, int]:
        """How many items each term is a mean over."""

    def num_tokens(self, batch) -> int: ...

    def prepare(self, device: torch.device) -> None:
        """Move what is no part of the module (a frozen teacher) to the device."""

    def forward(self, batch) -> dict[str, Tensor]: ...

    def export(self, run: RunFolder, dtype: str) -> None:
        """Write the trained weights that others use, the model's own last."""


@dataclass
class Position:
    """Where a run stands; stored with every checkpoint."""

    step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    stale: int = 0  # evaluations since the best one
    elapsed_sec: float = 0.0
    window: dict[str, float] = field(default_factory=dict)  # sums since the last logged line
    window_steps: int = 0


def seed_everything(*parts: int) -> None:
    """Seed torch from numbers; (seed, step, rank) gives independent streams."""
    torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]))


def make_accelerator(settings: TrainingSettings):
    """accelerate's Accelerator, after checking that torchrun's processes found each other."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    # A second run in this process may want another precision.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=_precision(settings.mixed_precision), cpu=not _has_accelerator()
    )
    wanted = int(os.environ.get("WORLD_SIZE", 1))
    if accelerator.num_processes != wanted:
        raise TrainingFailed(
            f"Wanted {wanted} processes, found {accelerator.num_processes}. Start them with: "
            f"torchrun --nproc_per_node {wanted} -m core …"
        )
    return accelerator


def train(
    task: nn.Module, settings: TrainingSettings, run: RunFolder, accelerator, progress=None
) -> None:
    """Train a task to the end of its steps, or to early stop, and export it into the run folder.

    Goes on from the run's last checkpoint. Raises TrainingFailed where a term is no number,
    TrainingStopped on Ctrl-C or SIGTERM; both leave a checkpoint that can be continued.
    """
    _check(settings, task)
    loop = _Loop(task, settings, run, accelerator, progress or (lambda *_: None))
    with _only_one(run, accelerator), _Interrupt() as interrupt:
        try:
            loop.run_to_end(interrupt)
        except (TrainingFailed, TrainingStopped):
            raise
        except BaseException as fault:
            loop.tell_failure(loop.position.step, f"{type(fault).__name__}: {fault}")
            raise


class _Loop:
    def __init__(self, task, settings, run, accelerator, progress):
        self.settings, self.run, self.accelerator = settings, run, accelerator
        self.progress = progress if accelerator.is_main_process else (lambda *_: None)
        self.task = task.to(accelerator.device)
        task.prepare(accelerator.device)
        if settings.compile:
            compile_layers(task, accelerator.device)
        self.optimizer = make_optimizer(task, settings)
        self.position = Position()
        self.world, self.rank = accelerator.num_processes, accelerator.process_index
        self.order = RowOrder(
            task.num_rows, settings.batch_size * self.world, settings.seed, task.lengths()
        )
        self.snapshot_steps = snapshot_steps(settings) if task.keeps_snapshots else ()
        self.last_heartbeat = 0.0
        self.log_began, self.log_tokens = time.monotonic(), 0

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process

    def run_to_end(self, interrupt: _Interrupt) -> None:
        self._resume()
        self.model, self.optimizer = self.accelerator.prepare(self.task, self.optimizer)
        began = time.monotonic() - self.position.elapsed_sec
        settings, position = self.settings, self.position
        while position.step < settings.steps:
            self._one_step()
            position.elapsed_sec = time.monotonic() - began
            last = position.step == settings.steps
            if position.step % settings.log_every == 0 or last:
                self._log()
            if self._evaluates and (position.step % settings.evaluate_every == 0 or last):
                self._evaluate()
            # Before any checkpoint of this step: a run that goes on from there has it.
            if self.main and position.step in self.snapshot_steps:
                self.task.export(self.run.snapshot(position.step), settings.weights_dtype)
            self._heartbeat()
            if settings.patience and position.stale >= settings.patience:
                break
            if self._agreed(interrupt.asked):
                self._stop()
            if position.step % settings.checkpoint_every == 0 and not last:
                self._checkpoint()
        self._finish()

    # ---- one step

    def _one_step(self) -> None:
        settings, position = self.settings, self.position
        step = position.step
        rate = learning_rate(settings, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        seed_everything(settings.seed, step, self.rank)
        self.model.train()
        batches = [self._batch(step, micro) for micro in range(settings.gradient_accumulation)]
        shares = self._shares(batches)
        terms = dict.fromkeys(self.task.weights, 0.0)
        for number, (batch, share) in enumerate(zip(batches, shares)):
            last = number == len(batches) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                values = self.model(batch)
                loss = sum(w * share[t] * values[t] for t, w in self.task.weights.items())
                self.accelerator.backward(loss)
            for name in terms:
                terms[name] = terms[name] + share[name] * values[name].detach()
        found = torch.stack([*terms.values()]).tolist()
        self._check_numbers(dict(zip(terms, found)), step)
        grad_norm = self._clip()
        self._check_numbers({"gradient norm": grad_norm}, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        position.step += 1
        self._add_to_window(dict(zip(terms, found)), grad_norm, batches)

    def _batch(self, step: int, micro: int):
        number = step * self.settings.gradient_accumulation + micro
        rows = self.order.batch(number)
        places = np.arange(len(rows))[self.rank :: self.world]
        batch = self.task.batch(rows[places], places, (self.settings.seed, number))
        return batch.to(self.accelerator.device)

    def _shares(self, batches: list) -> list[dict[str, float]]:
        """Each micro-batch's share of each term's mean: by items, not by batches.

        Otherwise a micro-batch with few masked words would weigh as much as one with many.
        """
        if len(batches) == 1:
            return [dict.fromkeys(self.task.weights, 1.0)]
        names = list(self.task.weights)
        counts = [[self.task.counts(batch)[name] for name in names] for batch in batches]
        table = torch.tensor(counts, dtype=torch.float64, device="cpu")
        if self.world > 1:
            table = self.accelerator.reduce(table.float().to(self.accelerator.device)).cpu()
        shares = table / table.sum(dim=0).clamp(min=1)
        return [dict(zip(names, row)) for row in shares.tolist()]

    def _clip(self) -> float:
        limit = self.settings.max_grad_norm or math.inf
        return float(self.accelerator.clip_grad_norm_(self.model.parameters(), limit))

    def _check_numbers(self, values: dict[str, float], step: int) -> None:
        bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if not bad:
            return
        reason = f"Step {step + 1}: {' and '.join(bad)}."
        self.tell_failure(step, reason)
        raise TrainingFailed(
            f"{reason} The run '{self.run.name}' stopped before this step changed its weights. "
            "Try a lower learning_rate, a longer warmup_steps or a smaller max_grad_norm, under "
            "another --name."
        )

    # ---- what is told

    def tell_failure(self, step: int, reason: str) -> None:
        if self.main:
            self.run.write_status("failed", step, self.settings.steps, reason)

    def _add_to_window(self, terms: dict[str, float], grad_norm: float, batches: list) -> None:
        window = self.position.window
        for name, value in {**terms, "grad_norm": grad_norm}.items():
            window[name] = window.get(name, 0.0) + value
        self.position.window_steps += 1
        self.log_tokens += sum(self.task.num_tokens(batch) for batch in batches)

    def _log(self) -> None:
        position = self.position
        means = {name: total / position.window_steps for name, total in position.window.items()}
        grad_norm = means.pop("grad_norm")
        now = time.monotonic()
        line = {
            "step": position.step,
            "split": "train",
            "loss": self._weighted(means),
            "terms": means,
            "learning_rate": learning_rate(self.settings, position.step - 1),
            "grad_norm": grad_norm,
            "tokens_per_sec": self.world * self.log_tokens / max(1e-9, now - self.log_began),
            "elapsed_sec": round(position.elapsed_sec, 3),
        }
        self._append(line)
        self.log_began, self.log_tokens = now, 0
        position.window, position.window_steps = {}, 0
        self.progress(position.step, self.settings.steps, f"loss {line['loss']:.3f}")

    def _append(self, line: dict) -> None:
        if self.main:
            self.run.append_metrics(line)

    def _weighted(self, terms: dict[str, float]) -> float:
        return sum(weight * terms[name] for name, weight in self.task.weights.items())

    def _heartbeat(self) -> None:
        if self.main and time.monotonic() - self.last_heartbeat > HEARTBEAT_SEC:
            self.run.write_status("running", self.position.step, self.settings.steps)
            self.last_heartbeat = time.monotonic()

    # ---- validation

    @property
    def _evaluates(self) -> bool:
        return self.task.num_validation_rows > 0

    def _evaluate(self) -> None:
        """Loss on held-out rows; the best weights so far are kept."""
        position = self.position
        terms = self._validation_terms()
        loss = self._weighted(terms)
        self._check_numbers({f"validation {n}": v for n, v in terms.items()}, position.step)
        self._append(
            {
                "step": position.step,
                "split": "validation",
                "loss": loss,
                "terms": terms,
                "grad_norms": self._gradient_norms(),
                "elapsed_sec": round(position.elapsed_sec, 3),
            }
        )
        if loss < position.best_loss - MIN_IMPROVEMENT:
            position.best_loss, position.best_step, position.stale = loss, position.step, 0
            self._save_best()
        else:
            position.stale += 1

    @torch.no_grad()
    def _validation_terms(self) -> dict[str, float]:
        """Means over the validation rows, the batches shared out over the ranks."""
        names = list(self.task.weights)
        size = self.settings.batch_size
        sums = torch.zeros(2, len(names), dtype=torch.float64)
        self.task.eval()
        for number, first in enumerate(range(0, self.task.num_validation_rows, size)):
            if number % self.world != self.rank:
                continue
            rows = range(first, min(first + size, self.task.num_validation_rows))
            seed = (self.settings.seed, 2**31, number)  # never a training batch's
            batch = self.task.validation_batch(rows, seed).to(self.accelerator.device)
            counts = self.task.counts(batch)
            with self.accelerator.autocast():
                values = self.task(batch)
            for column, name in enumerate(names):
                sums[0, column] += float(values[name]) * counts[name]
                sums[1, column] += counts[name]
        if self.world > 1:
            sums = self.accelerator.reduce(sums.float().to(self.accelerator.device)).cpu()
        return dict(zip(names, (sums[0] / sums[1].clamp(min=1)).tolist()))

    def _gradient_norms(self) -> dict[str, float]:
        """How hard each weighted term pulls: its gradient's length over all trained weights.

        On the rows of the coming step, without dropout. In evaluation mode no buffer changes,
        and every step seeds itself, so that training does not notice.
        """
        self.task.eval()
        parameters = [p for p in self.task.parameters() if p.requires_grad]
        batch = self._batch(self.position.step, 0)
        with self.accelerator.autocast():
            values = self.task(batch)
        return {
            name: self._norm_over_ranks(_gradients(weight * values[name], parameters))
            for name, weight in self.task.weights.items()
        }

    def _norm_over_ranks(self, grads: Sequence[Tensor]) -> float:
        if self.world > 1:  # the gradient is the mean of the ranks'
            flat = torch.cat([grad.flatten() for grad in grads])
            grads = [self.accelerator.reduce(flat, "mean")]
        return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(grads)))))

    def _save_best(self) -> None:
        from safetensors.torch import save

        if self.main:
            self.run.checkpoints.mkdir(parents=True, exist_ok=True)
            state = {n: t.contiguous() for n, t in self.task.state_dict().items()}
            write_bytes(self.run.checkpoints / "best.safetensors", save(state))

    # ---- beginning and end

    def _resume(self) -> None:
        state = load_checkpoint(self.run.checkpoints, self.task, self.optimizer)
        if state is not None:
            self.position = Position(**state)
        if self.main:
            self.run.cut_metrics(self.position.step)
            self.run.write_status("running", self.position.step, self.settings.steps)
        self.accelerator.wait_for_everyone()
        message = f"goes on from step {self.position.step}" if state else "begins"
        self.progress(self.position.step, self.settings.steps, message)

    def _checkpoint(self) -> None:
        if self.main:
            state = dict(self.position.__dict__)
            step = state.pop("step")
            save_checkpoint(self.run.checkpoints, step, self.task, self._plain_optimizer, state)
        self.accelerator.wait_for_everyone()

    @property
    def _plain_optimizer(self) -> torch.optim.Optimizer:
        return self.optimizer.optimizer

    def _agreed(self, asked: bool) -> bool:
        """Whether any rank was asked to stop; all must leave the loop at the same step."""
        if self.world == 1:
            return asked
        flag = torch.tensor(int(asked), device=self.accelerator.device)
        dist.all_reduce(flag)
        return bool(flag)

    def _stop(self) -> None:
        self._checkpoint()
        step, steps = self.position.step, self.settings.steps
        if self.main:
            self.run.write_status("stopped", step, steps, "stopped by the user")
        raise TrainingStopped(
            f"Stopped at step {step} of {steps}; the checkpoint is saved. "
            "Give the same command again to go on."
        )

    def _finish(self) -> None:
        """Export the best weights and clear the checkpoints away."""
        from safetensors.torch import load_file

        self.accelerator.wait_for_everyone()
        position = self.position
        best = self.run.checkpoints / "best.safetensors"
        if position.best_step and best.is_file():
            self.task.load_state_dict(load_file(best))
        if self.main:
            self.task.export(self.run, self.settings.weights_dtype)
            self.run.update_provenance(
                weights_hash=self.run.weights_hash(),
                exported_step=position.best_step or position.step,
                trained_sec=round(position.elapsed_sec, 1),
            )
            early = position.step < self.settings.steps
            reason = f"early stop, best at step {position.best_step}" if early else ""
            self.run.write_status("finished", position.step, self.settings.steps, reason)
            remove_folder(self.run.checkpoints)
        self.accelerator.wait_for_everyone()
        self.progress(self.settings.steps, self.settings.steps, "trained")


# ---- the parts --------------------------------------------------------------------------


class RowOrder:
    """Which rows each global batch has, as a function of its number: nothing to save.

    Every epoch is a new shuffle. With `lengths`, rows of like length share a batch (padding
    costs as much as words), drawn from pools of 32 batches, and the batches are shuffled.
    Rows that fill no whole batch wait for a later epoch.
    """

    POOL = 32

    def __init__(self, num_rows: int, batch_size: int, seed: int, lengths=None):
        self.num_rows, self.seed, self.lengths = num_rows, seed, lengths
        self.batch_size = min(batch_size, num_rows)
        self.batches_per_epoch = num_rows // self.batch_size
        self._epoch, self._batches = -1, None

    def batch(self, number: int) -> np.ndarray:
        """Row numbers of a global batch [batch_size]."""
        epoch, place = divmod(number, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[place]

    def _shuffled(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng((self.seed, 0, epoch))
        count = self.batches_per_epoch * self.batch_size
        rows = generator.permutation(self.num_rows)[:count]
        if self.lengths is None:
            return rows.reshape(-1, self.batch_size)
        pool = self.POOL * self.batch_size
        for first in range(0, count, pool):
            part = rows[first : first + pool]
            rows[first : first + pool] = part[np.argsort(self.lengths[part], kind="stable")]
        return generator.permutation(rows.reshape(-1, self.batch_size))


def _gradients(value: Tensor, parameters: list[nn.Parameter]) -> Sequence[Tensor]:
    if not value.requires_grad:  # as of masked words where none is hidden
        return [torch.zeros_like(parameter) for parameter in parameters]
    return torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)


def snapshot_steps(settings: TrainingSettings) -> tuple[int, ...]:
    """Steps to keep weights of, evenly between the untrained model and the last step."""
    parts = settings.snapshots + 1
    steps = {round(settings.steps * part / parts) for part in range(1, parts)}
    return tuple(sorted(steps - {0, settings.steps}))


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """The rate of the step after `step` steps: linear warm-up, then the schedule down to 0."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    factor = {
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "constant": 1.0,
    }[settings.schedule]
    return settings.learning_rate * factor


def make_optimizer(task: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW in one fused kernel; biases, norms and embeddings of one dimension do not decay."""
    trained = [p for p in task.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _check(settings: TrainingSettings, task) -> None:
    if settings.schedule not in ("linear", "cosine", "constant"):
        raise SettingsError(
            f"Wanted schedule linear, cosine or constant, found '{settings.schedule}'."
        )
    if settings.weights_dtype not in ("float32", "float16", "bfloat16"):
        raise SettingsError(
            f"Wanted weights_dtype float32, float16 or bfloat16, found '{settings.weights_dtype}'."
        )
    for name in ("steps", "batch_size", "gradient_accumulation", "log_every", "evaluate_every"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"Wanted {name} of 1 or more, found {getattr(settings, name)}.")
    if settings.snapshots < 0:
        raise SettingsError(f"Wanted snapshots of 0 or more, found {settings.snapshots}.")
    if task.num_rows < 1:
        raise SettingsError("Nothing to learn from: no training rows.")


def _precision(wanted: str) -> str:
    if wanted == "auto":
        on_gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16" if on_gpu else "no"
    if wanted not in ("no", "bf16"):
        raise SettingsError(f"Wanted mixed_precision auto, no or bf16, found '{wanted}'.")
    return wanted


def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


@contextlib.contextmanager
def _only_one(run: RunFolder, accelerator):
    """Two processes must not write one run."""
    lock = FileLock(run.path / ".lock")
    if accelerator.is_main_process:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise TrainingFailed(
                f"Run '{run.name}' is being trained by process {run.status.get('pid')}. "
                "Wait for it, stop it, or choose another --name."
            ) from None
    try:
        yield
    finally:
        lock.release()


class _Interrupt:
    """Remembers Ctrl-C and SIGTERM until the step is done; a second Ctrl-C acts at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.asked = False
        self._before: dict = {}

    def __enter__(self) -> _Interrupt:
        # Python allows handlers in the main thread only; elsewhere the caller's own apply.
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._ask) for s in self.SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame) -> None:
        self.asked = True
        signal.signal(number, self._before[number])
