"""A task is sent to a replica of the engine, and again to another when that one dies or is stopping, until its deadline.

Draws are keyed, so whoever answers gives the same answer from the same draws: nothing is lost with a replica but time.
No I/O and no clock but the loop's: on a loop with a virtual clock it is simulated as it is served (`tests/simulation`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from serving.errors import CertserveError, Overloaded, Unavailable
from serving.messages import Reply, Task

PAUSE_S = 0.2
"""Between two replicas: as long as it may take until the dead one is known to be dead."""
GRACE_S = 1.0
"""For the way there and back: a replica that lives answers within the deadline, one that is silent is given up after it."""

Send = Callable[[Task], Awaitable[Reply[Any] | CertserveError]]
"""To some replica: its answer, or its refusal as a value. Raises `Lost`; when cancelled, the work there is given up."""


class Lost(Exception):
    """The replica died, or could not be reached."""


class Resending:
    """The `Predictor` over replicas that `send` reaches."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def predict(self, task: Task) -> Reply[Any]:
        """See `Predictor.predict`. Raises `Unavailable` where no replica answered before the deadline."""
        clock = asyncio.get_running_loop().time
        deadline, lost, said = clock() + task.timeout_s, False, ""
        while (left := deadline - clock()) > 0:
            outcome = await self._once(replace(task, timeout_s=left))
            if isinstance(outcome, Reply):
                return outcome
            lost = lost or outcome is None
            # What one replica had taken in is not refused by the next for being busy: it waits its turn.
            if isinstance(outcome, CertserveError) and not isinstance(outcome, _again(lost)):
                raise outcome
            said = f" (the last said: {outcome.message})" if outcome else ""
            await asyncio.sleep(max(0.0, min(PAUSE_S, deadline - clock())))
        raise Unavailable(f"no engine answered before the deadline{said}; try again", retry_after_s=2)

    async def _once(self, task: Task) -> Reply[Any] | CertserveError | None:
        try:
            async with asyncio.timeout(task.timeout_s + GRACE_S):  # wait_for may swallow a cancellation and go on
                return await self._send(task)
        except (Lost, TimeoutError):
            return None


def _again(lost: bool) -> tuple[type[CertserveError], ...]:
    return (Unavailable, Overloaded) if lost else (Unavailable,)
