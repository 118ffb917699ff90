"""A call of many requests: a few are worked at together, and each is answered, in the order in which they came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias

from serving.errors import DeadlinePassed
from serving.wires.live import STALLED_S

AT_ONCE = 8
"""So many requests of one call are worked at together; the next is read when the first of them is answered."""
Write: TypeAlias = Callable[[Any], Awaitable[None]]
_Answers: TypeAlias = Callable[[Any], AsyncGenerator[Any, None]]


def taken(write: Write) -> Write:
    """The same, for a client that takes what is written: one that takes nothing for long raises `DeadlinePassed`."""

    async def written(message: Any) -> None:
        try:
            async with asyncio.timeout(STALLED_S):
                await write(message)
        except TimeoutError:
            raise DeadlinePassed(
                f"the client took nothing for {STALLED_S:g} s; read the answers as they come"
            ) from None

    return written


async def converse(messages: AsyncGenerator[Any, None], answers: _Answers, write: Write) -> None:
    """Write the answers to every message. What ends the messages is raised once those before it are answered."""
    begun: asyncio.Queue[_Answered | None] = asyncio.Queue()
    room, working = asyncio.Semaphore(AT_ONCE), set[_Answered]()

    async def read() -> None:
        async with contextlib.aclosing(messages):
            await room.acquire()
            async for message in messages:
                working.add(turn := _Answered(answers(message)))
                begun.put_nowait(turn)
                await room.acquire()

    reading = asyncio.create_task(read())
    reading.add_done_callback(lambda _: begun.put_nowait(None))
    try:
        while (turn := await begun.get()) is not None:
            await turn.to(write)
            working.discard(turn)
            room.release()
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, *(each.give_up() for each in working), return_exceptions=True)


class _Answered:
    """One message that is worked at, from now on. Its next answer is asked for once the one before it is written."""

    def __init__(self, answers: AsyncGenerator[Any, None]) -> None:
        self._found: asyncio.Queue[Any] = asyncio.Queue()
        self._room = asyncio.Semaphore(1)
        self._work = asyncio.create_task(self._answer(answers))
        self._work.add_done_callback(lambda _: self._found.put_nowait(None))

    async def _answer(self, answers: AsyncGenerator[Any, None]) -> None:
        async with contextlib.aclosing(answers):
            await self._room.acquire()
            async for each in answers:
                self._found.put_nowait(each)
                await self._room.acquire()

    async def to(self, write: Write) -> None:
        """Write its answers as they come."""
        while (answer := await self._found.get()) is not None:
            await write(answer)
            self._room.release()
        await self._work

    async def give_up(self) -> None:
        """Nobody waits for its answers any more."""
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)
