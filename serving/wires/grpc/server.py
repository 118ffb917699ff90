"""The gRPC server: routes of the typed service and of the Open Inference Protocol v2, health and reflection.

Methods of the open protocol that are not offered are UNIMPLEMENTED. A call that is cancelled, or whose deadline passes,
cancels its work. Several processes may listen on one port.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from protos.certserve.v1 import certserve_pb2, certserve_pb2_grpc
from protos.inference import open_inference_pb2 as oip_pb2
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving import ports
from serving.errors import NotFound
from serving.events import Event, Final
from serving.messages import Answer, Model, Options, PredictRequest
from serving.scratch import PrivateFolder
from serving.security.callers import CALLER, INFER, READ, Callers
from serving.wires import live, off_loop
from serving.wires.grpc.calls import Calls, Incoming
from serving.wires.grpc.control import CONTROL, ControlMethods
from serving.wires.grpc.conversation import Write, converse, taken
from serving.wires.grpc.door import Door
from serving.wires.grpc.frame import refusal_of, time_left
from serving.wires.grpc.readiness import Readiness
from serving.wires.handshake import Secured
from serving.wires.live import News
from serving.wires.observed import Observing, observed
from serving.wires.open_inference import oip, oip_models, oip_proto
from serving.wires.port import GatewayPort
from serving.wires.typed import certserve_proto

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_LAST_S = 2.0  # for the last answers on their way
_MINUTE_MS = 60_000
_STREAMS = 1_000  # calls at once on one connection
_PING_MS = 9_000
"""Clients may ping this often without being cut off: many do so every 10 seconds."""
_SERVICES = (
    certserve_pb2.DESCRIPTOR.services_by_name["CertificationService"].full_name,
    oip_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
)

_TO_THE_LAST = ("/grpc.health.v1.Health/Check", *(f"/{_SERVICES[1]}/{name}" for name in ("ServerLive", "ServerReady")))
NEEDS: dict[str, str | None] = dict.fromkeys((*_TO_THE_LAST, "/grpc.health.v1.Health/Watch"), None)
NEEDS |= {f"/{_SERVICES[0]}/{name}": INFER for name in ("Predict", "StreamCertificate")}
NEEDS |= {f"/{_SERVICES[1]}/{name}": INFER for name in ("ModelInfer", "ModelStreamInfer")}
NEEDS |= {
    f"/{_SERVICES[1]}/{name}": READ
    for name in (*CONTROL, "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics")
}
NEEDS[f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"] = READ
"""The scope of every method that is offered; None is for everybody."""


class GrpcServer:
    """gRPC's own server, the routes of its calls, and the door before it."""

    def __init__(self, server: grpc.aio.Server, calls: Calls, door: Door, inner: PrivateFolder) -> None:
        self._server = server
        self._calls = calls
        self._door = door
        self._inner = inner

    async def start(self) -> None:
        """Take calls from now on."""
        await self._server.start()
        await self._door.open()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, answer those that were accepted for at most `grace_s` seconds, then cut the rest."""
        await self._calls.drain(grace_s)
        await self._door.close(_LAST_S)
        # Last, and with nobody left: it cancels, without a word, calls that begin while it stops.
        await self._server.stop(None)
        self._inner.remove()


def build_server(
    gateway: GatewayPort,
    host: str,
    port: int,
    *,
    shared: bool = False,
    message_s: float = 60.0,
    head_s: float = 10.0,
    callers: Callers | None = None,
    secured: Secured | None = None,
) -> tuple[GrpcServer, int]:
    """The gRPC server of a gateway, bound to the address `host` and `port` (0 for a free one), but not started, and its
    port. It belongs to the running event loop; start it with `await server.start()`. Several gateways of one host may
    have a port in common if each says that it is `shared`. A call whose message has not come within `message_s` seconds
    is given up, a connection whose greeting or headers have not within `head_s` is cut.
    `callers` tells who asks; without it everybody may. `secured` puts TLS before each connection. Raises `PortError`.
    """
    listening = ports.listening(host, ports.Wanted("gRPC port", port, "--grpc-port"), shared=shared)
    inner = PrivateFolder()  # nobody else may enter it, so nobody passes the door by
    # As many numbers as JSON can hold, where each takes two bytes at least.
    calls = Calls(message_s, NEEDS, _TO_THE_LAST, callers, gateway.limits.max_json_bytes // 2)
    server = grpc.aio.server(handlers=[calls], options=_options(gateway.limits.max_body_bytes))
    certserve_pb2_grpc.add_CertificationServiceServicer_to_server(_Certification(gateway), calls)  # type: ignore[no-untyped-call]
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(_OpenInference(gateway), calls)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(Readiness(gateway, _SERVICES), calls)
    reflecting = reflection.aio.ReflectionServicer((*_SERVICES, reflection.SERVICE_NAME))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflecting, calls)
    server.add_insecure_port(f"unix:{inner.path}/socket")
    door = Door(listening, f"{inner.path}/socket", gateway.buffered, head_s, secured)
    return GrpcServer(server, calls, door, inner), listening.getsockname()[1]


def _options(max_bytes: int) -> list[tuple[str, int]]:
    """Both directions up to the body limit; clients may keep their connection alive, and are made to renew it."""
    return [
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", max_bytes),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_MS),
        ("grpc.max_connection_age_ms", 30 * _MINUTE_MS),
        ("grpc.max_connection_age_grace_ms", 2 * _MINUTE_MS),
    ]


class _Certification(certserve_pb2_grpc.CertificationServiceServicer):
    """certserve.v1."""

    def __init__(self, gateway: GatewayPort) -> None:
        self._gateway = gateway

    async def Predict(  # noqa: N802
        self, request: certserve_pb2.PredictRequest, context: _Context
    ) -> certserve_pb2.PredictResponse:
        """Predict some inputs with their guarantees."""
        return await observed(self._gateway, "grpc", self._predict(request, time_left(context)))

    async def _predict(
        self, message: certserve_pb2.PredictRequest, seconds_left: float | None
    ) -> certserve_pb2.PredictResponse:
        model = self._gateway.model(message.model, oip.version(message.version))
        decode = functools.partial(certserve_proto.decode, message, model, seconds_left)
        with self._gateway.buffered.hold() as held, self._gateway.statistics.request(model) as clock:
            held.grow(size := message.ByteSize())  # as parsed; its bytes are held at the door
            request = await off_loop.run(decode, size, model, held)
            clock.decoded()
            answer = await self._gateway.predict(request.of(CALLER.get()))
            clock.answered(answer)
            return await off_loop.written(lambda whole: certserve_proto.encode(whole, request.options), answer)

    async def StreamCertificate(  # noqa: N802
        self, request: certserve_pb2.StreamCertificateRequest, context: _Context
    ) -> None:
        """Predict, and write what is said of each row meanwhile."""
        work = self._stream(request.request, time_left(context), taken(context.write))
        await observed(self._gateway, "grpc", work)

    async def _stream(self, message: certserve_pb2.PredictRequest, seconds_left: float | None, write: Write) -> None:
        model = self._gateway.model(message.model, oip.version(message.version))
        decode = functools.partial(certserve_proto.decode, message, model, seconds_left)
        with self._gateway.buffered.hold() as held, self._gateway.statistics.request(model) as clock:
            held.grow(size := message.ByteSize())  # as parsed; its bytes are held at the door
            request = await off_loop.run(decode, size, model, held)
            clock.decoded()
            events = self._gateway.events(request.of(CALLER.get()))
            async with contextlib.aclosing(live.news(events, clock)) as coming:
                async for news in coming:
                    for each in await self._written(news, request.options):
                        await write(each)

    async def _written(self, news: News, options: Options) -> list[certserve_pb2.StreamCertificateResponse]:
        return await off_loop.written(lambda _: certserve_proto.encode_news(news, options), news.answer)


class _OpenInference(ControlMethods):
    """The Open Inference Protocol v2."""

    def _model(self, name: str, version: str) -> Model:
        return self._gateway.model(name, oip.version(version))

    async def ServerLive(  # noqa: N802
        self, request: oip_pb2.ServerLiveRequest, context: _Context
    ) -> oip_pb2.ServerLiveResponse:
        """Answering is being alive, unless the engine of this process has failed and only a new process has another."""
        return oip_pb2.ServerLiveResponse(live=not self._gateway.failed())

    async def ServerReady(  # noqa: N802
        self, request: oip_pb2.ServerReadyRequest, context: _Context
    ) -> oip_pb2.ServerReadyResponse:
        """Whether every model is proven."""
        return oip_pb2.ServerReadyResponse(ready=not self._gateway.unready())

    async def ModelReady(  # noqa: N802
        self, request: oip_pb2.ModelReadyRequest, context: _Context
    ) -> oip_pb2.ModelReadyResponse:
        """Whether one model can answer; one that is not served cannot."""
        try:
            self._model(request.name, request.version)
        except NotFound:
            return oip_pb2.ModelReadyResponse(ready=False)
        return oip_pb2.ModelReadyResponse(ready=not self._gateway.unready())

    async def ServerMetadata(  # noqa: N802
        self, request: oip_pb2.ServerMetadataRequest, context: _Context
    ) -> oip_pb2.ServerMetadataResponse:
        """Server metadata."""
        return oip_proto.server(oip_models.server())

    async def ModelMetadata(  # noqa: N802
        self, request: oip_pb2.ModelMetadataRequest, context: _Context
    ) -> oip_pb2.ModelMetadataResponse:
        """Model metadata."""
        model = self._model(request.name, request.version)
        return oip_proto.metadata(oip_models.metadata(model, self._gateway.models()))

    async def ModelConfig(  # noqa: N802
        self, request: oip_pb2.ModelConfigRequest, context: _Context
    ) -> oip_pb2.ModelConfigResponse:
        """Model configuration."""
        model = self._model(request.name, request.version)
        return oip_proto.config(oip_models.config(model, self._gateway.limits.max_rows))

    async def ModelInfer(  # noqa: N802
        self, request: oip_pb2.ModelInferRequest, context: _Context
    ) -> oip_pb2.ModelInferResponse:
        """Infer."""
        return await observed(self._gateway, "oip_grpc", self._infer(request, time_left(context)))

    async def _infer(
        self, message: oip_pb2.ModelInferRequest, seconds_left: float | None
    ) -> oip_pb2.ModelInferResponse:
        model = self._model(message.model_name, message.model_version)
        decode = functools.partial(oip_proto.decode, message, model, self._gateway.limits, seconds_left)
        with self._gateway.buffered.hold() as held, self._gateway.statistics.request(model) as clock:
            held.grow(size := message.ByteSize())  # as parsed; its bytes are held at the door
            call = await off_loop.run(decode, size, model, held)
            clock.decoded()
            answer = await self._gateway.predict(call.request.of(CALLER.get()))
            clock.answered(answer)
            return await off_loop.written(lambda whole: oip_proto.encode(call, whole, model), answer)

    async def ModelStreamInfer(self, request: Incoming, context: _Context) -> None:  # noqa: N802
        """Infer, as often as there are requests: what is wrong with one is said in its place, and the others go on."""

        async def answers(message: oip_pb2.ModelInferRequest) -> AsyncGenerator[oip_pb2.ModelStreamInferResponse, None]:
            try:
                with request.accepted():
                    async with contextlib.aclosing(self._answers(message, time_left(context))) as found:
                        async for each in found:
                            yield each
            except Exception as error:
                yield oip_proto.encode_error(message, refusal_of(error))

        await converse(request.messages, answers, taken(context.write))

    async def _answers(
        self, message: oip_pb2.ModelInferRequest, seconds_left: float | None
    ) -> AsyncGenerator[oip_pb2.ModelStreamInferResponse, None]:
        with Observing(self._gateway, "oip_grpc"):
            model = self._model(message.model_name, message.model_version)
            decode = functools.partial(oip_proto.decode_streamed, message, model, self._gateway.limits, seconds_left)
            with self._gateway.buffered.hold() as held, self._gateway.statistics.request(model) as clock:
                held.grow(size := message.ByteSize())
                call, follows = await off_loop.run(decode, size, model, held)
                clock.decoded()
                asked = call.request.of(CALLER.get())
                events = self._gateway.events(asked) if follows else self._only_answer(asked)
                async with contextlib.aclosing(events):
                    async for event in events:
                        if isinstance(event, Final):
                            clock.answered(event.said)
                        yield await self._written(call, event, model)

    async def _written(
        self, call: oip.InferCall, event: Event[Answer], model: Model
    ) -> oip_pb2.ModelStreamInferResponse:
        return await off_loop.written(lambda _: oip_proto.encode_event(call, event, model), event.said)

    async def _only_answer(self, asked: PredictRequest) -> AsyncGenerator[Event[Answer], None]:
        yield Final(await self._gateway.predict(asked))

    async def ModelStatistics(  # noqa: N802
        self, request: oip_pb2.ModelStatisticsRequest, context: _Context
    ) -> oip_pb2.ModelStatisticsResponse:
        """What this gateway has answered: of one version, of all of a model, or of all models."""
        version = oip.version(request.version)
        return oip_proto.statistics(oip_models.statistics(self._gateway, request.name or None, version))
