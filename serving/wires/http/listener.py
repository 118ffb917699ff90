"""The one HTTP front of both homes: a listening socket, and uvicorn with bounded connections behind it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from serving import ports
from serving.budget import BufferedBytes
from serving.wires.handshake import Secured
from serving.wires.http.connection import Front, FrontLimits, HttpConnection
from serving.wires.http.pieces import BYTES, Pieces, ReadingTurns

_BACKLOG = 512
# The loop takes so many connections at a time before it looks at one of them: all others wait in the system's queue, and no
# burst takes more descriptors than there are.
_ACCEPTED_AT_ONCE = 16
_SWEEP_EVERY_S = 0.1


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A socket that listens on `host:port`, port 0 for a free one; with `reuse_port` other processes may share it.

    Raises `PortError`.
    """
    return ports.listening(host, ports.Wanted("HTTP port", port, "--http-port"), shared=reuse_port)


class HttpServer(uvicorn.Server):
    """Serves an ASGI application on sockets of `listen`, on the running loop. Signals are left to the command line.

    server = HttpServer(app, gateway.buffered, drain_s=61)
    await server.start(listen(host, port))
    ...
    await server.stop()

    `secured` puts TLS before what takes a connection in.
    """

    def __init__(
        self,
        app: ASGIApp,
        buffered: BufferedBytes,
        *,
        drain_s: float,
        limits: FrontLimits | None = None,
        secured: Secured | None = None,
    ) -> None:
        self._secured = secured
        self.front = Front(limits or FrontLimits(), buffered)
        self._piece, self._turns = memoryview(bytearray(BYTES)), ReadingTurns()
        super().__init__(
            uvicorn.Config(
                app,
                http=self._connection,  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,  # uvicorn's own closes every handler of the process, those of Ray Serve among them
                log_level="warning",
                access_log=False,
                proxy_headers=False,  # nobody here asks where a request came from
                backlog=_ACCEPTED_AT_ONCE,
                timeout_graceful_shutdown=max(1, round(drain_s)),
                timeout_keep_alive=self.front.limits.idle_s,  # type: ignore[arg-type]
                server_header=False,
            )
        )
        self._tasks: list[asyncio.Task[None]] = []

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """None: uvicorn would take Ctrl-C for itself and end the process afterwards."""
        return nullcontext()

    async def start(self, listening: socket.socket) -> None:
        """Accept connections from now on."""
        serving = asyncio.create_task(self.serve(sockets=[listening]))
        self._tasks = [serving, asyncio.create_task(self._sweep())]
        while not self.started and not serving.done():
            await asyncio.sleep(0.01)
        if serving.done():
            await serving
        listening.listen(_BACKLOG)

    def leave(self) -> None:
        """From now on every answer ends its connection, for the next request on it would be lost."""
        self.front.leaving = True
        for each in self.front.connections:
            each.answer_last()

    async def stop(self) -> None:
        """Accept no more, answer what is in progress or on its way within `drain_s`, and close."""
        self.front.stopping = self.front.leaving = self.should_exit = True
        if self._tasks:
            serving, sweeping = self._tasks
            await serving
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`. Who has connected but was not taken in yet would be cut off with the socket."""
        waiting = [each.dup() for each in sockets or ()]
        taking = asyncio.create_task(self._take_in(waiting))
        await super().shutdown(sockets)
        await taking

    async def _take_in(self, waiting: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for each in waiting:
            each.setblocking(False)
            with each, suppress(OSError):  # which says that there are no more
                while True:
                    connection, _ = each.accept()
                    connection.setblocking(False)
                    await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.BaseProtocol:
        return self._connection(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=None
        )

    def _connection(self, **settings: Any) -> asyncio.BaseProtocol:
        def pieces() -> Pieces:
            return Pieces(HttpConnection(self.front, **settings), self._piece, self._turns)

        return pieces() if self._secured is None else self._secured(pieces)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.front.sweep(loop.time())
            await asyncio.sleep(_SWEEP_EVERY_S)
