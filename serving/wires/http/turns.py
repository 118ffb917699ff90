"""What comes of many connections at once, a little in each turn of the loop: whoever asks for little waits for little."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_Call = Callable[[], None]


class FewAtOnce:
    """Calls in the order in which they come, no more than `most` in one turn of the loop."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._waiting: deque[_Call] = deque()
        self._begun = False

    def soon(self, call: _Call) -> None:
        """Call it now where this turn has room for it, else in a later one."""
        if self._left and not self._waiting:
            self._take(call)
        else:
            self._waiting.append(call)

    def _take(self, call: _Call) -> None:
        self._left -= 1
        if not self._begun:
            self._begun = True
            asyncio.get_running_loop().call_soon(self._turn)
        call()

    def _turn(self) -> None:
        self._begun, self._left = False, self._most
        while self._left and self._waiting:
            self._take(self._waiting.popleft())


class Woken(asyncio.Event):
    """An event that wakes who waits for it in such a turn, of which it takes one however often it is set meanwhile."""

    def __init__(self, turns: FewAtOnce) -> None:
        super().__init__()
        self._turns = turns
        self._awaited = self._coming = False

    async def wait(self) -> bool:  # type: ignore[override]
        """See `asyncio.Event`."""
        self._awaited = True
        try:
            return await super().wait()
        finally:
            self._awaited = False

    def set(self) -> None:
        """Now, where nobody waits."""
        if not self._awaited:
            super().set()
        elif not self._coming:
            self._coming = True
            self._turns.soon(self._wake)

    def _wake(self) -> None:
        self._coming = False
        super().set()
