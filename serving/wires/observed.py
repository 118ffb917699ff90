"""Every predict and infer is let in or refused, and counted once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from serving.errors import CertserveError
from serving.wires.port import GatewayPort

_Result = TypeVar("_Result")


class ClientGone(Exception):
    """The client went away before its answer; nobody is left to be told."""


async def observed(gateway: GatewayPort, protocol: str, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which is `Observing`."""
    try:
        with Observing(gateway, protocol):
            return await work
    finally:
        work.close()  # one that was refused has not begun


class Observing:
    """A context for one request from its head to its answer; the gateway is told the canonical code it ended with and the
    seconds it took. To enter it raises `Unavailable` where the gateway lets nobody in any more.
    """

    __slots__ = ("_gateway", "_inside", "_protocol", "_started")

    def __init__(self, gateway: GatewayPort, protocol: str) -> None:
        self._gateway, self._protocol = gateway, protocol
        self._started = time.monotonic()
        self._inside = gateway.admitted()

    def __enter__(self) -> None:
        try:
            self._inside.__enter__()
        except BaseException as error:
            self._ended(error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside.__exit__(kind, error, trace)
        self._ended(error)

    def _ended(self, error: BaseException | None) -> None:
        self._gateway.observe(self._protocol, _code(error), time.monotonic() - self._started)


def _code(error: BaseException | None) -> str:
    if error is None:
        return "OK"
    if isinstance(error, CertserveError):
        return error.code
    return "CANCELLED" if isinstance(error, asyncio.CancelledError | GeneratorExit | ClientGone) else "INTERNAL"
