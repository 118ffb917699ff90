"""Every predict and infer is counted once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from serving.errors import CertserveError
from serving.wire.port import Gateway

_Result = TypeVar("_Result")


class ClientGone(Exception):
    """The client went away before its answer; nobody is left to be told."""


async def observed(gateway: Gateway, protocol: str, work: Awaitable[_Result]) -> _Result:
    """The result of `work`; the gateway is told the canonical code it ended with and the seconds it took."""
    started, code = time.monotonic(), "INTERNAL"
    try:
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
        gateway.observe(protocol, code, time.monotonic() - started)
