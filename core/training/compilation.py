"""torch.compile of the Transformer layers, where nearly all of a step's work is.

    python -m core distill … --set compile=true

Layers only: around them sizes change from batch to batch (hidden words, kept tokens) or the host
is asked for numbers. They are compiled in place, so that no parameter changes its name: checkpoints
and exported weights are the same with and without. All layers of one shape share their code; it
is made anew once for lengths that vary, and for training, evaluation and the frozen teacher.
"""

from __future__ import annotations

import torch
from torch import nn

from core.config import SettingsError
from core.models.transformer import TransformerLayer


def compile_layers(task: nn.Module, device: torch.device) -> None:
    """Compile the layers of a task and of the frozen models beside it.

    Raises SettingsError where there is nothing to compile, or nothing to compile with.
    """
    layers = transformer_layers(task)
    if not layers:
        raise SettingsError(
            "Wanted our own Transformer layers to compile, found none. Give: --set compile=false"
        )
    check_compiler(device)
    # The terms' gradient norms go backward through one graph several times.
    from torch._functorch import config as backward

    backward.donated_buffer = False
    for layer in layers:
        layer.compile()


def transformer_layers(task: nn.Module) -> list[TransformerLayer]:
    """All of a task's layers, those of the frozen models beside it too."""
    roots = (task, *getattr(task, "frozen", ()))
    return [part for r in roots for part in r.modules() if isinstance(part, TransformerLayer)]


def check_compiler(device: torch.device) -> None:
    """Compile something small. Raises SettingsError when that fails, whatever the reason."""
    try:
        torch.compile(lambda numbers: numbers * 2 + 1)(torch.ones(2, device=device))
    except Exception as fault:  # each backend has errors of its own
        reason = str(fault).strip().splitlines()[0]
        needed = "a C++ compiler (g++)" if device.type == "cpu" else "Triton and a C compiler"
        raise SettingsError(
            f"torch.compile does not work here: {type(fault).__name__}: {reason} "
            f"It needs {needed}. Install it, or give: --set compile=false"
        ) from fault
