"""Time and peak memory of a call, and plain tables. Ratios within one run are what counts."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Measured:
    """What one call took, and what it gave back."""

    seconds: float
    peak_mb: float  # above what the process held before; NaN where Linux cannot tell
    result: Any


def measure(call: Callable) -> Measured:
    """Time and peak memory of a single call."""
    gc.collect()
    watched = _forget_peak()
    before = _resident("VmRSS") if watched else 0
    start = time.perf_counter()
    result = call()
    took = time.perf_counter() - start
    peak = (_resident("VmHWM") - before) / 1024 if watched else float("nan")
    return Measured(took, peak, result)


def best(call: Callable, repeats: int) -> Measured:
    """The fastest of several calls, since other programs only ever add time; largest peak."""
    runs = [measure(call) for _ in range(repeats)]
    # The first call after memory went back to the system pays for getting it again.
    runs += [_timed(call) for _ in range(repeats)]
    peak = max(run.peak_mb for run in runs[:repeats])
    return Measured(min(run.seconds for run in runs), peak, runs[0].result)


def _timed(call: Callable) -> Measured:
    start = time.perf_counter()
    result = call()
    return Measured(time.perf_counter() - start, float("nan"), result)


def _forget_peak() -> bool:
    """Start the kernel's high-water mark of memory anew; False where that is impossible."""
    try:
        # Freed memory that the allocator keeps would hide what the call takes.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> int:
    line = next(s for s in _STATUS.read_text().splitlines() if s.startswith(field + ":"))
    return int(line.split()[1])  # kB


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    print(f"\n{title}")
    for row in (header, ["-" * w for w in widths], *rows):
        print("  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip(), flush=True)
