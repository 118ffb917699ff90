"""The HTTP server: routes of the friendly API, of KServe V1 and of the Open Inference Protocol v2, and nothing else.

What a route does is: find the model, read the body under its limits, decode, ask the gateway, encode. A client that
goes away cancels its work. `build_app` gives an ASGI application; who serves it and where is the composition root's.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import CertserveError, InvalidInput, NotOffered, Unavailable, UnsupportedMedia
from serving.messages import Answer, Model, Options, PredictRequest
from serving.wire import http_body, image, instances_json, off_loop, oip, oip_json, oip_models
from serving.wire import options as wire_options
from serving.wire.http_frame import Frame, certserve_error, error_response, http_error, json_response
from serving.wire.observed import ClientGone, observed
from serving.wire.port import Gateway

_JSON = "application/json"
_WORTH_COMPRESSING = 1024
_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": functools.partial(gzip.compress, compresslevel=1),
    "deflate": functools.partial(zlib.compress, level=1),
}


class _ModelName(Convertor[str]):
    """A path segment that ends before the colon of `:predict`."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("served", _ModelName())

_V1, _V2 = "/v1/models/{name:served}", "/v2/models/{name:served}"
_VERSION = "/versions/{version:served}"
_NOT_OFFERED = (
    *(base + tail for base in (_V2, _V2 + _VERSION) for tail in ("/generate", "/generate_stream")),
    _V2 + "/trace/setting",
    "/v2/trace/setting",
    "/v2/logging",
    "/v2/repository/index",
    "/v2/repository/models/{name:served}/load",
    "/v2/repository/models/{name:served}/unload",
    "/v2/systemsharedmemory/{rest:path}",
    "/v2/cudasharedmemory/{rest:path}",
)


def build_app(gateway: Gateway, idle_body_s: float = 30.0) -> Starlette:
    """The HTTP server of a gateway, as an ASGI application; a body that stops coming for `idle_body_s` is given up."""
    api = _Api(gateway, idle_body_s)
    # The first route that fits is taken: what is asked most stands first.
    routes = [Route(base + ":predict", api.predict, methods=["POST"]) for base in (_V1, _V1 + _VERSION)]
    routes += [Route(base + "/infer", api.infer, methods=["POST"]) for base in (_V2, _V2 + _VERSION)]
    routes += [Route(path, _not_offered, methods=["GET", "POST"]) for path in _NOT_OFFERED]
    routes += [
        Route("/v1/models", api.v1_models),
        Route(_V1, api.v1_model),
        Route("/v2", api.server),
        Route("/v2/health/live", api.live),
        Route("/v2/health/ready", api.ready),
        Route("/v2/models", api.models),
        Route("/v2/models/stats", api.statistics),
    ]
    for base in (_V2, _V2 + _VERSION):
        routes += [
            Route(base, api.metadata),
            Route(base + "/ready", api.model_ready),
            Route(base + "/config", api.config),
            Route(base + "/stats", api.statistics),
        ]
    handlers = {CertserveError: certserve_error, HTTPException: http_error, ClientGone: _client_gone}
    app = Starlette(routes=routes, middleware=[Middleware(Frame)], exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


class _Api:
    """The handlers. They hold nothing but the gateway."""

    def __init__(self, gateway: Gateway, idle_body_s: float) -> None:
        self._gateway = gateway
        self._idle_body_s = idle_body_s

    async def predict(self, request: Request) -> Response:
        """The friendly route: a picture or KServe V1 JSON in, the answer document out."""
        return await observed(self._gateway, "http", self._predict(request))

    async def infer(self, request: Request) -> Response:
        """The Open Inference Protocol's infer, in JSON or binary."""
        return await observed(self._gateway, "oip_http", self._infer(request))

    async def _predict(self, request: Request) -> Response:
        model = self._model(request)
        query = wire_options.from_query(request.query_params.multi_items())
        content_type = _content_type(request)
        body = await self._body(request)
        decode = functools.partial(self._decoded, body, content_type, model, query)
        with self._gateway.statistics.request(model) as clock:
            asked = await off_loop.run(decode, len(body), model)
            clock.decoded()
            answer = await _while_connected(request, self._gateway.predict(asked))
            clock.answered(answer)
            return json_response(instances_json.encode(answer, asked.options))

    def _decoded(self, body: bytes, content_type: str, model: Model, query: dict[str, object]) -> PredictRequest:
        spec = model.manifest.input
        options: Options
        if content_type == _JSON:
            inputs, options = instances_json.decode(body, spec, self._gateway.limits.max_rows, query)
        else:
            inputs, options = image.decode(body, content_type, spec)[None], wire_options.build(query)
        return PredictRequest(model=model.manifest.name, version=model.manifest.version, inputs=inputs, options=options)

    async def _infer(self, request: Request) -> Response:
        model = self._model(request)
        json_length = _json_length(request)
        body = await self._body(request)
        decode = functools.partial(oip_json.decode, body, json_length, model, self._gateway.limits)
        with self._gateway.statistics.request(model) as clock:
            asked = await off_loop.run(decode, len(body), model)
            clock.decoded()
            answer = await _while_connected(request, self._gateway.predict(asked.call.request))
            clock.answered(answer)
            return _infer_response(request, *oip_json.encode(asked, answer, model))

    async def v1_models(self, request: Request) -> Response:
        """KServe V1: the names of the models."""
        return json_response({"models": self._names()})

    async def v1_model(self, request: Request) -> Response:
        """KServe V1: one model's state."""
        model = self._model(request)
        return self._readiness({"name": model.manifest.name})

    async def server(self, request: Request) -> Response:
        """Server metadata."""
        return json_response(oip_models.server())

    async def live(self, request: Request) -> Response:
        """Answering at all is being alive."""
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        """Whether every model is proven."""
        return self._readiness({})

    async def models(self, request: Request) -> Response:
        """The names of the models."""
        return json_response({"models": self._names()})

    async def metadata(self, request: Request) -> Response:
        """Model metadata."""
        model = self._model(request)
        return json_response(oip_models.metadata(model, self._gateway.models()))

    async def model_ready(self, request: Request) -> Response:
        """One model's readiness."""
        model = self._model(request)
        return self._readiness({"name": model.manifest.name})

    async def config(self, request: Request) -> Response:
        """Model configuration."""
        return json_response(oip_models.config(self._model(request), self._gateway.limits.max_rows))

    async def statistics(self, request: Request) -> Response:
        """What this gateway has answered: of one version, of all of a model, or of all models."""
        name, version = (request.path_params.get(part) for part in ("name", "version"))
        return json_response(oip_models.statistics(self._gateway, name, oip.version(version)))

    def _names(self) -> list[str]:
        return sorted({model.manifest.name for model in self._gateway.models()})

    def _model(self, request: Request) -> Model:
        return self._gateway.model(request.path_params["name"], oip.version(request.path_params.get("version")))

    def _readiness(self, head: dict[str, object]) -> Response:
        if not (reason := self._gateway.unready()):
            return json_response({**head, "ready": True})
        error = Unavailable(f"the server is not ready: {reason}; try again", retry_after_s=1)
        return error_response(error, beside={**head, "ready": False})

    async def _body(self, request: Request) -> bytes:
        headers = request.headers
        encoding = headers.get("content-encoding", "").strip().lower()
        declared = headers.get("content-length")
        return await http_body.read(
            _chunks(request, self._idle_body_s), encoding, declared, self._gateway.limits.max_body_bytes
        )


async def _chunks(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(stream, None)
        except ClientDisconnect:
            raise ClientGone from None
        except TimeoutError:
            raise InvalidInput(f"the body stopped coming for {idle_s:g} s; send it again") from None
        if chunk is None:
            return
        yield chunk


async def _while_connected(request: Request, work: Coroutine[object, object, Answer]) -> Answer:
    """The answer, unless the client goes away first: then the work is cancelled."""
    asking, gone = asyncio.current_task(), False
    assert asking is not None

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        asking.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        asking.uncancel()
        raise ClientGone from None
    finally:
        watching.cancel()


def _content_type(request: Request) -> str:
    found = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if found not in (_JSON, *image.TYPES):
        known = ", ".join((*image.TYPES, _JSON))
        said = f"Content-Type {found!r:.80} is not read" if found else "the Content-Type is missing"
        raise UnsupportedMedia(f"{said}; expected one of {known} (curl: -H 'Content-Type: image/png')")
    return found


def _json_length(request: Request) -> int | None:
    text = request.headers.get(oip_json.LENGTH_HEADER)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidInput(f"{oip_json.LENGTH_HEADER} is {text!r:.80}; expected a number of bytes")
    return int(text)


def _infer_response(request: Request, body: bytes, json_length: int | None) -> Response:
    """Only this answer may be compressed: clients inflate no other, and know gzip and deflate alone."""
    headers = {} if json_length is None else {oip_json.LENGTH_HEADER: str(json_length)}
    encoding = _accepted_encoding(request.headers.get("accept-encoding", ""))
    if encoding and len(body) > _WORTH_COMPRESSING:
        body = _COMPRESSORS[encoding](body)
        headers["Content-Encoding"] = encoding
    return Response(body, headers=headers, media_type=_JSON if json_length is None else "application/octet-stream")


def _accepted_encoding(header: str) -> str | None:
    parts = [part.replace(" ", "").lower().split(";q=") for part in header.split(",")]
    accepted = {name for name, *quality in parts if not quality or quality[0].strip("0.")}
    return next((name for name in _COMPRESSORS if name in accepted), None)


async def _not_offered(request: Request) -> Response:
    raise NotOffered(f"{request.url.path!r:.120} is a part of the Open Inference Protocol that is not offered here")


async def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)
