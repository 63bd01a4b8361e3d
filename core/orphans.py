"""Processes that outlive others: workers end when the one that started them is gone.

A pool's workers wait for their next job for ever, and go on with the ones handed out before,
when the parent is killed and cannot dismiss them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """Initializer of a pool's workers: a parent's death reaches each as SIGTERM.

    Rendering ends at once. Training saves its checkpoint first; its job then calls
    `leave_if_orphaned`, so that the worker takes no other.
    """
    threading.Thread(target=_follow_parent, daemon=True).start()


def leave_if_orphaned() -> None:
    """End this worker when its parent is gone: nobody is left to take its result."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)


def _follow_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


def is_alive(process: int) -> bool:
    """Whether a process of this machine lives, whoever's it is."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
