"""Live certificates by a real engine, over the wires: what each event says is proven, and the last is the unary answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import httpx
import pytest

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from serving.commands.audit import verified
from serving.errors import Unavailable
from serving.security.signing import Signer
from tests.half_space import true_radius
from tests.serving.handed_clock import until
from tests.serving.test_events import (  # noqa: F401
    HOMES,
    bundle,
    engine,
    gateway,
    opened,
    quick,
    runtime,
    start,
    started,
)
from tests.serving.wires.grpc.test_grpc_calls import serving as serving_grpc
from tests.serving.wires.sockets import served, serving

ROWS = [[150, 1, 2, 3], [126, 4, 5, 6]]
LONG = {"certify": "best", "max_draws": 4_000}
URL = "/v1/models/half-space"


@pytest.fixture
async def server(bundle, engine):  # noqa: F811
    """A client of an HTTP server with this engine behind it, and the gateway between."""
    between = gateway(bundle, HOMES["dealer"](bundle, engine))
    async with served(between, drain_s=10) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        client.gateway = between
        yield client


async def asked(server, rows=ROWS, **options):
    response = await server.post(URL + ":predict", json={"instances": rows, **options})
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def stream(server, rows=ROWS, **options):
    return server.stream("POST", URL + ":stream", json={"instances": rows, **options})


async def events(response):
    """Name and data of each event as it comes."""
    name = None
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


@contextlib.asynccontextmanager
async def stepping(runtime):  # noqa: F811
    """Let a turn of the engine go now and then, so that there is something to be seen between them."""

    async def steps():
        for _ in range(20):
            runtime.step()
            await asyncio.sleep(0.02)
        runtime.free()

    going = asyncio.create_task(steps())
    yield
    await going


async def test_every_certificate_is_one_that_the_counts_of_its_draws_prove(server, runtime):  # noqa: F811
    """It is the answer of whoever asks for these draws and no more; that one's receipt holds the counts, which prove it."""
    runtime.stepping = True
    async with stream(server, **LONG) as response, stepping(runtime):
        found = [each async for each in events(response)]
    seen = [data for name, data in found if name == "certificate"]
    assert {data["row"] for data in seen} == {0, 1}
    assert len({(data["row"], data["prediction"]["draws"]) for data in seen}) == len(seen)
    for data in seen[:: max(1, len(seen) // 8)]:
        said = data["prediction"]
        (cut,) = await asked(server, [ROWS[data["row"]]], **{**LONG, "max_draws": said["draws"], "receipt": True})
        receipt = json.dumps(cut.pop("receipt")).encode()
        assert said == cut
        assert all(finding.agrees for finding in verified(receipt, Signer(b"k" * 32).public))
        assert said["certificate"]["radius"] <= true_radius(ROWS[data["row"]])[1]


@pytest.mark.parametrize(
    "options", [{}, LONG, {"certify": "fixed"}, {"certify": "off"}, {"receipt": True}, {"outputs": ["ood"]}], ids=str
)
async def test_the_final_events_are_the_unary_answer(server, options):
    alone = await asked(server, **options)
    async with stream(server, **options) as response:
        found = [each async for each in events(response)]
    assert [data["prediction"] for name, data in found if name == "final"] == alone
    assert [(name, data["row"]) for name, data in found[:2]] == [("base", 0), ("base", 1)]


@pytest.fixture
async def channel(bundle, engine):  # noqa: F811
    async with serving_grpc(gateway(bundle, engine)) as made:
        yield made


@pytest.mark.parametrize(
    "options",
    [{}, {"certify": pb.CERTIFY_MODE_BEST, "max_draws": 4_000, "receipt": True}, {"certify": pb.CERTIFY_MODE_OFF}],
    ids=["target", "best", "off"],
)
async def test_the_typed_stream_s_final_messages_are_the_unary_answer(channel, options):
    grid = pb.GridTensor(shape=[2, 4], data=[*ROWS[0], *ROWS[1]])
    request = pb.PredictRequest(model="half-space", grid=grid, options=pb.Options(**options))
    stub = pb_grpc.CertificationServiceStub(channel)
    alone = await stub.Predict(request)
    found = [each async for each in stub.StreamCertificate(pb.StreamCertificateRequest(request=request))]
    final = [each for each in found if each.event == pb.StreamCertificateResponse.EVENT_FINAL]
    assert [each.prediction for each in final] == list(alone.predictions)
    assert [each.row for each in found[:2]] == [0, 1]


async def test_who_cancels_a_call_takes_the_draws_from_the_engine(channel, engine, runtime):  # noqa: F811
    runtime.stepping = True
    options = pb.Options(certify=pb.CERTIFY_MODE_BEST, max_draws=4_000)
    request = pb.PredictRequest(model="half-space", grid=pb.GridTensor(shape=[1, 4], data=ROWS[0]), options=options)
    call = pb_grpc.CertificationServiceStub(channel).StreamCertificate(pb.StreamCertificateRequest(request=request))
    await call.read()
    runtime.step()
    await call.read()
    call.cancel()
    await until(lambda: engine.load().requests == 0)
    begun = runtime.begun
    runtime.free()
    await until(lambda: engine.load().running == 0)
    assert (runtime.begun <= begun + 12, engine.load().owed) == (True, 0)


async def test_who_reads_slowly_gets_the_newest_and_the_final_event(bundle, engine, runtime):  # noqa: F811
    body = json.dumps({"instances": ROWS, **LONG}).encode()
    head = f"POST {URL}:stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    async with serving(gateway(bundle, engine), send_buffer=4096) as (port, _):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", port))
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await until(lambda: runtime.begun > 10 and engine.load().requests == 0)
        said = await asyncio.to_thread(client.makefile("rb").read)
        client.close()
    assert said.count(b"event: base") == said.count(b"event: final") == len(ROWS)
    assert said.count(b"event: certificate") < 40


async def test_who_leaves_takes_the_draws_from_the_engine(server, engine, runtime):  # noqa: F811
    runtime.stepping = True
    async with stream(server, **LONG) as response:
        async for _ in events(response):
            runtime.step()
            if runtime.begun:
                break
    await until(lambda: engine.load().requests == 0)
    begun = runtime.begun
    runtime.free()
    await until(lambda: engine.load().running == 0)
    assert runtime.begun <= begun + 12
    assert engine.load().owed == 0


async def test_a_stream_in_flight_at_a_stop_is_finished_and_another_is_refused(server, engine, runtime):  # noqa: F811
    runtime.stepping = True
    async with stream(server, **LONG) as response:
        coming = events(response)
        await anext(coming)
        draining = asyncio.create_task(server.gateway.drain())
        await asyncio.sleep(0)
        async with stream(server) as other:
            assert (other.status_code, other.headers["content-type"]) == (503, "application/json")
        assert not draining.done()
        runtime.free()
        names = [name async for name, _ in coming]
    assert names[-2:] == ["final", "final"]
    await asyncio.wait_for(draining, 10)


async def test_a_stream_that_the_engine_gives_up_is_told(server, engine, runtime):  # noqa: F811
    runtime.stepping = True
    async with stream(server, **LONG) as response:
        coming = events(response)
        await anext(coming)
        closing = asyncio.ensure_future(asyncio.to_thread(engine.close))
        *_, (name, data) = [each async for each in coming]
        runtime.free()
        await closing
    assert (name, data["status"]) == ("error", Unavailable.http_status)
