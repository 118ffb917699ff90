"""The server as a Ray Serve application: gateways as ingress, engine replicas behind them, one a device.

The only module that imports ray. HTTP and gRPC come in by servers of each gateway's own, on ports that the gateways of one
host share. A frozen `Task` crosses to an engine and a
`Reply`, or an error as a value, comes back: Ray would wrap an exception in a text with its traceback. A large certificate is
dealt out by ranges of draws. A replica that dies loses nothing: draws are keyed, so what it was sent is sent again until its
deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import ray
from ray import serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray.exceptions import RayError, RayTaskError
from ray.experimental import internal_kv
from ray.serve._private import replica
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from export.bundle import load_repository
from serving import log, metrics, processors
from serving.config import Settings
from serving.deployments.assembly import build_engine
from serving.deployments.both_wires import Wires, metrics_context
from serving.deployments.shared_use import SharedUse
from serving.errors import SEE_LOG, CertserveError, Internal
from serving.events import Event, Events
from serving.gateway.dealer import Dealer
from serving.gateway.gateway import Gateway
from serving.gateway.quotas import Ledger
from serving.gateway.retry import Lost, Resending
from serving.messages import Prediction, Reply, Share, Task
from serving.models.catalogue import Catalogue
from serving.models.identity import differing, join
from serving.security.secret import read_secret, secret_file

_log = logging.getLogger("certserve.gateway")

APPLICATION = "certserve"
_RUNTIMES, _USE = "certserve-runtimes", "certserve-use"
_SHARE_EVERY_S = 0.25
_DRAIN_S = 5.0
_PROBE_S = 1.0
_FAILED = "certserve-failed"
_TOLD_S = 3.0
_PROVING = "its models are still being proven"
_OBJECT_STORE_BYTES = 256 * 2**20


class EngineReplica:
    """One engine on one device."""

    def __init__(self, settings: Settings) -> None:
        log.start()
        metrics.serve(settings.host, settings.metrics_port, metrics_context(settings))
        _listen_on_the_node_alone()
        with _told():
            self._engine = build_engine(load_repository(settings.models), settings)
            join(self._engine.runtimes, _agree if not settings.runtime else lambda *_: settings.runtime)

    async def predict(self, task: Task) -> Reply[Prediction] | CertserveError:
        """The answer, or the refusal as a value."""
        return await _as_value(self._engine.predict(task))

    async def events(self, task: Task) -> AsyncGenerator[Event[Reply[Prediction]] | CertserveError, None]:
        """What is said of a task until its answer, or the refusal as a value. Ray closes it for whoever has gone."""
        try:
            async with contextlib.aclosing(aiter(self._engine.predict(task))) as events:
                async for event in events:
                    yield event
        except CertserveError as error:
            yield error

    async def count(self, task: Task, draws: range) -> Reply[Share] | CertserveError:
        """The shares of these draws, or the refusal as a value."""
        return await _as_value(self._engine.count(task, draws))

    async def ready(self, digests: Mapping[str, str]) -> str:
        """What differs from these bundles of a gateway, if anything does. It answers once the models are proven: the
        constructor returns no sooner.
        """
        return differing(digests, self._engine.catalogue.digests)

    def check_health(self) -> None:
        """Asked by Ray, which replaces the replica if this raises."""
        if not self._engine.healthy():
            raise RuntimeError(f"the engine has failed; {SEE_LOG}")

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()


class GatewayReplica:
    """The gateway of one host: its wires, on ports that the gateways of the host share."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: Settings, engine: DeploymentHandle[Any]
    ) -> None:
        log.start()
        _listen_on_the_node_alone()
        metrics.serve(settings.host, settings.metrics_port, metrics_context(settings))
        self._engines, self._closed = _Engines(engine), False
        self._sharing: asyncio.Task[None] | None = None
        catalogue = Catalogue(await asyncio.to_thread(load_repository, settings.models))
        secret = read_secret(secret_file(settings.noise_secret_file))
        dealer = Dealer(self._engines, catalogue, settings.engines)
        gateway = Gateway(catalogue, dealer, secret, settings.limits, lambda: self._engines.unready, settings.runtime)
        self._probing = asyncio.create_task(self._engines.probe(catalogue.digests, settings.engines))
        if settings.keys_file or settings.jwt_keys:
            self._sharing = asyncio.create_task(_share(gateway.ledger))
        self._wires = Wires(gateway, settings, shared=True)
        gc.freeze()  # what is loaded stays, and is not looked through for garbage
        await self._wires.open()

    async def close(self) -> None:
        """Answer what was accepted and take nothing more: asked by whoever stops the server, and by Ray."""
        if hasattr(self, "_wires") and not self._closed:
            self._closed = True
            await self._wires.close()
            self._probing.cancel()
            if self._sharing is not None:
                self._sharing.cancel()

    async def __del__(self) -> None:
        await self.close()


@contextmanager
def _told() -> Iterator[None]:
    """Tell whoever started Ray why a replica does not start. Ray would try twice more, and log three traces, meanwhile."""
    try:
        yield
    except Exception as error:
        reason = str(error) or type(error).__name__
        internal_kv._internal_kv_put(_FAILED, reason, overwrite=False, namespace=_FAILED)
        time.sleep(_TOLD_S)  # until all ends
        raise


def _listen_on_the_node_alone() -> None:
    """Have the port that every replica opens for the others listen on the node's address: Ray takes every interface.

    To be called in the constructor of a replica: Ray opens the port when that has returned.
    """
    address = f"{ray.util.get_node_ip_address()}:0"  # type: ignore[no-untyped-call]
    replica.add_port_to_grpc_server = partial(_bind, address)  # type: ignore[attr-defined]


def _bind(address: str, server: grpc.aio.Server, _: str) -> int:
    port: int = add_port_to_grpc_server(server, address)  # type: ignore[no-untyped-call]
    return port


class _Engines:
    """The engine replicas as Ray reaches them; what one that dies was sent is sent to another."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle
        self._choosing = asyncio.Lock()
        self.unready = _PROVING

    def predict(self, task: Task) -> Events[Reply[Prediction]]:
        """See `Predictor.predict`."""
        return Resending(self._send, self._stream).predict(task)

    async def count(self, task: Task, draws: range) -> Reply[Share]:
        """See `Engine.count`. Calls at once go to different replicas, as long as there are enough."""
        return await Resending(partial(self._send_share, draws)).answer(task)

    async def _send(self, task: Task) -> Reply[Any] | CertserveError:
        outcome: Reply[Any] | CertserveError = await _outcome(_response(self._handle.predict.remote(task)))
        return outcome

    async def _stream(self, task: Task) -> AsyncGenerator[Event[Reply[Prediction]] | CertserveError, None]:
        """The events of one replica, which end with it; closing it ends the work there."""
        response: Any = self._handle.options(stream=True).events.remote(task)
        try:
            while (said := await _outcome(anext(response, None))) is not None:
                yield said
        finally:
            response.cancel()

    async def _send_share(self, draws: range, task: Task) -> Reply[Any] | CertserveError:
        async with AsyncExitStack() as held:
            # One at a time: calls that are routed together do not see each other and mostly take the same replica.
            async with self._choosing:
                replica = await _outcome(held.enter_async_context(self._handle.count.choose_replica()))
            outcome: Reply[Any] | CertserveError
            outcome = await _outcome(_response(self._handle.dispatch(replica, task, draws)))
            return outcome

    async def probe(self, digests: Mapping[str, str], number: int) -> None:
        """Keep `unready` true to the facts: empty while one of the `number` engines has the gateway's bundles."""
        told = ""
        while True:
            try:
                self.unready = await asyncio.wait_for(self._asked(dict(digests), number), 5 * _PROBE_S)
            except Exception:
                self.unready = _PROVING
            if self.unready not in ("", told, _PROVING):
                _log.warning("not ready: %s", self.unready)
            told = self.unready
            await asyncio.sleep(_PROBE_S)

    async def _asked(self, digests: Mapping[str, str], number: int) -> str:
        """Ray chooses whom it asks: so often that one that has the bundles is hardly missed among all."""
        found = _PROVING
        for _ in range(4 * number):
            if not (found := await _response(self._handle.ready.remote(digests))):
                break
        return found


async def _share(ledger: Ledger) -> None:
    """Tell the other gateways what callers have drawn of their quotas here, and hear of them, as long as this one serves."""
    use, told = SharedUse(_InCluster()), ""
    while True:
        await asyncio.sleep(_SHARE_EVERY_S)
        try:
            ledger.heard(await asyncio.to_thread(use.exchanged, *ledger.told()))
            told = ""
        except Exception as error:
            if str(error) != told:
                _log.warning("quotas are kept by each gateway alone for now: %s", error)
            told = str(error)


class _InCluster:
    """See `SharedStore`: where the cluster keeps its own state, which outlives every replica and ends with it."""

    def put(self, key: str, value: bytes) -> None:
        internal_kv._internal_kv_put(key, value, namespace=_USE)

    def get(self, key: str) -> bytes | None:
        found: bytes | None = internal_kv._internal_kv_get(key, namespace=_USE)
        return found

    def names(self) -> list[str]:
        return [key.decode() for key in internal_kv._internal_kv_list("", namespace=_USE)]

    def delete(self, key: str) -> None:
        internal_kv._internal_kv_del(key, namespace=_USE)


def _agree(key: str, runtime: str) -> str:
    """See `Agree`. Kept where the cluster keeps its own state: it outlives every replica, and ends with the cluster."""
    internal_kv._internal_kv_put(key, runtime, overwrite=False, namespace=_RUNTIMES)
    found: bytes = internal_kv._internal_kv_get(key, namespace=_RUNTIMES)
    return found.decode()


async def _as_value(answering: Awaitable[Reply[Any]]) -> Reply[Any] | CertserveError:
    try:
        return await answering
    except CertserveError as error:
        return error


async def _outcome(calling: Awaitable[Any]) -> Any:
    """What a call of a replica comes to; raises `Lost` where that died or could not be reached."""
    try:
        return await calling
    except RayTaskError as error:  # a defect of ours: another replica would meet it too
        _log.error("request %s: an engine failed on it", log.REQUEST_ID.get(), exc_info=error)
        raise Internal(f"an engine failed on this request; {SEE_LOG}") from error
    except (RayError, RayServeException) as error:
        raise Lost from error


async def _response(response: Any) -> Any:
    """The value of a Serve response; it is cancelled, engine and all, if whoever waits for it is."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def application(args: dict[str, Any]) -> serve.Application:
    """The application for a Serve configuration file: `import_path: serving.deployments.on_ray:application`, settings
    as `args`.

    To be deployed with `proxy_location: Disabled`: the gateways listen on the ports of `args` themselves.
    """
    counts = Path(tempfile.gettempdir()) / f"certserve-metrics-{uuid.uuid4().hex[:12]}"
    return build(Settings.from_mapping(args), counts)


def build(settings: Settings, counts: Path) -> serve.Application:
    """Gateways bound to engines. Their processes keep their counts in the folder `counts` of each host."""
    environment = {"env_vars": {metrics.FOLDER_VARIABLE: str(counts)}}
    device = {"num_gpus": 1} if settings.provider != "cpu" else {"num_cpus": 1}
    engine = _deployment(EngineReplica, "engine", settings, settings.engines, {"runtime_env": environment, **device})
    gateway = _deployment(
        GatewayReplica, "gateway", settings, settings.gateways, {"runtime_env": environment, "num_cpus": 0}
    )
    bound: serve.Application = gateway.bind(settings, engine.bind(settings))
    return bound


def _deployment(kind: Any, name: str, settings: Settings, replicas: int, actor: dict[str, Any]) -> serve.Deployment:
    deployment: serve.Deployment = serve.deployment(
        name=name,
        num_replicas=replicas,
        ray_actor_options=actor,
        max_ongoing_requests=10_000,  # admission is the engine's, by owed draws
        health_check_period_s=5,
        graceful_shutdown_timeout_s=settings.limits.max_deadline_ms / 1000 + _DRAIN_S,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )(kind)
    return deployment


def start(settings: Settings, folder: Path, say: Callable[[str], None], fail: Callable[[str], None]) -> None:
    """Start a Ray of our own, which keeps its files in `folder`, and serve on it. Returns when every model is proven. An
    engine that does not start gives its reason to `fail`, whereupon the process is expected to be ended.
    """
    logging.disable(logging.INFO)  # Ray and Serve set their own levels, and tell of themselves
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=str(folder / "ray"),
        logging_level=logging.ERROR,
        log_to_driver=True,
        num_cpus=max(settings.engines, processors.usable()),
    )
    _check_devices(settings)
    # No way in of Serve's own: the gateways have theirs.
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR", "enable_access_log": False})
    say(f"proving the models on {settings.engines} engine(s)")
    started = threading.Event()
    threading.Thread(target=_hear_of_failures, args=(started, fail), daemon=True).start()
    serve.run(build(settings, folder / "metrics"), name=APPLICATION, route_prefix=None)
    started.set()


def _hear_of_failures(started: threading.Event, fail: Callable[[str], None]) -> None:
    while not started.wait(_PROBE_S / 10):
        if reason := internal_kv._internal_kv_get(_FAILED, namespace=_FAILED):
            fail(reason.decode())
            return


def _check_devices(settings: Settings) -> None:
    """Ray waits without end for a device that nobody has."""
    found = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    if settings.provider != "cpu" and found < settings.engines:
        raise RuntimeError(
            f"{settings.engines} engine(s) with the provider {settings.provider} need a GPU each, and Ray finds {found};"
            " expected --engines for the GPUs that there are, or --provider cpu"
        )


def finish(settings: Settings) -> None:
    """Have every gateway answer what it has accepted and take nothing more. What is left can be killed."""
    asyncio.run(_close_gateways(settings.limits.max_deadline_ms / 1000 + _DRAIN_S))


async def _close_gateways(seconds: float) -> None:
    # A gateway that dies meanwhile has nothing left to answer.
    await serve.get_app_handle(APPLICATION).broadcast("close").results_async(timeout_s=seconds, return_exceptions=True)
