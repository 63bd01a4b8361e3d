"""Fine-tune an encoder on a downstream task, and answer the task's evaluation items.

    python -m core fine-tune --task tracie-uniform --model demo-teacher --model minilm --seeds 0,1,2

The encoder is a run of ours, "minilm", or any masked LM by folder or hub name. Collapsed seeds
are part of the picture (Mosbach et al. 2021), so that every figure wants several.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.analysis import baselines
from core.analysis.fine_tuned import predictions_path
from core.config import FineTuneSettings, SettingsError
from core.data import probe_tasks
from core.data.task_rows import ROWS, SpanRows, group_of
from core.inference import model_hash, open_encoder
from core.losses.gather import global_mean
from core.models.run_folder import RunFolder
from core.models.task_heads import TaskBatch, TaskModel, description, trainable_encoder
from core.models.tokenizer import Tokenizer
from core.training.loop import make_accelerator, seed_everything, train
from core.training.provenance import provenance
from core.training.task_answers import answered, write_answers
from core.training.train_teacher import open_run

SPLIT_SEED = 0  # every training seed learns from the same items and is judged by the same others
EVALUATIONS_PER_EPOCH = 2


def fine_tune(settings: FineTuneSettings, progress=None) -> RunFolder:
    """Train one seed, answer the evaluation items, and return the run folder.

    The same call continues a run that was cut off and does nothing for one whose answers are
    there. Raises what the task's data, the encoder and the loop raise.
    """
    task = probe_tasks.load_task(settings.task)
    settings = named(settings)
    accelerator = make_accelerator(settings.training)
    training, validation = training_items(settings, task)
    seed_everything(settings.training.seed)
    opened = open_encoder(settings.model, device="cpu")
    model = new_model(settings, task, opened.model)
    make_rows = row_maker(settings, task.kind, opened.tokenizer, model.max_tokens)
    rows = make_rows(training, settings.negatives)
    settings = with_steps(settings, len(rows), accelerator.num_processes)
    origin = provenance(
        seed=settings.training.seed,
        inputs=_inputs(settings, [*training, *validation], opened.tokenizer, accelerator),
        model=description(model, len(task.labels), settings.head_dropout),
        encoder={"name": settings.model, "kind": opened.kind},
        train_items=len(training),
        validation_items=len(validation),
    )
    run = open_run("fine-tuned", settings, origin, opened.tokenizer, accelerator)
    if run.status["state"] != "finished":
        stage = FineTuneTask(model, rows, make_rows(validation, settings.negatives))
        train(stage, settings.training, run, accelerator, progress)
    if accelerator.is_main_process:
        known = [*training, *validation]
        answer_tasks(run, settings, opened.tokenizer, known, accelerator.device, progress)
    accelerator.wait_for_everyone()
    return run


def fine_tune_seeds(
    settings: FineTuneSettings, models: Sequence[str], seeds: Sequence[int], progress=None
) -> list[str]:
    """Fine-tune every model with every seed, one after another, and return the runs' names.

    What is finished is passed over, so that the same call goes on after an interruption.
    """
    progress = progress or (lambda *_: None)
    pairs = [(model, seed) for model in models for seed in seeds]
    finished = []
    for number, (model, seed) in enumerate(pairs):
        name = settings.name and f"{settings.name}-{model_label(model)}"
        one = dataclasses.replace(
            settings,
            name=name,
            model=model,
            training=dataclasses.replace(settings.training, seed=seed),
        )

        def inside(done: int, total: int, message: str, number=number, one=one) -> None:
            # Of each run's thousand parts the last fifth is for answering.
            first, size = (800, 200) if message == "answers" else (0, 800)
            place = 1000 * number + first + size * done // max(1, total)
            shown = f"{model_label(one.model)}, seed {one.training.seed}: {message}"
            progress(place, 1000 * len(pairs), shown)

        finished.append(fine_tune(one, inside).name)
    progress(1000 * len(pairs), 1000 * len(pairs), "fine-tuned")
    return finished


class FineTuneTask(nn.Module):
    """One loss: the cross-entropy of the right class, choice, or first and last piece."""

    keeps_snapshots = False
    weights = {"answer": 1.0}

    def __init__(self, model: TaskModel, train_rows, held_out_rows):
        super().__init__()
        self.model = model
        self._rows, self._held_out = train_rows, held_out_rows
        self.num_rows, self.num_validation_rows = len(train_rows), len(held_out_rows)

    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        return {"answer": answer_loss(self.model(batch), batch.labels)}

    def batch(self, rows: Sequence[int], places: np.ndarray, seed: tuple[int, ...]) -> TaskBatch:
        return self._rows.batch(rows)

    def validation_batch(self, rows: Sequence[int], seed: tuple[int, ...]) -> TaskBatch:
        return self._held_out.batch(rows)

    def lengths(self) -> np.ndarray:
        return self._rows.lengths()

    def counts(self, batch: TaskBatch) -> dict[str, int]:
        return {"answer": len(batch.labels)}

    def num_tokens(self, batch: TaskBatch) -> int:
        return int(batch.text.mask.sum())

    def prepare(self, device: torch.device) -> None:
        """Nothing stands outside the module."""

    def export(self, run: RunFolder, dtype: str) -> None:
        run.save_weights(self.model.state_dict(), dtype)


def answer_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over items; of a span the mean of its first and its last piece's."""
    if labels.dim() == 1:
        return global_mean(F.cross_entropy(scores, labels, reduction="sum"), len(labels))
    ends = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="sum")
    return global_mean(ends / 2, len(labels))


# ---- what is trained on what ----------------------------------------------------------------------


def named(settings: FineTuneSettings) -> FineTuneSettings:
    """The settings with a name, when they came without: task, model and seed."""
    base = settings.name or f"{settings.task}-{model_label(settings.model)}"
    ending = f"-s{settings.training.seed}"
    name = base if base.endswith(ending) else base + ending
    return dataclasses.replace(settings, name=name)


def model_label(model: str) -> str:
    """A model's name as a part of a run's name: of a path its last part."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip("-.") or "model"


def training_items(settings: FineTuneSettings, task) -> tuple[list, list]:
    """Items to learn from, and held-out ones that choose the best weights.

    Items of one story or context stay on one side. Raises SettingsError for unlabelled items.
    """
    split = settings.train_split or task.training
    items = probe_tasks.load_items(
        task.name, split, task.kind, settings.data or None, settings.limit, SPLIT_SEED
    )
    if task.kind != "span" and any(item.label is None for item in items):
        raise SettingsError(
            f"Split '{split}' of '{task.name}' has items without a label. Choose another: "
            "--set train_split=NAME"
        )
    groups = sorted({group_of(item) for item in items}, key=_drawn)
    count = round(len(groups) * settings.validation_fraction)
    held_out = set(groups[:count])
    return (
        [item for item in items if group_of(item) not in held_out],
        [item for item in items if group_of(item) in held_out],
    )


def new_model(settings: FineTuneSettings, task, encoder: nn.Module) -> TaskModel:
    """The encoder with an untrained head; its weights depend on the seed alone."""
    body = trainable_encoder(encoder)
    seed_everything(settings.training.seed)
    labels = len(task.labels)
    return TaskModel(body, task.kind, labels, settings.pooling, settings.head_dropout)


def row_maker(settings: FineTuneSettings, kind: str, tokenizer: Tokenizer, max_tokens: int):
    """A function (items, negatives) -> rows of this kind of task."""
    limit = min(max_tokens, settings.max_tokens)
    if kind == "span":
        return lambda items, negatives=None: SpanRows(
            items, tokenizer, limit, settings.overlap, negatives, SPLIT_SEED
        )
    return lambda items, negatives=None: ROWS[kind](items, tokenizer, limit)


def with_steps(settings: FineTuneSettings, num_rows: int, processes: int) -> FineTuneSettings:
    """Steps, warm-up and evaluations from the epochs, where they were not given."""
    training = settings.training
    batch = training.batch_size * processes
    per_epoch = max(1, num_rows // (batch * training.gradient_accumulation))
    steps = training.steps or max(1, math.ceil(settings.epochs * per_epoch))
    return dataclasses.replace(
        settings,
        training=dataclasses.replace(
            training,
            steps=steps,
            warmup_steps=training.warmup_steps or round(settings.warmup * steps),
            evaluate_every=training.evaluate_every or max(1, per_epoch // EVALUATIONS_PER_EPOCH),
        ),
    )


def _inputs(settings, items: list, tokenizer: Tokenizer, accelerator) -> dict:
    """What must not change when the run goes on."""
    return {
        "model": model_hash(settings.model),
        "items": probe_tasks.items_hash(items),
        "tokenizer": tokenizer.content_hash,
        "processes": accelerator.num_processes,
    }


def _drawn(group: str) -> str:
    return hashlib.sha256(f"{SPLIT_SEED}:{group}".encode()).hexdigest()


# ---- what it answers ------------------------------------------------------------------------------


def answer_tasks(
    run: RunFolder,
    settings: FineTuneSettings,
    tokenizer: Tokenizer,
    known: Sequence,
    device,
    progress=None,
) -> None:
    """Answer the task's evaluation split, and further tasks, with the weights that were kept.

    Answers that are there are kept: they belong to weights that never change. `known` are the
    training items: what their templates alone tell stands beside a result that leaks.
    """
    model = None
    own = probe_tasks.load_task(settings.task)
    for name, split in asked_splits(settings):
        task = probe_tasks.load_task(name)
        path = predictions_path(run.path, task.name, split)
        if path.is_file():
            continue
        items = probe_tasks.load_items(
            task.name, split, own.kind, settings.data or None, settings.evaluate_limit, SPLIT_SEED
        )
        model = model or run.load_model().to(device)
        rows = row_maker(settings, own.kind, tokenizer, model.max_tokens)(items)
        found = answered(model, rows, settings.max_answer_pieces, progress)
        about = {"task": task.name, "split": split, "kind": own.kind, "labels": list(task.labels)}
        about["template_prior"] = template_line(known, items, len(task.labels))
        about["sampled"] = settings.evaluate_limit > 0
        write_answers(path, items, found, list(own.labels), about)


def template_line(known: Sequence, items: Sequence, num_labels: int) -> float | None:
    """Share right by answering what an item's template says; None for a task without them."""
    if not all("template" in item.metadata for item in (*known, *items)):
        return None
    return baselines.prior_rate(known, items, num_labels)


def asked_splits(settings: FineTuneSettings) -> list[tuple[str, str]]:
    """Tasks and splits to answer: the task's own evaluation, then `also` (TASK or TASK:SPLIT)."""
    own = settings.evaluate_split or probe_tasks.load_task(settings.task).evaluation
    pairs = [(settings.task, own)]
    for text in settings.also:
        name, _, split = text.partition(":")
        pairs.append((name, split or probe_tasks.load_task(name).evaluation))
    return pairs
