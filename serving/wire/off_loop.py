"""Where decoding runs: here if it is quick, else in a thread, so that a large picture holds up nobody's health check."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from serving.messages import Model

_QUICK_BYTES = 16 * 1024
_Result = TypeVar("_Result")


async def run(decode: Callable[[], _Result], size: int, model: Model) -> _Result:
    """The result of `decode`, which reads `size` bytes of a request for this model."""
    if max(size, model.manifest.input.size) <= _QUICK_BYTES:
        return decode()
    return await asyncio.to_thread(decode)
