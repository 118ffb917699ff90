"""The lock of what is in flight, for which a loop never waits: what it asks for is done by whoever holds it.

A thread that holds it may have been put aside by the system just then, and whoever serves thousands of connections cannot
wait for that.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

_log = logging.getLogger("certserve.engine")


class EngineLock:
    """A lock with conditions, not to be taken twice by a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: deque[Callable[[], None]] = deque()
        self._waiting: deque[None] = deque()

    @property
    def wanted(self) -> bool:
        """Whether a thread waits for it. Whoever lets go and takes it again at once has it before that is awake."""
        return bool(self._waiting)

    def soon(self, call: Callable[[], None]) -> None:
        """Have something done under the lock: now where it is free, else by whoever holds it, before that lets go. What is
        asked for first is done first.
        """
        self._asked.append(call)
        self._do_what_waits()

    def condition(self) -> threading.Condition:
        """A condition of this lock: whoever waits for it lets go of the lock meanwhile."""
        return threading.Condition(self)  # type: ignore[arg-type]  # it asks for no more than is here

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """See `threading.Lock`."""
        if self._lock.acquire(blocking=False):
            return True
        if not blocking:
            return False
        self._waiting.append(None)
        try:
            return self._lock.acquire(timeout=timeout)
        finally:
            self._waiting.pop()

    def release(self) -> None:
        """See `threading.Lock`; before that, what was asked for."""
        self._do()
        self._lock.release()
        self._do_what_waits()  # who asked between the two found it taken

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _do_what_waits(self) -> None:
        while self._asked and self._lock.acquire(blocking=False):
            self._do()
            self._lock.release()

    def _do(self) -> None:
        while self._asked:
            call = self._asked.popleft()
            try:
                call()
            except Exception:  # a defect of ours: whoever holds the lock has nothing to do with it
                _log.exception("something that was asked for under the engine's lock failed")
