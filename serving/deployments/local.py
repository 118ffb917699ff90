"""The server in one process, without Ray: the same gateway and engine, uvicorn and grpc.aio on one loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from export.bundle import load_repository
from serving import metrics, ports
from serving.config import Settings
from serving.deployments.assembly import build_engine
from serving.deployments.both_wires import Wires, metrics_context
from serving.deployments.first_answer import GoldenRow, sample
from serving.errors import SEE_LOG
from serving.gateway.gateway import Gateway
from serving.models.identity import other_runtime


@asynccontextmanager
async def running(
    settings: Settings, secret: bytes, say: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Sequence[GoldenRow]]:
    """Serve while the context is open: it opens once every model is proven, and closes when what is in flight is answered.

    It gives a sample of each model. A port of 0 for metrics means none. Raises `BundleError`, `ProofError` or `PortError`.
    """
    say(f"reading the bundles in {settings.models}")
    bundles = await asyncio.to_thread(load_repository, settings.models)
    engine = await asyncio.to_thread(build_engine, bundles, settings, say)
    other = "; ".join(
        filter(None, (other_runtime(key, settings.runtime, found) for key, found in engine.runtimes.items()))
    )
    if other:
        say(f"not ready: {other}")

    def failed() -> str:
        return "" if engine.healthy() else f"its engine has failed; {SEE_LOG}"

    gateway = Gateway(
        engine.catalogue, engine, secret, settings.limits, lambda: failed() or other, settings.runtime, failed
    )
    try:
        if settings.metrics_port:
            _serve_metrics(settings)
        wires = Wires(gateway, settings, shared=False)
        await wires.open()
        try:
            yield [sample(bundle) for bundle in bundles]
        finally:
            await wires.close()
    finally:
        await asyncio.to_thread(engine.close)


def _serve_metrics(settings: Settings) -> None:
    try:
        metrics.serve(settings.host, settings.metrics_port, metrics_context(settings))
    except OSError as error:
        raise ports.refused(settings.host, ports.metrics_port(settings), error) from error
