"""An asyncio loop on a virtual clock: where everybody waits, time jumps to the next timer. Deterministic, and fast."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any


class Stuck(AssertionError):
    """Everybody waits for something that can never come."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Seconds from 0; it is its own selector, which never has an event. No sockets, no threads."""

    def __init__(self) -> None:
        super().__init__()
        self._set(0.0)
        self._selector = self

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stuck("nothing is ready and no timer is set")
        if timeout > 0:
            self._set(self._scheduled[0].when())  # to the last bit: now plus the time until then may be just before it
        return []

    def _set(self, now: float) -> None:
        self._now = now
        # No timer fires a hair before its time: whoever then looks at the clock would set it again, for ever.
        self._clock_resolution = math.ulp(now)

    def _process_events(self, events: list[object]) -> None:
        """There are none."""


def run_virtually(main: Coroutine[Any, Any, Any]) -> Any:
    """What `main` returns; tasks that it leaves behind are cancelled."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
