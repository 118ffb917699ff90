"""The server in one process, without Ray: the same gateway and engine, uvicorn and grpc.aio on one loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from export.bundle import load_repository
from serving import metrics, ports
from serving.assembly import build_engine, models
from serving.config import Settings
from serving.gateway import Gateway
from serving.identity import other_runtime
from serving.wire.grpc_server import build_server
from serving.wire.http_listener import HttpServer, listen
from serving.wire.http_server import build_app


@asynccontextmanager
async def running(
    settings: Settings, secret: bytes, say: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Gateway]:
    """Serve while the context is open: it opens once every model is proven, and closes when what is in flight is answered.

    A port of 0 in `settings` for metrics means none. Raises `BundleError`, `ProofError` or `PortError`.
    """
    say(f"reading the bundles in {settings.models}")
    bundles = await asyncio.to_thread(load_repository, settings.models)
    engine = await asyncio.to_thread(build_engine, bundles, settings, say)
    draining = asyncio.Event()
    other = "; ".join(
        filter(None, (other_runtime(key, settings.runtime, found) for key, found in engine.runtimes.items()))
    )
    if other:
        say(f"not ready: {other}")

    def unready() -> str:
        if draining.is_set():
            return "it is stopping"
        return other if engine.healthy() else "its engine has failed; the operator's log says more"

    gateway = Gateway(models(bundles), engine, secret, settings.limits, unready, settings.runtime)
    try:
        if settings.metrics_port:
            _serve_metrics(settings)
        async with _wires(gateway, settings, draining):
            yield gateway
    finally:
        await asyncio.to_thread(engine.close)


def _serve_metrics(settings: Settings) -> None:
    try:
        metrics.serve(settings.host, settings.metrics_port)
    except OSError as error:
        wanted = ports.Wanted("metrics port", settings.metrics_port, "--metrics-port")
        raise ports.refused(settings.host, wanted, error) from error


@asynccontextmanager
async def _wires(gateway: Gateway, settings: Settings, draining: asyncio.Event) -> AsyncIterator[None]:
    grpc_server, _ = build_server(gateway, settings.host, settings.grpc_port)
    listening = listen(settings.host, settings.http_port)
    http = HttpServer(build_app(gateway), gateway.buffered, drain_s=_drain_s(settings))
    await grpc_server.start()
    await http.start(listening)
    try:
        yield
    finally:
        draining.set()
        await asyncio.gather(grpc_server.stop(_drain_s(settings)), http.stop(), return_exceptions=True)


def _drain_s(settings: Settings) -> float:
    """What was accepted is answered before the end: no deadline is longer than this."""
    return settings.limits.max_deadline_ms / 1000 + 1
