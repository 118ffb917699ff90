"""A thread that gives way to all others of the server, for noise and model.

It holds none of the engine's locks, and Python's own only for moments: a thread that is put aside with one in hand puts
everybody aside who wants it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from serving.priority import give_way

_STEPS = 2
_Result = TypeVar("_Result")


class GivingWay:
    """Does one thing at a time, for one thread that waits."""

    def __init__(self, name: str) -> None:
        self._asked: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], _Result]) -> _Result:
        """What it returns, or raises."""
        self._asked.put(work)
        found, error = self._done.get()
        if error is not None:
            raise error
        result: _Result = found
        return result

    def close(self) -> None:
        """Nothing more comes."""
        self._asked.put(None)

    def _run(self) -> None:
        give_way(_STEPS)
        while (work := self._asked.get()) is not None:
            try:
                self._done.put((work(), None))
            except BaseException as error:
                self._done.put((None, error))
