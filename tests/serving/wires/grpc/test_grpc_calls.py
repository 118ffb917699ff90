"""Calls that no well-behaved client makes: without a message, with bytes that are none, without an end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from serving.wires.grpc import server as grpc_server
from serving.wires.grpc.server import build_server
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.http2 import PING, Connection
from tests.serving.wires.pictures import encoded, grey

UNARY = [
    "/certserve.v1.CertificationService/Predict",
    *(
        f"/inference.GRPCInferenceService/{name}"
        for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig")
    ),
    "/inference.GRPCInferenceService/ModelInfer",
    "/grpc.health.v1.Health/Check",
]
WATCH, REFLECTION = "/grpc.health.v1.Health/Watch", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
NOTHING = b"\xff\xff\xff"
"""Bytes that are no protobuf message of any kind."""


@contextlib.asynccontextmanager
async def serving(gateway=None, **settings):
    server, port = build_server(gateway or FakeGateway(), "127.0.0.1", 0, **settings)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            channel.server, channel.port = server, port
            yield channel
    finally:
        await server.stop(0)


def error_of(call_error):
    (packed, *_) = rpc_status.from_call(call_error).details
    info = error_details_pb2.ErrorInfo()
    assert packed.Unpack(info)
    return call_error.code().name, info.reason, dict(call_error.trailing_metadata()).get("x-request-id")


async def refused(awaited, seconds=5.0):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(awaited, seconds)
    return caught.value


def open_call(channel, method):
    """A call of which nothing was sent but its headers."""
    call = channel.stream_stream(method)(metadata=(("x-request-id", "me.1"),))
    return call, call.read()


def predict():
    return pb.PredictRequest(model="pictures", image=pb.Image(content=encoded(grey()), content_type="image/png"))


@pytest.mark.parametrize("method", [*UNARY, WATCH])
async def test_a_call_that_ends_without_a_message_is_answered_at_once(method):
    async with serving() as channel:
        call, answer = open_call(channel, method)
        await call.done_writing()
        error = await refused(answer)
        assert error_of(error) == ("INTERNAL", "MALFORMED_MESSAGE", "me.1")
        assert "without a message" in error.details()


@pytest.mark.parametrize("method", [*UNARY, WATCH])
async def test_a_message_that_never_comes_is_not_waited_for_without_end(method):
    async with serving(message_s=0.2) as channel:
        _, answer = open_call(channel, method)
        assert error_of(await refused(answer)) == ("DEADLINE_EXCEEDED", "DEADLINE_PASSED", "me.1")


@pytest.mark.parametrize("method", UNARY)
async def test_a_call_is_answered_though_its_client_never_ends_it(method):
    async with serving(message_s=0.5) as channel:
        call, _ = channel.stream_stream(method)(), None
        await call.write(b"")
        async with asyncio.timeout(5):
            with contextlib.suppress(grpc.aio.AioRpcError):  # an empty message is none that every method can answer
                await call.read()
            assert (await call.code()).name in ("OK", "NOT_FOUND")


@pytest.mark.parametrize("method", [*UNARY, WATCH, REFLECTION])
async def test_bytes_that_are_no_message_are_told_so_without_a_trace_anywhere(method, caplog):
    with caplog.at_level(logging.INFO):
        async with serving() as channel:
            call, answer = open_call(channel, method)
            await call.write(NOTHING)
            error = await refused(answer)
            assert error_of(error) == ("INTERNAL", "MALFORMED_MESSAGE", "me.1")
            assert "cannot be parsed" in error.details()
            assert "Traceback" not in error.details()
            assert "Error" not in error.details()
            again = await refused(channel.unary_unary(method)(NOTHING)) if method in UNARY else error
            assert again.code() is grpc.StatusCode.INTERNAL
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_server_that_stops_answers_what_it_accepted_and_waits_for_nobody_who_sends_nothing():
    gateway = FakeGateway()
    async with serving(gateway) as channel:
        gateway.hold.clear()
        accepted = pb_grpc.CertificationServiceStub(channel).Predict(predict())
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        talk = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await talk.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await talk.read()
        _, waiting = open_call(channel, UNARY[0])
        while not gateway.asked:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        stopping = asyncio.create_task(channel.server.stop(60))
        for call in (waiting, watch.read(), talk.read()):
            assert error_of(await refused(call))[:2] == ("UNAVAILABLE", "UNAVAILABLE")
        assert not stopping.done()
        late = await refused(pb_grpc.CertificationServiceStub(channel).Predict(predict()))
        assert error_of(late)[:2] == ("UNAVAILABLE", "UNAVAILABLE")
        gateway.is_ready = False
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        gateway.hold.set()
        assert (await accepted).predictions
        await asyncio.wait_for(stopping, 5)
        assert time.monotonic() - began < 20


async def test_a_connection_may_ping_as_often_as_clients_do_and_no_more_often(monkeypatch):
    monkeypatch.setattr(grpc_server, "_PING_MS", 200)
    async with serving() as channel:
        patient = await Connection.open(channel.port)
        for _ in range(6):
            await patient.send(PING)
            await asyncio.sleep(0.3)
        assert patient.open
        flooding = await Connection.open(channel.port)
        await flooding.send(PING * 20)
        assert await flooding.closed(5)
        assert b"too_many_pings" in flooding.received
