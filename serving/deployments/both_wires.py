"""The two servers of one gateway, HTTP and gRPC, from their first connection to their last answer, in either home."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import Callable

from serving import garbage
from serving.config import Settings
from serving.gateway.gateway import Gateway
from serving.security.login import login
from serving.security.tls import Tls, tls
from serving.wires.grpc.server import build_server
from serving.wires.handshake import Handshakes, Secured
from serving.wires.http.listener import HttpServer, listen
from serving.wires.http.server import build_app

_WAY_BACK_S = 1.0
_SWITCH_S = 0.0002
"""A thread that runs Python lets others in after so long: far sooner than by default. A health check is let in
many times before it is answered, each time behind threads that decode and draw.
"""


def metrics_context(settings: Settings) -> Callable[[], ssl.SSLContext] | None:
    """How connections to the metrics are secured, if they are. Raises `SecurityError`."""
    found = tls(settings)
    return None if found is None else lambda: found.http


class Wires:
    """To be made on the loop that runs them. `shared`: the ports are those of the other gateways of this host, too."""

    def __init__(self, gateway: Gateway, settings: Settings, shared: bool) -> None:
        """Bind both ports. Raises `PortError` where one cannot be had, `SecurityError` where who may come cannot be read."""
        self._gateway = gateway
        callers = login(settings)
        self._handshakes = Handshakes()
        http, grpc = self._secured(tls(settings))
        # What was accepted is answered before the end: no deadline is longer than this.
        self._drain_s = settings.limits.max_deadline_ms / 1000 + _WAY_BACK_S
        self._grpc, _ = build_server(
            gateway, settings.host, settings.grpc_port, shared=shared, callers=callers, secured=grpc
        )
        self._tidying: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        app = build_app(gateway, callers=callers, with_page=settings.page, origins=settings.origins)
        self._http = HttpServer(app, gateway.buffered, drain_s=self._drain_s, secured=http)
        self._socket = listen(settings.host, settings.http_port, reuse_port=shared)

    def _secured(self, found: Tls | None) -> tuple[Secured | None, Secured | None]:
        """What puts TLS before HTTP and gRPC."""
        if found is None:
            return None, None
        before = self._handshakes.before
        return lambda protocol: before(protocol, lambda: found.http), lambda protocol: before(
            protocol, lambda: found.grpc
        )

    async def open(self) -> None:
        """Serve from now on."""
        sys.setswitchinterval(_SWITCH_S)
        self._tidying = asyncio.create_task(garbage.kept_small())
        await self._grpc.start()
        await self._http.start(self._socket)

    async def close(self) -> None:
        """Answer what was accepted, tell what comes meanwhile that the server is stopping, then close both ports."""
        self._http.leave()
        self._tidying.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._gateway.drain()
        self._handshakes.end()
        await asyncio.gather(self._grpc.stop(_WAY_BACK_S), self._http.stop(), return_exceptions=True)
