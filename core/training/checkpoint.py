"""Checkpoints of an unfinished run: whole or not there, whatever is killed when.

    checkpoint/step-00000200/{task.safetensors, optimizer.safetensors, state.json}
    checkpoint/best.safetensors    the best weights by validation so far

No random state is stored: every draw is a function of (seed, step, rank).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from core.models.run_folder import remove_folder, write_bytes

STEP = "step-{:08d}"


def save_checkpoint(
    folder: Path, step: int, task: nn.Module, optimizer: torch.optim.Optimizer, state: dict
) -> None:
    """Write a checkpoint beside the last one, move it into place at once, remove the last one."""
    temporary = folder / f".{STEP.format(step)}.{os.getpid()}"
    remove_folder(temporary)
    temporary.mkdir(parents=True)
    write_bytes(temporary / "task.safetensors", save(_contiguous(task.state_dict())))
    tensors = optimizer_tensors(task, optimizer)
    write_bytes(temporary / "optimizer.safetensors", save(tensors))
    write_bytes(temporary / "state.json", json.dumps({"step": step, **state}).encode())
    final = folder / STEP.format(step)
    remove_folder(final)  # of the same step: the same content
    os.replace(temporary, final)
    _sync_folder(folder)
    for older in _others(folder, final):
        remove_folder(older)


def load_checkpoint(folder: Path, task: nn.Module, optimizer: torch.optim.Optimizer) -> dict | None:
    """Put the last checkpoint into task and optimizer; return its state, None without one."""
    latest = latest_checkpoint(folder)
    if latest is None:
        return None
    task.load_state_dict(load_file(latest / "task.safetensors"))
    _fill_optimizer(task, optimizer, load_file(latest / "optimizer.safetensors"))
    return json.loads((latest / "state.json").read_text())


def latest_checkpoint(folder: Path) -> Path | None:
    found = sorted(folder.glob("step-*"))
    return found[-1] if found else None


def optimizer_tensors(task: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts as one flat dict: "parameter name/key" -> tensor."""
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    return {
        f"{names[id(parameter)]}/{key}": value.detach().contiguous()
        for parameter, entries in optimizer.state.items()
        for key, value in entries.items()
    }


def _fill_optimizer(task: nn.Module, optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = dict(task.named_parameters())
    optimizer.state.clear()
    for flat, value in tensors.items():
        name, _, key = flat.rpartition("/")
        optimizer.state[parameters[name]][key] = value.to(parameters[name].device)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _others(folder: Path, keep: Path) -> list[Path]:
    """Older checkpoints and what killed writers left behind."""
    return [p for p in folder.iterdir() if p.is_dir() and p != keep]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
