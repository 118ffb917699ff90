"""The clock of the engine's threads, which is handed in: what they measure, and how long they wait."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class EngineClock(Protocol):
    """Seconds from any beginning, never backwards. Safe to call from several threads."""

    def now(self) -> float:
        """The time."""
        ...

    def wait(self, condition: threading.Condition, until: float) -> None:
        """Wait to be notified by a condition that the caller holds, or until a time, which may be infinite. It may return
        early.
        """
        ...


class SystemClock:
    """The time of the system, untouched by anybody who sets it."""

    def now(self) -> float:
        """See `EngineClock.now`."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, until: float) -> None:
        """See `EngineClock.wait`."""
        condition.wait(max(0.0, min(until - self.now(), threading.TIMEOUT_MAX)))
