"""What every source of callers gives, and both wires make of it: one suite, without any and on one with keys.

The second is written here and touches nothing of the product: what a login has to bring is one object with one method.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import grpc
import httpx
import pytest

from protos.certserve.v1 import certserve_pb2 as pb
from protos.inference import open_inference_pb2 as oip
from serving.config import Limits
from serving.errors import Unauthenticated
from serving.gateway.gateway import Gateway
from serving.messages import Reply
from serving.models.catalogue import Catalogue
from serving.security.callers import ANONYMOUS, INFER, SCOPES, Caller
from serving.wires.grpc.control import CONTROL
from serving.wires.grpc.server import build_server
from serving.wires.http import page
from serving.wires.http.frame import Guarded
from serving.wires.http.server import build_app
from tests.serving.wires.fake_gateway import model, prediction

OPEN = {"/", "/health", "/healthz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"}
OPEN |= {each.path for each in page.open_routes(None)}  # files that tell nothing of what is served
OPEN_CALLS = {"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"} | {
    f"inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady")
}
ROW = [0] * 784
PARTS = {"name": "pictures", "version": "1", "memory": "system"}  # of paths
TENSOR = {"name": "image", "shape": [1, 1, 28, 28], "datatype": "INT32"}


CAMERA, AUDITOR = Caller(name="camera", scopes=frozenset({INFER})), Caller(name="auditor", scopes=frozenset({"read"}))


class Keys:
    """Callers by the key that they bear."""

    def caller(self, fields):
        try:
            return {"Bearer of-the-camera": CAMERA, "Bearer of-the-auditor": AUDITOR}[fields.get("authorization", "")]
        except KeyError:
            raise Unauthenticated("the key is not known; send Authorization: Bearer <key>") from None


@dataclass
class Source:
    """A source, or None; who is let in by which fields, who is not known, and who may not ask for predictions."""

    callers: object
    allowed: list
    unknown: list = field(default_factory=list)
    forbidden: list = field(default_factory=list)


def bearing(*keys):
    return [("authorization", f"Bearer {key}") for key in keys]


SOURCES = {
    "everybody": Source(None, [([], ANONYMOUS), (bearing("whatever"), ANONYMOUS)]),
    "keys": Source(
        Keys(),
        [(bearing("of-the-camera"), CAMERA)],
        [[], bearing("of-nobody"), bearing("of-the-camera", "of-the-camera"), bearing("of-nobody", "of-the-camera")],
        [bearing("of-the-auditor")],
    ),
}


class Asked(Gateway):
    """A gateway that notes who asked it."""

    def __init__(self):
        super().__init__(Catalogue([model()]), self, b"s" * 32, Limits())
        self.callers = []

    async def predict(self, request):
        if not hasattr(request, "caller"):  # as its own predictor
            return Reply(
                rows=tuple(prediction() for _ in request.rows),
                queue_s=0,
                compute_s=0,
                digest=request.digest,
                runtime="r",
            )
        self.callers.append(request.caller)
        return await super().predict(request)


@pytest.fixture(params=SOURCES)
def source(request):
    return SOURCES[request.param]


@pytest.fixture
async def asked(source):
    """Asks by each of the four ways to a prediction, with some fields; and the gateway behind them."""
    gateway = Asked()
    app = build_app(gateway, callers=source.callers)
    server, port = build_server(gateway, "127.0.0.1", 0, callers=source.callers)
    await server.start()
    calls = {
        "certserve.v1.CertificationService/Predict": pb.PredictRequest(
            model="pictures", grid=pb.GridTensor(shape=[1, 1, 28, 28], data=ROW)
        ),
        "inference.GRPCInferenceService/ModelInfer": oip.ModelInferRequest(
            model_name="pictures",
            inputs=[oip.ModelInferRequest.InferInputTensor(**TENSOR)],
            raw_input_contents=[bytes(4 * 784)],
        ),
    }
    posts = {
        "/v1/models/pictures:predict": {"instances": [[[ROW[:28]] * 28]]},
        "/v2/models/pictures/infer": {"inputs": [{**TENSOR, "data": ROW}]},
    }
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as http,
    ):

        async def ask(fields):
            answers = [await http.post(path, json=body, headers=fields) for path, body in posts.items()]
            codes = [each.status_code for each in answers]
            for method, message in calls.items():
                codes.append(await outcome(channel, method, message.SerializeToString(), fields))
            return codes

        yield ask, gateway, http, channel, app
    await server.stop(0)


async def outcome(channel, method, message, fields):
    """The code of a call; None for one that goes on."""
    call = channel.unary_stream(f"/{method}")(message, metadata=fields, timeout=10)
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        if not call.done():
            call.cancel()
    return grpc.StatusCode.OK


async def test_whoever_is_let_in_is_who_the_gateway_hears_of_on_every_way_to_a_prediction(source, asked):
    ask, gateway, *_ = asked
    for fields, caller in source.allowed:
        gateway.callers.clear()
        assert await ask(fields) == [200, 200, grpc.StatusCode.OK, grpc.StatusCode.OK]
        assert gateway.callers == [caller] * 4


async def test_a_caller_without_the_scope_is_forbidden_on_every_way(source, asked):
    ask, *_ = asked
    for fields in source.forbidden:
        assert await ask(fields) == [403, 403, *[grpc.StatusCode.PERMISSION_DENIED] * 2]


async def test_who_is_not_known_gets_nothing_on_any_way(source, asked):
    """Two credentials are none: another reader of the request might take the other one."""
    ask, gateway, http, *_ = asked
    for fields in source.unknown:
        assert await ask(fields) == [401, 401, *[grpc.StatusCode.UNAUTHENTICATED] * 2]
        answer = await http.get("/v2", headers=fields)
        assert (answer.headers["www-authenticate"], list(answer.json())) == ("Bearer", ["error"])
        assert answer.headers["x-request-id"]
    assert not gateway.callers


async def test_every_route_asks_who_it_is_for_but_health(source, asked):
    """Also routes that do not exist, or come later: there is no list of what is closed."""
    *_, http, channel, app = asked
    assert all(isinstance(route, Guarded) and route.needs in (None, *SCOPES) for route in app.routes)
    paths = {re.sub(r"\{(\w+):\w+\}", lambda part: PARTS.get(part[1], "any"), route.path) for route in app.routes}
    for path in (paths | {"/nothing/here", "/v2/", "/v2/health"}) - OPEN:
        for fields in source.unknown[:1]:
            assert (await http.get(path, headers=fields)).status_code == 401, path
    for path in OPEN | {"/v2/health/ready/"}:
        assert (await http.get(path)).status_code == 200, path
    reflection = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    closed = ["ServerMetadata", "ModelMetadata", "ModelConfig", "ModelReady", "ModelStatistics", *CONTROL, "Nothing"]
    for method in [reflection, *(f"inference.GRPCInferenceService/{name}" for name in closed)]:
        for fields in source.unknown[:1]:
            assert await outcome(channel, method, b"", fields) is grpc.StatusCode.UNAUTHENTICATED, method
    for method in OPEN_CALLS:
        assert await outcome(channel, method, b"", []) is grpc.StatusCode.OK, method
