"""The processes that descend from this one, and their end: none is left behind, whatever became of their parents."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_S = 5.0


def adopt_orphans() -> None:
    """From now on a descendant whose parent dies becomes a child of this process, and so is found by `end` (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def alive(process: psutil.Process) -> bool:
    """Whether it runs: one that has ended and was not yet waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end() -> None:
    """Kill every descendant, those too that are born meanwhile, and wait until they are gone."""
    until = time.monotonic() + _PATIENCE_S
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < until:
        for each in left:  # parents first: they could start another for one that ends
            with contextlib.suppress(psutil.Error):
                each.kill()
        _bury()
        time.sleep(0.02)


def _bury() -> None:
    """Take note of children that have ended, so that the system forgets them."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
