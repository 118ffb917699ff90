"""Every predict and infer is let in or refused, and counted once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from serving.errors import CertserveError
from serving.wires.port import GatewayPort

_Result = TypeVar("_Result")


class ClientGone(Exception):
    """The client went away before its answer; nobody is left to be told."""


async def observed(gateway: GatewayPort, protocol: str, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which is `observing`."""
    try:
        with observing(gateway, protocol):
            return await work
    finally:
        work.close()  # one that was refused has not begun


@contextmanager
def observing(gateway: GatewayPort, protocol: str) -> Iterator[None]:
    """One request from its head to its answer; the gateway is told the canonical code it ended with and the seconds it took.

    Raises `Unavailable` where the gateway lets nobody in any more.
    """
    started, code = time.monotonic(), "INTERNAL"
    try:
        with gateway.admitted():
            yield
        code = "OK"
    except CertserveError as error:
        code = error.code
        raise
    except (asyncio.CancelledError, GeneratorExit, ClientGone):
        code = "CANCELLED"
        raise
    finally:
        gateway.observe(protocol, code, time.monotonic() - started)
