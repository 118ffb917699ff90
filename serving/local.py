"""The server in one process, without Ray: the same gateway and engine, uvicorn and grpc.aio on one loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import grpc
import uvicorn

from export.bundle import load_repository
from serving import metrics
from serving.assembly import build_engine, models
from serving.config import Settings
from serving.gateway import Gateway
from serving.wire.grpc_server import build_server
from serving.wire.http_server import build_app


@asynccontextmanager
async def running(
    settings: Settings, secret: bytes, say: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Gateway]:
    """Serve while the context is open: it opens once every model is proven, and closes when what is in flight is answered.

    A port of 0 in `settings` for metrics means none. Raises `BundleError`, `ProofError` or `OSError` (port taken).
    """
    say(f"reading the bundles in {settings.models}")
    bundles = await asyncio.to_thread(load_repository, settings.models)
    engine = await asyncio.to_thread(build_engine, bundles, settings, say)
    draining = asyncio.Event()
    gateway = Gateway(
        models(bundles), engine, secret, settings.limits, ready=lambda: engine.healthy() and not draining.is_set()
    )
    try:
        if settings.metrics_port:
            metrics.serve(settings.host, settings.metrics_port)
        async with _wires(gateway, settings, draining):
            yield gateway
    finally:
        await asyncio.to_thread(engine.close)


@asynccontextmanager
async def _wires(gateway: Gateway, settings: Settings, draining: asyncio.Event) -> AsyncIterator[None]:
    grpc_server, http, listening = (
        _grpc_server(gateway, settings),
        _http_server(gateway, settings),
        _http_socket(settings),
    )
    await grpc_server.start()
    serving = asyncio.create_task(http.serve(sockets=[listening]))
    try:
        while not http.started:
            await asyncio.sleep(0.01)
        yield
    finally:
        draining.set()
        http.should_exit = True
        await asyncio.gather(grpc_server.stop(_drain_s(settings)), serving, return_exceptions=True)


def _drain_s(settings: Settings) -> float:
    """What was accepted is answered before the end: no deadline is longer than this."""
    return settings.limits.max_deadline_ms / 1000 + 1


def _grpc_server(gateway: Gateway, settings: Settings) -> grpc.aio.Server:
    try:
        return build_server(gateway, f"{settings.host}:{settings.grpc_port}")[0]
    except RuntimeError as error:
        raise OSError(
            f"gRPC port {settings.grpc_port} of {settings.host} is taken; choose another: --grpc-port"
        ) from error


class _Server(uvicorn.Server):
    """Leaves signals to the command line: uvicorn would take Ctrl-C for itself and end the process afterwards."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


def _http_socket(settings: Settings) -> socket.socket:
    """Bound here, since uvicorn ends the process when it cannot."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms for an acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.http_port))
        listening.listen(2048)
        return listening
    except OSError as error:
        listening.close()
        place = f"HTTP port {settings.http_port} of {settings.host}"
        raise OSError(f"{place} cannot be had ({error.strerror}); choose another: --http-port") from error


def _http_server(gateway: Gateway, settings: Settings) -> uvicorn.Server:
    config = uvicorn.Config(
        build_app(gateway),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(_drain_s(settings)),
        timeout_keep_alive=75,
        server_header=False,
    )
    return _Server(config)
