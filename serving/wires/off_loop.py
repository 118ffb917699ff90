"""Where requests are decoded and answers written: here if it is quick, else in a thread, so that a large one holds up
nobody's health check.

What nobody waits for any more is not begun, and ends at its next checkpoint if it was.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.budget import Held
from serving.inputs.work import Work, current
from serving.messages import Answer, Model
from serving.priority import give_way
from serving.processors import usable

_QUICK_BYTES = 16 * 1024
_QUICK_NUMBERS, _A_ROW = 8 * 1024, 128  # written in about a millisecond; what a row has beside its probabilities
# Threads that run Python let the loop wait for each other's turns, so there are few, whatever the machine.
_DECODERS = ThreadPoolExecutor(min(4, max(2, usable())), "certserve-decode", give_way)
_Result = TypeVar("_Result")


async def run(decode: Callable[[], _Result], size: int, model: Model, held: Held | None = None) -> _Result:
    """The result of `decode`, which reads `size` bytes of a request for this model; `held` is charged what it takes."""
    return await doing(decode, max(size, model.manifest.input.size) <= _QUICK_BYTES, held)


async def written(write: Callable[[Answer], _Result], answer: Answer) -> _Result:
    """What `write` makes of an answer."""
    if len(answer.predictions) * (_A_ROW + len(answer.labels)) <= _QUICK_NUMBERS:
        return write(answer)
    return await doing(functools.partial(write, answer), quick=False)


async def doing(decode: Callable[[], _Result], quick: bool, held: Held | None = None) -> _Result:
    """The result of `decode`, from here if it is quick."""
    work = Work(held)
    if quick:
        before = current.set(work)
        try:
            return decode()
        finally:
            current.reset(before)
    context = contextvars.copy_context()
    context.run(current.set, work)
    try:
        return await asyncio.get_running_loop().run_in_executor(_DECODERS, context.run, decode)
    except asyncio.CancelledError:
        work.stop()
        raise
