"""Deals the draws of a large certificate out to several engines, and makes one answer of what they count."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Protocol

from export.bundle import Bundle
from serving.engine.shares import MixedRuntimes, merge, split
from serving.errors import Unavailable
from serving.events import Events
from serving.messages import Prediction, Reply, Share, Task
from serving.models.catalogue import Catalogue
from serving.priority import give_way

_log = logging.getLogger("certserve.gateway")
_MERGING = ThreadPoolExecutor(2, "gateway-merge", give_way)  # it takes seconds for a thousand rows of many draws


class Engines(Protocol):
    """Several engines with the same models, of which any takes a call; calls at once are taken by different ones."""

    def predict(self, task: Task) -> Events[Reply[Prediction]]:
        """See `Engine.predict`."""
        ...

    async def count(self, task: Task, draws: range) -> Reply[Share]:
        """See `Engine.count`."""
        ...


class Dealer:
    """Answers tasks by `number` engines that serve what the `catalogue` says: see `Predictor`."""

    def __init__(self, engines: Engines, catalogue: Catalogue[Bundle], number: int) -> None:
        self._engines = engines
        self._catalogue = catalogue
        self._number = number

    def predict(self, task: Task) -> Events[Reply[Prediction]]:
        """The same answer as from one engine, where no deadline or overload cuts it. Whoever wants to see how it comes
        about has one engine make it.
        """
        return Events(partial(self._answer, task), lambda: aiter(self._engines.predict(task)))

    async def _answer(self, task: Task) -> Reply[Prediction]:
        bundle = self._catalogue.now.kept(task.digest)
        ranges = split(task, self._number)
        if len(ranges) == 1 or bundle is None:  # an engine says what is wrong with that
            return await self._engines.predict(task)
        deadline = time.monotonic() + task.timeout_s
        replies = await self._counted(task, ranges)
        try:
            merging = partial(merge, bundle, task, ranges[: len(replies)], replies)
            return await asyncio.get_running_loop().run_in_executor(_MERGING, merging)
        except MixedRuntimes as error:
            _log.warning("no certificate is split from now on: %s", error)
            self._number = 1
        return await self._engines.predict(replace(task, timeout_s=deadline - time.monotonic()))

    async def _counted(self, task: Task, ranges: tuple[range, ...]) -> list[Reply[Share]]:
        """What came of the ranges, up to the first that no engine answered in time."""
        try:
            async with asyncio.TaskGroup() as group:
                counting = [group.create_task(self._in_time(task, draws)) for draws in ranges]
        except ExceptionGroup as failed:  # the first to fail ends the others, and is the answer
            raise failed.exceptions[0] from None
        replies: list[Reply[Share]] = []
        for each in counting:
            if (reply := each.result()) is None:
                break
            replies.append(reply)
        return replies

    async def _in_time(self, task: Task, draws: range) -> Reply[Share] | None:
        try:
            return await self._engines.count(task, draws)
        except Unavailable:
            if draws.start == 0:  # without the base prediction there is no answer
                raise
            return None
