"""The gRPC server: routes of the typed service and of the Open Inference Protocol v2, health and reflection.

Methods of the open protocol that are not offered are UNIMPLEMENTED. A call that is cancelled, or whose deadline passes,
cancels its work. Several processes may listen on one port.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.certserve.v1 import certserve_pb2, certserve_pb2_grpc
from protos.inference import open_inference_pb2 as oip_pb2
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving.errors import NotOffered
from serving.messages import Model
from serving.wire import certserve_proto, off_loop, oip, oip_models, oip_proto
from serving.wire.grpc_frame import answers, time_left
from serving.wire.grpc_readiness import Readiness
from serving.wire.observed import observed
from serving.wire.port import Gateway

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_MINUTE_MS = 60_000
_SERVICES = (
    certserve_pb2.DESCRIPTOR.services_by_name["CertificationService"].full_name,
    oip_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
)


def build_server(gateway: Gateway, address: str, *, shared: bool = False) -> tuple[grpc.aio.Server, int]:
    """The gRPC server of a gateway, bound to `address` ("host:port", port 0 for a free one) but not started, and its
    port. It belongs to the running event loop; start it with `await server.start()`. Several gateways of one host may
    have a port in common if each says that it is `shared`. Raises `RuntimeError` if the address is taken.
    """
    server = grpc.aio.server(options=_options(gateway.limits.max_body_bytes, shared))
    certserve_pb2_grpc.add_CertificationServiceServicer_to_server(_Certification(gateway), server)  # type: ignore[no-untyped-call]
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(_OpenInference(gateway), server)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(Readiness(gateway, _SERVICES), server)
    reflection.enable_server_reflection((*_SERVICES, reflection.SERVICE_NAME), server)
    return server, server.add_insecure_port(address)


def _options(max_bytes: int, shared: bool) -> list[tuple[str, int]]:
    """Both directions up to the body limit; clients may keep their connection alive, and are made to renew it."""
    return [
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", max_bytes),
        ("grpc.so_reuseport", int(shared)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 9_000),
        ("grpc.max_connection_age_ms", 30 * _MINUTE_MS),
        ("grpc.max_connection_age_grace_ms", 2 * _MINUTE_MS),
    ]


class _Certification(certserve_pb2_grpc.CertificationServiceServicer):
    """certserve.v1."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @answers
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
        request = await off_loop.run(decode, message.ByteSize(), model)
        return certserve_proto.encode(await self._gateway.predict(request), request.options)


class _OpenInference(oip_grpc.GRPCInferenceServiceServicer):
    """The Open Inference Protocol v2."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def _model(self, name: str, version: str) -> Model:
        return self._gateway.model(name, oip.version(version))

    @answers
    async def ServerLive(  # noqa: N802
        self, request: oip_pb2.ServerLiveRequest, context: _Context
    ) -> oip_pb2.ServerLiveResponse:
        """Answering at all is being alive."""
        return oip_pb2.ServerLiveResponse(live=True)

    @answers
    async def ServerReady(  # noqa: N802
        self, request: oip_pb2.ServerReadyRequest, context: _Context
    ) -> oip_pb2.ServerReadyResponse:
        """Whether every model is proven."""
        return oip_pb2.ServerReadyResponse(ready=self._gateway.ready())

    @answers
    async def ModelReady(  # noqa: N802
        self, request: oip_pb2.ModelReadyRequest, context: _Context
    ) -> oip_pb2.ModelReadyResponse:
        """One model's readiness."""
        self._model(request.name, request.version)
        return oip_pb2.ModelReadyResponse(ready=self._gateway.ready())

    @answers
    async def ServerMetadata(  # noqa: N802
        self, request: oip_pb2.ServerMetadataRequest, context: _Context
    ) -> oip_pb2.ServerMetadataResponse:
        """Server metadata."""
        return oip_proto.server(oip_models.server())

    @answers
    async def ModelMetadata(  # noqa: N802
        self, request: oip_pb2.ModelMetadataRequest, context: _Context
    ) -> oip_pb2.ModelMetadataResponse:
        """Model metadata."""
        model = self._model(request.name, request.version)
        return oip_proto.metadata(oip_models.metadata(model, self._gateway.models()))

    @answers
    async def ModelConfig(  # noqa: N802
        self, request: oip_pb2.ModelConfigRequest, context: _Context
    ) -> oip_pb2.ModelConfigResponse:
        """Model configuration."""
        model = self._model(request.name, request.version)
        return oip_proto.config(oip_models.config(model, self._gateway.limits.max_rows))

    @answers
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
        call = await off_loop.run(decode, message.ByteSize(), model)
        return oip_proto.encode(call, await self._gateway.predict(call.request), model)

    @answers
    async def ModelStreamInfer(self, request: object, context: _Context) -> None:  # noqa: N802
        """Not offered."""
        raise _not_offered("ModelStreamInfer")

    @answers
    async def RepositoryIndex(self, request: object, context: _Context) -> None:  # noqa: N802
        """Not offered."""
        raise _not_offered("RepositoryIndex")

    @answers
    async def RepositoryModelLoad(self, request: object, context: _Context) -> None:  # noqa: N802
        """Not offered."""
        raise _not_offered("RepositoryModelLoad")

    @answers
    async def RepositoryModelUnload(self, request: object, context: _Context) -> None:  # noqa: N802
        """Not offered."""
        raise _not_offered("RepositoryModelUnload")


def _not_offered(method: str) -> NotOffered:
    return NotOffered(f"{method} is a part of the Open Inference Protocol that is not offered here")
