"""A clock for the engine's threads that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import threading


class HandedClock:
    """Behind the engine's port `EngineClock`."""

    def __init__(self):
        self._now = 1_000.0
        self._lock = threading.Lock()
        self._waiting = []

    def now(self):
        with self._lock:
            return self._now

    def wait(self, condition, until):
        with self._lock:
            if until <= self._now:
                return
            self._waiting.append(condition)
        condition.wait()  # whoever moves the clock needs the condition, and so comes after this
        with self._lock:
            self._waiting.remove(condition)

    def advance(self, seconds):
        """Let time pass, and wake everybody who waits."""
        with self._lock:
            self._now += seconds
            waiting = set(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()


async def until(true):
    """Wait for threads to make something true; the limit is there to fail a test that would wait for ever."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)
