"""One budget of the bytes that a whole process keeps of requests that are not answered yet.

Bodies and messages as they come, what they inflate to, and what is decoded from them all take from it, on every wire,
before the memory is taken. No request may hold more than half of what the others leave: large ones are refused before
small ones are, and no few clients can keep everybody else out.
"""

from __future__ import annotations

import threading
from types import TracebackType

from serving.errors import Overloaded, TooLarge

_RETRY_AFTER_S = 1.0


class BufferedBytes:
    """The budget. It may be used from several threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes that are held now, by all."""
        return self._held

    def hold(self) -> Held:
        """What one request holds: empty at first; everything goes back when the context closes."""
        return Held(self)

    def acquire(self, size: int, already: int = 0) -> None:
        """Take `size` bytes for one that holds `already`.

        Raises `Overloaded` if the others leave too little now, and `TooLarge` if it can never fit.
        """
        wanted = already + size
        with self._lock:
            if 2 * wanted > self.limit - (self._held - already):
                raise self._refusal(wanted)
            self._held += size

    def release(self, size: int) -> None:
        """Give back what was acquired."""
        with self._lock:
            self._held -= size

    def _refusal(self, wanted: int) -> Overloaded | TooLarge:
        if 2 * wanted > self.limit:
            return TooLarge(
                f"the request needs {wanted} bytes of memory, over the limit of {self.limit // 2} (half of"
                " max_buffered_bytes); send fewer rows at a time"
            )
        return Overloaded(
            "requests in progress hold all the memory that the server gives them; try again, or send fewer rows at a time",
            retry_after_s=_RETRY_AFTER_S,
        )


class Held:
    """The bytes of one request. Once its context has closed it takes no more, from whatever thread."""

    def __init__(self, budget: BufferedBytes) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._closed = False
        self.size = 0

    def grow(self, size: int) -> None:
        """Hold `size` bytes more. Raises as `BufferedBytes.acquire`; then nothing has changed."""
        with self._lock:
            if self._closed:
                raise Overloaded("the request that this was for is over", retry_after_s=_RETRY_AFTER_S)
            self._budget.acquire(size, self.size)
            self.size += size

    def check(self, size: int) -> None:
        """Raise as `grow` would, and hold nothing more."""
        self.grow(size)
        self.shrink(size)

    def shrink(self, size: int) -> None:
        """Hold `size` bytes less."""
        with self._lock:
            self._budget.release(size)
            self.size -= size

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            self._budget.release(self.size)
            self.size = 0
