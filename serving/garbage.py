"""When garbage is looked for: while there is little to look through, for every thread stands still meanwhile.

Beside thousands of connections, or requests of thousands of rows, it takes a tenth of a second to go through all that is
alive, and it is just what is made for them that sets Python's collector going. What is young it goes through as ever.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

import psutil

_LOOK_EVERY_S = 2.0
_LITTLE = 50_000
"""Objects: some milliseconds. What was loaded before is not among them where it was frozen."""
_AT_LATEST_S = 300.0
_GROWN = 256 * 2**20
"""Bytes of memory, by which the process may have grown for garbage that was not found."""
_NEVER, _USUAL = 2**30, gc.get_threshold()


class Rounds:
    """Collects all garbage when it is due. What is alive, and how many bytes the process has, is asked of the functions."""

    def __init__(
        self,
        alive: Callable[[], int] = lambda: len(gc.get_objects(generation=2)),
        memory: Callable[[], int] = lambda: psutil.Process().memory_info().rss,
        collect: Callable[[], object] = gc.collect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._alive, self._memory, self._collect, self._clock = alive, memory, collect, clock
        self._last, self._before = clock(), memory()

    def look(self) -> None:
        """Collect now, or see again later."""
        little = self._alive() <= _LITTLE
        if little or self._clock() - self._last >= _AT_LATEST_S or self._memory() - self._before >= _GROWN:
            self._collect()
            self._last, self._before = self._clock(), self._memory()


async def kept_small() -> None:
    """Look from time to time, until this is cancelled; meanwhile Python's collector leaves what is old alone."""
    gc.set_threshold(*_USUAL[:2], _NEVER)
    try:
        await asyncio.sleep(_LOOK_EVERY_S)
        rounds = Rounds()
        while True:
            rounds.look()
            await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        gc.set_threshold(*_USUAL)
