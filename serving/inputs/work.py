"""The work on one request that runs in a thread: what memory it may take, and whether anybody still wants it.

Decoders call `take` and `checkpoint` without knowing for whom they work; outside of such work both do nothing.
"""

from __future__ import annotations

from contextvars import ContextVar

from serving.budget import Held


class Abandoned(Exception):
    """Nobody waits for the result any more; it never leaves the thread."""


class Work:
    """One request's decoding. `stop` may be called from another thread."""

    def __init__(self, held: Held | None = None) -> None:
        self._held = held
        self._stopped = False

    def stop(self) -> None:
        """Let it end at its next checkpoint."""
        self._stopped = True

    def take(self, size: int) -> None:
        """See `take` of the module."""
        if self._held is not None:
            self._held.grow(size)

    def checkpoint(self) -> None:
        """See `checkpoint` of the module."""
        if self._stopped:
            raise Abandoned


current: ContextVar[Work | None] = ContextVar("current", default=None)


def take(size: int) -> None:
    """Count `size` bytes that are about to be decoded. Raises as `BufferedBytes.acquire`."""
    doing = current.get()
    if doing is not None:
        doing.checkpoint()
        doing.take(size)


def checkpoint() -> None:
    """End here if nobody wants the result any more."""
    doing = current.get()
    if doing is not None:
        doing.checkpoint()
