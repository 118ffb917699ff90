"""The methods about the server itself: Triton's extensions of repository, trace, log and shared memory.

What they say is `oip_control`'s.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from protos.inference import open_inference_pb2 as oip_pb2
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving.wires.open_inference import oip_control, oip_proto
from serving.wires.port import GatewayPort

CONTROL = (
    *(f"Repository{each}" for each in ("Index", "ModelLoad", "ModelUnload")),
    *(f"{memory}SharedMemory{each}" for memory in ("System", "Cuda") for each in ("Status", "Register", "Unregister")),
    "TraceSetting",
    "LogSettings",
)
"""Their names. Nothing of what they tell is changed by any of them."""

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class ControlMethods(oip_grpc.GRPCInferenceServiceServicer):
    """These methods of the Open Inference Protocol, for the service that has the others."""

    def __init__(self, gateway: GatewayPort) -> None:
        self._gateway = gateway

    async def RepositoryIndex(  # noqa: N802
        self, request: oip_pb2.RepositoryIndexRequest, context: _Context
    ) -> oip_pb2.RepositoryIndexResponse:
        """Every served model and version."""
        oip_control.refuse_repository(request.repository_name)
        return oip_proto.index(oip_control.index(self._gateway, request.ready))

    async def RepositoryModelLoad(  # noqa: N802
        self, request: oip_pb2.RepositoryModelLoadRequest, context: _Context
    ) -> oip_pb2.RepositoryModelLoadResponse:
        """Refused. Some clients write the model's name as the repository's."""
        oip_control.refuse_loading("load", request.model_name or request.repository_name)

    async def RepositoryModelUnload(  # noqa: N802
        self, request: oip_pb2.RepositoryModelUnloadRequest, context: _Context
    ) -> oip_pb2.RepositoryModelUnloadResponse:
        """Refused, likewise."""
        oip_control.refuse_loading("unload", request.model_name or request.repository_name)

    async def SystemSharedMemoryStatus(  # noqa: N802
        self, request: oip_pb2.SystemSharedMemoryStatusRequest, context: _Context
    ) -> oip_pb2.SystemSharedMemoryStatusResponse:
        """The registered regions: none."""
        oip_control.regions("system", request.name)
        return oip_pb2.SystemSharedMemoryStatusResponse()

    async def SystemSharedMemoryRegister(  # noqa: N802
        self, request: oip_pb2.SystemSharedMemoryRegisterRequest, context: _Context
    ) -> oip_pb2.SystemSharedMemoryRegisterResponse:
        """Refused."""
        oip_control.refuse_region()

    async def SystemSharedMemoryUnregister(  # noqa: N802
        self, request: oip_pb2.SystemSharedMemoryUnregisterRequest, context: _Context
    ) -> oip_pb2.SystemSharedMemoryUnregisterResponse:
        """Nothing is registered afterwards, as before."""
        return oip_pb2.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(  # noqa: N802
        self, request: oip_pb2.CudaSharedMemoryStatusRequest, context: _Context
    ) -> oip_pb2.CudaSharedMemoryStatusResponse:
        """The registered regions: none."""
        oip_control.regions("cuda", request.name)
        return oip_pb2.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(  # noqa: N802
        self, request: oip_pb2.CudaSharedMemoryRegisterRequest, context: _Context
    ) -> oip_pb2.CudaSharedMemoryRegisterResponse:
        """Refused."""
        oip_control.refuse_region()

    async def CudaSharedMemoryUnregister(  # noqa: N802
        self, request: oip_pb2.CudaSharedMemoryUnregisterRequest, context: _Context
    ) -> oip_pb2.CudaSharedMemoryUnregisterResponse:
        """Nothing is registered afterwards, as before."""
        return oip_pb2.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(  # noqa: N802
        self, request: oip_pb2.TraceSettingRequest, context: _Context
    ) -> oip_pb2.TraceSettingResponse:
        """The settings of tracing, of which there is none; a change is refused."""
        changes = oip_proto.trace_changes(request)
        return oip_proto.trace(oip_control.trace(self._gateway, request.model_name, "", changes))

    async def LogSettings(  # noqa: N802
        self, request: oip_pb2.LogSettingsRequest, context: _Context
    ) -> oip_pb2.LogSettingsResponse:
        """The settings of the server's log; a change is refused."""
        return oip_proto.log(oip_control.log(oip_proto.log_changes(request)))
