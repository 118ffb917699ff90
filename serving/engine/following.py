"""What is said of a request until its answer, to whoever asks: each event is composed when it is asked for, from what is
counted by then, and whoever does not ask costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from serving.engine.line import RequestId
from serving.engine.waiting import Waiting, over
from serving.events import Base, Event, Final, Progress
from serving.messages import Prediction, Reply
from serving.priority import give_way

SoFar = Callable[[RequestId, int], Reply[Prediction] | None]
"""What is proven of a request of so many rows by now; None where a base prediction is due, or the request has ended."""

_LOOKS = ThreadPoolExecutor(2, "engine-looks", give_way)
_PACE_S, _WATCHING = 0.25, 0.1  # between two events of progress, and the share of the time that all of them may take


class Following:
    """Everybody who follows a request of one engine, on one loop."""

    def __init__(self, so_far: SoFar) -> None:
        self._so_far = so_far
        self._watched = 0

    async def events(self, waiting: Waiting, rows: int) -> AsyncGenerator[Event[Reply[Prediction]], None]:
        """What is said of a request of so many rows, the answer last. Raises what ends it."""
        self._watched += 1
        try:
            seen = None
            while not await over(waiting):
                looking = asyncio.get_running_loop().run_in_executor(_LOOKS, self._looked, waiting, rows)
                reply, took = await looking
                draws = sum(row.draws for row in reply.rows) if reply else 0
                if reply is None or (seen is not None and draws <= seen):
                    continue
                yield Base(_bare(reply)) if seen is None else Progress(reply)
                if seen is not None:
                    await asyncio.wait([waiting.future], timeout=pause(took, self._watched))
                seen = draws if seen is not None else 0
            reply = await waiting.future
            if seen is None:
                yield Base(_bare(reply))
            yield Final(reply)
        finally:
            self._watched -= 1

    def _looked(self, waiting: Waiting, rows: int) -> tuple[Reply[Prediction] | None, float]:
        """What is proven by now, and the seconds of work that it took to say."""
        began = time.thread_time()
        reply = None if waiting.number is None else self._so_far(waiting.number, rows)
        return reply, time.thread_time() - began


def pause(took: float, watched: int) -> float:
    """Seconds until a request is looked at again that took so long, as each of those that are `watched` may."""
    return max(_PACE_S, took * watched / _WATCHING)


def _bare(reply: Reply[Prediction]) -> Reply[Prediction]:
    """The base predictions alone: no draw is counted for them, and nothing is claimed."""
    claims = ("certificate", "ood", "mixture", "joint", "confidence")
    nothing: dict[str, Any] = dict.fromkeys((*claims, "receipt", "granted_draws"))
    return replace(reply, rows=tuple(replace(row, draws=0, lost_draws=0, **nothing) for row in reply.rows))
