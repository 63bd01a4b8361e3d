"""The demo world's probes for saved runs: forced choice by masked-LM score, and linear probe.

The figures are kept in runs/<run>/probes/<task>.json with the hash of what they were made from,
and made again when the run or the items changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core import config
from core.analysis import fact_probe, forced_choice
from core.analysis.fact_probe import FactProbe
from core.analysis.forced_choice import ForcedChoice
from core.config import SettingsError
from core.data import probe_tasks
from core.records import ProbeItem

TASKS = ("demo_physics", "demo_time")
MADE_BY = 1  # raise when a figure's meaning changes, so that kept ones are made anew


def load_items(task: str) -> list[ProbeItem]:
    """The items of a demo task. Raises SettingsError when they are not there."""
    if task not in TASKS:
        raise SettingsError(f"Wanted the task {' or '.join(TASKS)}, found '{task}'.")
    return probe_tasks.load_items(task)


def items_path(task: str) -> Path:
    return config.library_root("demo") / "demo" / f"{task}.jsonl"


def result_path(run_path: Path, task: str) -> Path:
    return run_path / "probes" / f"{task}.json"


def probe_run(
    run_name: str,
    tasks: Sequence[str] = TASKS,
    method: str = "PLL-word-l2r",
    norm: str = "sum",
    bootstrap: int = 2000,
) -> dict[str, dict]:
    """A run's figures on each task, read where they are kept and fresh, else made and kept.

    Raises RunError for a run without weights, SettingsError without items.
    """
    from core.models.run_folder import RunFolder, write_json

    run = RunFolder.open(run_name)
    encoder, found = None, {}
    for task in tasks:
        items = load_items(task)
        key = _key(run, task, method, norm, bootstrap)
        path = result_path(run.path, task)
        kept = json.loads(path.read_text()) if path.is_file() else {}
        if kept.get("key") != key:
            if encoder is None:
                from core.inference import Encoder

                encoder = Encoder(run)
            kept = {"key": key, "run": run.name, "task": task, "method": method, "norm": norm}
            kept |= _figures(encoder, items, method, norm, bootstrap)
            path.parent.mkdir(exist_ok=True)
            write_json(path, kept)
        found[task] = kept
    return found


def table_cells(figures: dict) -> tuple[str, ...]:
    """A task's figures in per cent: accuracy and calibrated rate, chance, probe and control."""
    choice, linear = figures["forced_choice"], figures["linear_probe"]
    rates = [choice["accuracy"], choice["calibrated"], {**linear, "value": linear["accuracy"]}]
    shown = [
        f"{100 * r['value']:.1f} ({100 * r['interval']['low']:.1f}–{100 * r['interval']['high']:.1f})"
        for r in rates
    ]
    chance, control = choice["accuracy"]["chance"], linear["control"]
    return (*shown[:2], f"{100 * chance:.1f}", shown[2], f"{100 * control:.1f}")


def is_fresh(run, task: str, method="PLL-word-l2r", norm="sum", bootstrap: int = 2000) -> bool:
    """Whether a RunFolder's kept figures are of its present weights and the present items."""
    path = result_path(run.path, task)
    if not (path.is_file() and run.has_weights and items_path(task).is_file()):
        return False
    return json.loads(path.read_text()).get("key") == _key(run, task, method, norm, bootstrap)


def _figures(encoder, items: list[ProbeItem], method: str, norm: str, bootstrap: int) -> dict:
    from core.score_cache import score_items
    from core.scoring import normed

    scored = score_items(encoder, items, method)
    scores = [
        [normed(score, text, norm) for score, text in zip(row, item.choices)]
        for row, item in zip(scored, items)
    ]
    choice = forced_choice.judge(items, scores, bootstrap)
    probe = fact_probe.probe_facts(
        subject_states(encoder, items),
        [i.metadata["family"] for i in items],
        [i.metadata["subject"] for i in items],
        [fact_outcome(i) for i in items],
        bootstrap,
    )
    return {"forced_choice": _choice_json(choice), "linear_probe": _probe_json(probe)}


def subject_states(encoder, items: Sequence[ProbeItem]) -> np.ndarray:
    """Last hidden state of the word that names the fact's subject in each context [N, H]."""
    text = encoder.hidden_states([item.context for item in items])
    rows = []
    for number, item in enumerate(items):
        first, last = text.text_offsets[number : number + 2]
        words = [token.text.lower() for token in text.tokens[first:last]]
        rows.append(first + words.index(subject_word(item)))
    return text.vectors[rows].astype(np.float64)


def subject_word(item: ProbeItem) -> str:
    """The surface form of the item's subject: "wooden" for wood."""
    from core.data.demo_narration import adjective

    return adjective(item.metadata["subject"])


def fact_outcome(item: ProbeItem) -> str:
    """The fact's outcome; for an order the action that comes first, whatever the item names."""
    return item.metadata.get("order", [item.metadata["outcome"]])[0]


def _choice_json(choice: ForcedChoice) -> dict:
    content = dataclasses.asdict(choice)
    for name in ("margins", "calibrated_margins"):
        content[name] = [round(float(v), 6) for v in content[name]]
    return content


def _probe_json(probe: FactProbe) -> dict:
    return {**dataclasses.asdict(probe), "selectivity": probe.selectivity}


def _key(run, task: str, *settings) -> str:
    from core.inference import encoder_hash

    items = hashlib.sha256(items_path(task).read_bytes()).hexdigest()
    text = json.dumps([MADE_BY, encoder_hash(run), items, *settings])
    return hashlib.sha256(text.encode()).hexdigest()
