"""The end of a gateway: what it has accepted is answered, what comes later is told to go elsewhere."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager

from serving.errors import Unavailable

_RETRY_AFTER_S = 5.0


class Draining:
    """How many requests are between their head and their answer, and whether more may come. Belongs to one loop."""

    def __init__(self) -> None:
        self.begun = False
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def admitted(self) -> AbstractContextManager[None]:
        """A context for one request. To enter it raises `Unavailable` once the draining has begun."""
        return self

    def __enter__(self) -> None:
        if self.begun:
            raise Unavailable("the server is stopping; ask again in some seconds", retry_after_s=_RETRY_AFTER_S)
        self._inside += 1
        self._empty.clear()

    def __exit__(self, *_: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._empty.set()

    async def drain(self) -> None:
        """Let no more in, and return when nobody is left."""
        self.begun = True
        await self._empty.wait()
