"""Whoever waits is told; whoever has left leaves nothing in the log."""

from __future__ import annotations

import asyncio
import gc

import pytest

from serving.engine.waiting import Waiting
from serving.errors import DeadlinePassed


async def test_an_error_that_nobody_waits_for_any_more_writes_no_line(caplog):
    loop = asyncio.get_running_loop()
    for stays in (True, False):
        waiting = Waiting(1, loop, loop.create_future(), asyncio.Event())
        waiting.settle(DeadlinePassed("too late"))
        await waiting.news.wait()
        if stays:
            with pytest.raises(DeadlinePassed):
                await waiting.future
        del waiting
        gc.collect()
    assert not caplog.records
