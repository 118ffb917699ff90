"""Whoever waits for a request, on a loop, and is told by the engine's threads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from serving.engine.in_flight import Outcome
from serving.engine.line import RequestId
from serving.errors import CertserveError
from serving.messages import Reply
from serving.priority import give_way

_log = logging.getLogger("certserve.engine")

# One thread for all large requests: several would hold the engine's lock, and the interpreter, one after the other, while
# small ones wait.
LARGE = ThreadPoolExecutor(1, "engine-large", give_way)


@dataclass(slots=True, eq=False)
class Waiting:
    """One request: its number, once it is let in, and the loop and future of whoever awaits its outcome."""

    number: RequestId | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Reply[Any]]
    news: asyncio.Event
    """Set when there is more to say of a request that is followed, the last time with its outcome."""
    refused: CertserveError | None = None
    """Why it was not let in."""

    @classmethod
    def here(cls) -> Waiting:
        """A request of the running loop, not let in yet."""
        loop = asyncio.get_running_loop()
        return cls(None, loop, loop.create_future(), asyncio.Event())

    def refuse(self, error: CertserveError) -> None:
        """It is not let in. Any thread may say so; who is on the loop need not wait to hear it."""
        self.refused = error
        self.settle(error)

    def settle(self, outcome: Outcome) -> None:
        """It ends with this outcome. Any thread may say so."""
        self._call(self._set, outcome)

    def stir(self) -> None:
        """There is something new of it. Any thread may say so."""
        self._call(self.news.set)

    def settled(self) -> bool:
        """Whether its outcome has come, so that the engine holds nothing of it."""
        return self.future.done() and not self.future.cancelled()

    def _call(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self.loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            _log.debug("the loop of a request is closed; what is said of it is dropped")

    def _set(self, outcome: Outcome) -> None:
        if self.future.done():
            return
        if isinstance(outcome, CertserveError):
            self.future.set_exception(outcome)
            self.future.exception()  # whoever has left does not ask: that is no line of the log
        else:
            self.future.set_result(outcome)
        self.news.set()


async def beside(enter: Callable[[], Waiting], leave: Callable[[Waiting], None]) -> Waiting:
    """What `enter` gives in a thread; whoever is cancelled meanwhile leaves again as soon as it is in."""
    loop = asyncio.get_running_loop()

    def undo(entered: asyncio.Future[Waiting]) -> None:
        if not (entered.cancelled() or entered.exception()):
            loop.run_in_executor(LARGE, leave, entered.result())

    entering = loop.run_in_executor(LARGE, enter)
    try:
        return await asyncio.shield(entering)
    except asyncio.CancelledError:
        entering.add_done_callback(undo)
        raise


async def over(waiting: Waiting) -> bool:
    """Whether a request has its outcome, once there is something new of it."""
    await waiting.news.wait()
    waiting.news.clear()
    return waiting.future.done()
