"""`grpc.health.v1` that follows the gateway: nobody has to push a state, so none can be stale."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.errors import NotFound
from serving.wires.port import GatewayPort

_LOOK_EVERY_S = 0.5
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_Response = health_pb2.HealthCheckResponse


class Readiness(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Check and Watch for the server as a whole ("") and for each of its services."""

    def __init__(self, gateway: GatewayPort, services: Collection[str]) -> None:
        self._gateway = gateway
        self._services = frozenset(services) | {""}

    async def Check(self, request: health_pb2.HealthCheckRequest, context: _Context) -> health_pb2.HealthCheckResponse:  # noqa: N802
        """The state now; an unknown service is NOT_FOUND."""
        if request.service not in self._services:
            known = ", ".join(sorted(self._services - {""}))
            raise NotFound(f"unknown service {request.service!r:.80}; expected none, or one of {known}")
        return _Response(status=self._status(request.service))

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state now and whenever it changes."""
        said = None
        while True:
            status = self._status(request.service)
            if status != said:
                yield _Response(status=status)
                said = status
            await asyncio.sleep(_LOOK_EVERY_S)

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(_Response.SERVICE_UNKNOWN)
        return int(_Response.NOT_SERVING if self._gateway.unready() else _Response.SERVING)
