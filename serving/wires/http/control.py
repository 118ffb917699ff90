"""Routes about the server itself: Triton's extensions of repository, trace, log and shared memory.

They are small, so they are read, answered and written here and now; what they say is `oip_control`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

from starlette.requests import Request
from starlette.responses import Response

from serving import strict_json
from serving.security.callers import READ
from serving.wires.http import request as http_request
from serving.wires.http.frame import Guarded, json_response
from serving.wires.http.paths import V2_MODEL, VERSION
from serving.wires.open_inference import oip_control
from serving.wires.port import GatewayPort

_MOST_BYTES = 64 * 1024


class ControlRoutes:
    """The handlers. They hold the gateway, and how long a body may stop coming."""

    def __init__(self, gateway: GatewayPort, idle_body_s: float) -> None:
        self._gateway = gateway
        self._idle_body_s = idle_body_s

    def routes(self) -> Iterator[Guarded]:
        """All of them."""
        for base in ("/v2/repository", "/v2/repository/{repository:served}"):
            yield Guarded(base + "/index", self.index, READ, ["POST"])
            yield Guarded(base + "/models/{name:served}/load", self.load, READ, ["POST"])
            yield Guarded(base + "/models/{name:served}/unload", self.unload, READ, ["POST"])
        for path in ("/v2", V2_MODEL, V2_MODEL + VERSION):
            yield Guarded(path + "/trace/setting", self.trace, READ, ["GET", "POST"])
        yield Guarded("/v2/logging", self.log, READ, ["GET", "POST"])
        memory = "/v2/{memory:memory}sharedmemory"
        for base in (memory, memory + "/region/{region:served}"):
            yield Guarded(base + "/status", self.regions, READ)
            yield Guarded(base + "/register", self.register, READ, ["POST"])
            yield Guarded(base + "/unregister", self.unregister, READ, ["POST"])

    async def index(self, request: Request) -> Response:
        """Every served model and version, with its state; `{"ready": true}` asks for those alone that are ready."""
        oip_control.refuse_repository(request.path_params.get("repository", ""))
        ready = oip_control.only_ready(await self._fields(request))
        return json_response(oip_control.index(self._gateway, ready))

    async def load(self, request: Request) -> Response:
        """Refused: the server serves its repository as it was at the start."""
        self._refuse_loading("load", request)

    async def unload(self, request: Request) -> Response:
        """Refused: the server serves its repository as it was at the start."""
        self._refuse_loading("unload", request)

    async def trace(self, request: Request) -> Response:
        """The settings of tracing, of which there is none; a POST that would change one is refused."""
        name, version = (request.path_params.get(part, "") for part in ("name", "version"))
        return json_response(oip_control.trace(self._gateway, name, version, await self._changes(request)))

    async def log(self, request: Request) -> Response:
        """The settings of the server's log; a POST that would change one is refused."""
        return json_response(oip_control.log(await self._changes(request)))

    async def regions(self, request: Request) -> Response:
        """The registered regions of shared memory: none."""
        return json_response(oip_control.regions(request.path_params["memory"], request.path_params.get("region", "")))

    async def register(self, request: Request) -> Response:
        """Refused: clients share no memory with the server."""
        oip_control.refuse_region()

    async def unregister(self, request: Request) -> Response:
        """Nothing is registered afterwards, as before."""
        return json_response({})

    def _refuse_loading(self, action: str, request: Request) -> NoReturn:
        oip_control.refuse_repository(request.path_params.get("repository", ""))
        oip_control.refuse_loading(action, request.path_params["name"])

    async def _changes(self, request: Request) -> dict[str, object]:
        return await self._fields(request) if request.method == "POST" else {}

    async def _fields(self, request: Request) -> dict[str, object]:
        """The JSON object of the body, empty where there is none."""
        limits = self._gateway.limits
        limits = replace(limits, max_json_bytes=min(_MOST_BYTES, limits.max_json_bytes))
        with self._gateway.buffered.hold() as held:
            body = await http_request.body(request, limits, held, self._idle_body_s, all_json=True)
            return strict_json.loads(bytes(body)) if body else {}
