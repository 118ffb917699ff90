"""Every predict and infer is let in or refused, and counted once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from serving.errors import CertserveError
from serving.wires.port import GatewayPort

_Result = TypeVar("_Result")


class ClientGone(Exception):
    """The client went away before its answer; nobody is left to be told."""


async def observed(gateway: GatewayPort, protocol: str, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`; the gateway is told the canonical code it ended with and the seconds it took.

    Raises `Unavailable` where the gateway lets nobody in any more.
    """
    started, code = time.monotonic(), "INTERNAL"
    try:
        with gateway.admitted():
            result = await work
        code = "OK"
        return result
    except CertserveError as error:
        code = error.code
        raise
    except (asyncio.CancelledError, ClientGone):
        code = "CANCELLED"
        raise
    finally:
        work.close()  # one that was refused has not begun
        gateway.observe(protocol, code, time.monotonic() - started)
