"""The HTTP server: routes of the friendly API, of KServe V1 and of the Open Inference Protocol v2, and nothing else.

What a route does is: find the model, read the body under its limits, decode, ask the gateway, encode. A client that
goes away cancels its work. `build_app` gives an ASGI application; who serves it and where is the composition root's.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TypeAlias, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from serving.errors import Unavailable
from serving.gateway.statistics import Clock
from serving.inputs import registry
from serving.messages import Answer, Model, Options, PredictRequest
from serving.security.callers import CALLER, INFER, READ, Callers
from serving.wires import off_loop
from serving.wires import options as wire_options
from serving.wires.http import event_stream, multipart, openapi, page
from serving.wires.http import request as http_request
from serving.wires.http.answer import infer_response
from serving.wires.http.control import ControlRoutes
from serving.wires.http.cors import OtherOrigins
from serving.wires.http.event_stream import EventStream
from serving.wires.http.frame import Frame, Framed, Guarded, error_response, json_response
from serving.wires.http.paths import ALIVE, V1_MODEL, V2_MODEL, VERSION
from serving.wires.kserve_v1 import instances_json
from serving.wires.live import News
from serving.wires.observed import ClientGone, observed
from serving.wires.open_inference import generate, oip, oip_json, oip_models
from serving.wires.port import GatewayPort

_UNWATCHED_S = 0.01
_Result = TypeVar("_Result")
_Written = TypeVar("_Written")
_Decoded: TypeAlias = tuple[PredictRequest, _Written]
"""What is asked, and how its answer is written."""
_Answering: TypeAlias = Callable[[PredictRequest, _Written, Clock], Awaitable[_Result]]
"""The rest of an exchange: ask the gateway, and write what it says."""


def build_app(
    gateway: GatewayPort,
    idle_body_s: float = 30.0,
    max_requests: int = 1024,
    callers: Callers | None = None,
    with_page: bool = True,
    origins: Sequence[str] = (),
) -> Starlette:
    """The HTTP server of a gateway, as an ASGI application.

    A body that stops coming for `idle_body_s` is given up, and no more than `max_requests` are worked on at once.
    `callers` tells who asks; without it everybody may. `with_page` says whether a browser gets a page at `/`.
    Pages of `origins` may call from a browser.
    """
    api = _Api(gateway, idle_body_s, max_requests)
    # The first route that fits is taken: what is asked most stands first.
    routes = [Guarded(base + ":predict", api.predict, INFER, ["POST"]) for base in (V1_MODEL, V1_MODEL + VERSION)]
    routes += [Guarded(base + ":stream", api.stream, INFER, ["POST"]) for base in (V1_MODEL, V1_MODEL + VERSION)]
    routes += [Guarded(base + "/infer", api.infer, INFER, ["POST"]) for base in (V2_MODEL, V2_MODEL + VERSION)]
    routes += [Guarded(base + "/generate", api.generate, INFER, ["POST"]) for base in (V2_MODEL, V2_MODEL + VERSION)]
    for base in (V2_MODEL, V2_MODEL + VERSION):
        routes += [Guarded(base + "/generate_stream", api.generate_stream, INFER, ["POST"])]
    if with_page:
        routes += [*page.open_routes(api.alive), page.models_route(gateway)]
    routes += [
        *(Guarded(path, api.alive, None) for path in ALIVE),
        Guarded("/v1/models", api.v1_models, READ),
        Guarded(V1_MODEL, api.v1_model, READ),
        Guarded("/v2", api.server, READ),
        Guarded("/v2/health/live", api.live, None),
        Guarded("/v2/health/ready", api.ready, None),
        Guarded("/v2/models", api.models, READ),
        Guarded("/v2/models/stats", api.statistics, READ),
    ]
    for base in (V2_MODEL, V2_MODEL + VERSION):
        routes += [
            Guarded(base, api.metadata, READ),
            Guarded(base + "/ready", api.model_ready, READ),
            Guarded(base + "/config", api.config, READ),
            Guarded(base + "/stats", api.statistics, READ),
        ]
    routes += ControlRoutes(gateway, idle_body_s).routes()
    routes += openapi.routes(routes)
    frame = Middleware(Frame, callers, frozenset(each.path for each in routes if each.needs is None))
    others = [Middleware(OtherOrigins, origins)] if origins else []
    app = Framed(routes=routes, middleware=[*others, frame])
    app.router.redirect_slashes = False
    return app


class _Api:
    """The handlers. They hold the gateway, and how many requests have come whole and are not answered."""

    def __init__(self, gateway: GatewayPort, idle_body_s: float, max_requests: int) -> None:
        self._gateway = gateway
        self._idle_body_s = idle_body_s
        self._admitted = _AtWork(max_requests)

    async def predict(self, request: Request) -> Response:
        """The friendly route: a picture or KServe V1 JSON in, the answer document out, or a stream of events."""
        if event_stream.wanted(",".join(request.headers.getlist("accept"))):
            return await self.stream(request)
        return await observed(self._gateway, "http", self._predict(request))

    async def stream(self, request: Request) -> Response:
        """The same as events: the base prediction at once, what is proven meanwhile, the answer of each row at last."""

        async def work(stream: EventStream) -> None:
            await observed(self._gateway, "http", self._stream(request, stream))

        return event_stream.Streaming(work)

    async def infer(self, request: Request) -> Response:
        """The Open Inference Protocol's infer, in JSON or binary."""
        return await observed(self._gateway, "oip_http", self._infer(request))

    async def generate(self, request: Request) -> Response:
        """Triton's generate: one flat JSON object in and out."""
        return await observed(self._gateway, "oip_http", self._generate(request))

    async def generate_stream(self, request: Request) -> Response:
        """The same as events: what is said of each row, until what generate says."""

        async def work(stream: EventStream) -> None:
            await observed(self._gateway, "oip_http", self._generate_stream(request, stream))

        return event_stream.Streaming(work)

    async def _predict(self, request: Request) -> Response:
        model, kind, decoded = self._friendly(request)

        def decode(body: bytearray) -> _Decoded[Callable[[Answer], Response]]:
            asked = decoded(body)
            return asked, lambda answer: json_response(instances_json.encode(answer, asked.options))

        return await self._exchange(request, model, decode, self._answer, all_json=kind == http_request.JSON)

    async def _stream(self, request: Request, stream: EventStream) -> None:
        model, kind, decoded = self._friendly(request)

        def decode(body: bytearray) -> _Decoded[Callable[[News], bytes]]:
            asked = decoded(body)
            return asked, lambda news: event_stream.rows(news.kind, instances_json.encode_news(news, asked.options))

        await self._exchange(request, model, decode, self._followed(stream), all_json=kind == http_request.JSON)

    def _followed(self, stream: EventStream) -> _Answering[Callable[[News], bytes], None]:
        async def follow(asked: PredictRequest, write: Callable[[News], bytes], clock: Clock) -> None:
            await event_stream.follow(self._gateway.events(asked), write, clock, stream)

        return follow

    def _friendly(self, request: Request) -> tuple[Model, str, Callable[[bytearray], PredictRequest]]:
        """The model of a request of the friendly route, the type of its body, and how that is read."""
        model = self._model(request)
        query = wire_options.from_query_string(request.scope["query_string"])
        kind = http_request.content_type(request)  # refused before anything is read
        return model, kind, lambda body: self._decoded(body, request, kind, model, query)

    def _decoded(
        self, body: bytearray, request: Request, kind: str, model: Model, query: Mapping[str, object]
    ) -> PredictRequest:
        spec = model.manifest.input
        options: Options
        if kind == http_request.JSON:
            inputs, options = instances_json.decode(body, spec, self._gateway.limits.max_rows, query)
        elif kind == multipart.TYPE:
            data, kind, fields = multipart.decode(body, request.headers["content-type"])
            inputs = registry.one(data, kind, spec)
            options = wire_options.build(query, wire_options.from_query(fields))
        else:
            inputs, options = registry.one(bytes(body), kind, spec), wire_options.build(query)
        name, version = model.manifest.name, model.manifest.version
        return PredictRequest(model=name, version=version, digest=model.digest, inputs=inputs, options=options)

    async def _infer(self, request: Request) -> Response:
        model, limits = self._model(request), self._gateway.limits
        json_length = http_request.json_length(request)

        def decode(body: bytearray) -> _Decoded[Callable[[Answer], Response]]:
            asked = oip_json.decode(body, json_length, model, limits)
            return asked.call.request, lambda answer: infer_response(request, *oip_json.encode(asked, answer, model))

        return await self._exchange(request, model, decode, self._answer, all_json=json_length is None)

    async def _answer(self, asked: PredictRequest, write: Callable[[Answer], Response], clock: Clock) -> Response:
        answer = await self._gateway.predict(asked)
        clock.answered(answer)
        return await off_loop.written(write, answer)

    async def _generate(self, request: Request) -> Response:
        model, limits = self._model(request), self._gateway.limits

        def decode(body: bytearray) -> _Decoded[Callable[[Answer], Response]]:
            call = generate.decode(body, model, limits)
            return call.request, lambda answer: json_response(generate.encode(call, answer, model))

        return await self._exchange(request, model, decode, self._answer, all_json=True)

    async def _generate_stream(self, request: Request, stream: EventStream) -> None:
        model, limits = self._model(request), self._gateway.limits

        def decode(body: bytearray) -> _Decoded[Callable[[News], bytes]]:
            call = generate.decode(body, model, limits)
            return call.request, lambda news: event_stream.unnamed(generate.encode_news(call, news, model))

        await self._exchange(request, model, decode, self._followed(stream), all_json=True)

    async def _exchange(
        self,
        request: Request,
        model: Model,
        decode: Callable[[bytearray], _Decoded[_Written]],
        answer: _Answering[_Written, _Result],
        *,
        all_json: bool,
    ) -> _Result:
        """Read, decode, ask, write; what is kept of the request counts until then, and a client that leaves ends it."""
        with self._gateway.buffered.hold() as held:
            body = await http_request.body(request, self._gateway.limits, held, self._idle_body_s, all_json=all_json)
            # Only what has come whole counts: strangers who send no body keep nobody out.
            with self._admitted, self._gateway.statistics.request(model) as clock:

                async def work() -> _Result:
                    asked, write = await off_loop.run(functools.partial(decode, body), len(body), model, held)
                    clock.decoded()
                    return await answer(asked.of(CALLER.get()), write, clock)

                return await _while_connected(request, work())

    async def alive(self, request: Request) -> Response:
        """KServe V1: answering at all is being alive."""
        return json_response({"status": "alive"})

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
        """Answering is being alive, unless the engine of this process has failed and only a new process has another."""
        if not (reason := self._gateway.failed()):
            return json_response({"live": True})
        return error_response(Unavailable(f"the server has to be started anew: {reason}"), beside={"live": False})

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


class _AtWork:
    """A context for each request that is worked at, of which there are no more than `most`. Raises `Unavailable`."""

    def __init__(self, most: int) -> None:
        self._most, self._now = most, 0

    def __enter__(self) -> None:
        if self._now >= self._most:
            full = f"{self._most} requests are in progress, as many as one server takes; try again"
            raise Unavailable(full, retry_after_s=1)
        self._now += 1

    def __exit__(self, *_: object) -> None:
        self._now -= 1


async def _while_connected(request: Request, work: Coroutine[object, object, _Result]) -> _Result:
    """The answer, unless the client goes away first: then the work is cancelled. Most are answered before one looks."""
    asking, gone = asyncio.current_task(), False
    assert asking is not None

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        asking.cancel()

    watching: list[asyncio.Future[None]] = []
    later = asyncio.get_running_loop().call_later(_UNWATCHED_S, lambda: watching.append(asyncio.ensure_future(watch())))
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        asking.uncancel()
        raise ClientGone from None
    finally:
        later.cancel()
        for each in watching:
            each.cancel()
