"""A task is sent to a replica of the engine, and again to another when that one dies or is stopping, until its deadline.

Draws are keyed, so whoever answers gives the same answer from the same draws: nothing is lost with a replica but time.
No I/O and no clock but the loop's: on a loop with a virtual clock it is simulated as it is served (`tests/simulation`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from serving.errors import CertserveError, Overloaded, Unavailable
from serving.events import Event, Events, Final
from serving.messages import Reply, Task

PAUSE_S = 0.2
"""Between two replicas: as long as it may take until the dead one is known to be dead."""
GRACE_S = 1.0
"""For the way there and back: a replica that lives answers within the deadline, one that is silent is given up after it."""

_Outcome = TypeVar("_Outcome")
Send = Callable[[Task], Awaitable[Reply[Any] | CertserveError]]
"""To some replica: its answer, or its refusal as a value. Raises `Lost`; when cancelled, the work there is given up."""
Heard = Event[Reply[Any]] | CertserveError
Follow = Callable[[Task], AsyncGenerator[Heard, None]]
"""To some replica: its events, or its refusal as a value, which ends them. Raises `Lost`; closing it gives the work up."""


class Lost(Exception):
    """The replica died, or could not be reached."""


class Resending:
    """The `Predictor` over replicas: the function `send` reaches one for an answer, `stream` reaches one for its events."""

    def __init__(self, send: Send, stream: Follow | None = None) -> None:
        """Without `stream` there is one event, the final one."""
        self._send = send
        self._stream = stream or self._final

    def predict(self, task: Task) -> Events[Reply[Any]]:
        """See `Predictor.predict`. Raises `Unavailable` where no replica answered before the deadline."""
        return Events(partial(self.answer, task), partial(self._events, task))

    async def answer(self, task: Task) -> Reply[Any]:
        """The answer of whichever replica gives one."""
        tries = _Tries(task)
        while (left := tries.left()) > 0:
            outcome = await _in_time(self._send(replace(task, timeout_s=left)), left)
            if isinstance(outcome, Reply):
                return outcome
            await tries.again(outcome)
        raise tries.in_vain()

    async def _events(self, task: Task) -> AsyncGenerator[Event[Reply[Any]], None]:
        """The events of one replica after the other. Another one begins anew, by the same draws; what it says is passed
        on once it has counted more draws than the client was told of. A replica of another runtime refuses, for it may
        count other votes.
        """
        tries, counted = _Tries(task), -1
        while (left := tries.left()) > 0:
            async with contextlib.aclosing(self._stream(replace(task, timeout_s=left))) as stream:
                while isinstance(said := await _in_time(_next(stream), tries.left()), Event):
                    draws = sum(row.draws for row in said.said.rows)
                    if draws > counted or isinstance(said, Final):
                        counted, task = draws, replace(task, runtime=said.said.runtime)
                        yield said
                    if isinstance(said, Final):
                        return
            await tries.again(said)
        raise tries.in_vain()

    async def _final(self, task: Task) -> AsyncGenerator[Heard, None]:
        """The one event there is where replicas cannot be asked for more."""
        outcome = await self._send(task)
        yield Final(outcome) if isinstance(outcome, Reply) else outcome


class _Tries:
    """How one task fares with one replica after the other."""

    def __init__(self, task: Task) -> None:
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + task.timeout_s
        self._lost, self._said = False, ""

    def left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - self._clock()

    async def again(self, outcome: CertserveError | None) -> None:
        """Wait for the next replica after a refusal, or after a loss; raises a refusal that another one would repeat."""
        self._lost = self._lost or outcome is None
        # What one replica had taken in is not refused by the next for being busy: it waits its turn.
        if isinstance(outcome, CertserveError) and not isinstance(outcome, _passing(self._lost)):
            raise outcome
        self._said = f" (the last said: {outcome.message})" if outcome else ""
        await asyncio.sleep(max(0.0, min(PAUSE_S, self.left())))

    def in_vain(self) -> Unavailable:
        """What the client is told after the last replica."""
        return Unavailable(f"no engine answered before the deadline{self._said}; try again", retry_after_s=2)


async def _in_time(outcome: Awaitable[_Outcome], left: float) -> _Outcome | None:
    """What comes of a replica; None where it is lost, or silent beyond the deadline."""
    try:
        async with asyncio.timeout(left + GRACE_S):  # wait_for may swallow a cancellation and go on
            return await outcome
    except (Lost, TimeoutError):
        return None


async def _next(stream: AsyncGenerator[Heard, None]) -> Heard:
    """What a replica says next; one that ends without a final word is lost."""
    try:
        return await anext(stream)
    except StopAsyncIteration:
        raise Lost from None


def _passing(lost: bool) -> tuple[type[CertserveError], ...]:
    """The refusals that another replica may not repeat; `lost` says whether one had already taken the task in."""
    return (Unavailable, Overloaded) if lost else (Unavailable,)
