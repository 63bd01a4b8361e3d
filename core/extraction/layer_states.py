"""One vector a text from every layer of an encoder, and the linear probes that read them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from core import config
from core.analysis import layer_probes
from core.config import LayerProbeSettings, SettingsError
from core.data import probe_tasks
from core.data.task_rows import PairRows, group_of, length_batches
from core.inference import model_hash, open_encoder
from core.models.run_folder import write_json
from core.models.task_heads import pooled

MADE_BY = 2  # raise when a figure's meaning changes, so that kept ones are made anew


def layer_states(
    encoder,
    texts: Sequence[tuple[str, str]],
    pooling: str = "mean",
    max_tokens: int = 256,
    progress=None,
) -> np.ndarray:
    """States f32 [layers + 1, N, H] of texts (with "" or a second text), layer 0 the embeddings.

    `encoder` is what `open_encoder` gives; `pooling` as in `task_heads.pooled`.
    """
    rows = PairRows(texts, encoder.tokenizer, min(max_tokens, encoder.model.max_tokens))
    progress = progress or (lambda *_: None)
    found: np.ndarray | None = None
    done = 0
    for chosen in length_batches(rows.lengths()):
        batch = rows.text(chosen).to(encoder.device)
        with torch.inference_mode():
            states = encoder.model.encode_text(batch, all_states=True).all_states
            vectors = torch.stack([pooled(s, batch, pooling) for s in states]).float().cpu().numpy()
        if found is None:
            found = np.empty((len(vectors), len(texts), vectors.shape[-1]), np.float32)
        found[:, chosen] = vectors
        done += len(chosen)
        progress(done, len(texts), "states")
    if found is None:
        raise ValueError("Wanted at least one text, found none.")
    return found


# ---- a model's probes on a task ---------------------------------------------------------------------


def probe_model(model: str, settings: LayerProbeSettings, progress=None) -> dict:
    """Every layer's probe of a model on a classification task, kept and read again.

    {"model", "task", "split", "classes", "majority", "train_items", "items", "settings",
    "layers": rows of `layer_probes.as_rows`}. Raises SettingsError for a task of another kind,
    TaskDataMissing without its files.
    """
    task = probe_tasks.load_task(settings.task)
    if task.kind != "classification":
        raise SettingsError(
            f"Layer probes read classes; '{task.name}' is of kind {task.kind}. Choose sst2, qnli, "
            "tracie-uniform, …"
        )
    training, asked = (_labelled(task, settings, split) for split in ("train", "evaluate"))
    made_from = [MADE_BY, model_hash(model), dataclasses.asdict(settings) | {"data": ""}]
    made_from += [probe_tasks.items_hash(items) for items in (training, asked)]
    path = kept_path(made_from)
    if not path.is_file():
        found = _probed(open_encoder(model), training, asked, settings, progress)
        labels = np.array([item.label for item in asked])
        content = {
            "model": str(model),
            "task": task.name,
            "split": settings.evaluate_split or task.evaluation,
            "classes": list(task.labels),
            "majority": float(np.bincount(labels).max() / len(labels)),
            "train_items": len(training),
            "items": len(asked),
            "settings": dataclasses.asdict(settings),
            "layers": layer_probes.as_rows(found),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    return json.loads(path.read_text())


def kept_path(made_from: list) -> Path:
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    return config.cache_root() / "layer-probes" / f"{digest[:24]}.json"


def _labelled(task, settings: LayerProbeSettings, part: str) -> list:
    if part == "train":
        split, limit = settings.train_split or task.training, settings.limit
    else:
        split, limit = settings.evaluate_split or task.evaluation, settings.evaluate_limit
    items = probe_tasks.load_items(
        task.name, split, "classification", settings.data or None, limit, settings.seed
    )
    return [item for item in items if item.label is not None]


def _probed(encoder, training, asked, settings: LayerProbeSettings, progress):
    pairs = [[(item.text, item.second_text) for item in items] for items in (training, asked)]
    both = layer_states(
        encoder, pairs[0] + pairs[1], settings.pooling, settings.max_tokens, progress
    )
    cut = len(training)
    return layer_probes.probe_layers(
        both[:, :cut],
        np.array([item.label for item in training]),
        [layer_probes.first_word(item.text) for item in training],
        both[:, cut:],
        np.array([item.label for item in asked]),
        [layer_probes.first_word(item.text) for item in asked],
        [group_of(item) for item in asked],
        settings.strength,
        settings.seed,
    )
