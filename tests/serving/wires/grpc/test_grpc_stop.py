"""The end of a gRPC server: calls that begin meanwhile are answered or told to come back, and nobody idle is waited for."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import pytest
from grpc_status import rpc_status

from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from serving.wires.grpc.server import build_server
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.grpc.test_grpc_calls import predict, serving
from tests.serving.wires.http2 import END_HEADERS, GOAWAY, HEADERS, PREFACE, SETTINGS, Connection, frame, head

_PROXY = [("grpc.enable_http_proxy", 0)]


def ask(port, ended, found):
    """Call again and again until the server cannot be reached, and write down what came back."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_PROXY) as channel:
        stub = pb_grpc.CertificationServiceStub(channel)
        while not ended.is_set():
            try:
                stub.Predict(predict(), timeout=10)
                found.append("answered")
            except grpc.RpcError as error:
                unreached = "failed to connect to all addresses" in error.details()
                refused = error.code() is grpc.StatusCode.UNAVAILABLE and (unreached or rpc_status.from_call(error))
                found.append("refused" if refused else f"{error.code()} {error.details()}")
                if unreached:
                    return


@pytest.mark.parametrize("turn", range(8))
async def test_a_call_that_begins_while_the_server_stops_is_answered_or_refused_with_a_hint(turn):
    server, port = build_server(FakeGateway(), "127.0.0.1", 0)
    await server.start()
    ended, found = threading.Event(), []
    asking = [asyncio.create_task(asyncio.to_thread(ask, port, ended, found)) for _ in range(4)]
    try:
        while found.count("answered") < 20 + 5 * turn:
            await asyncio.sleep(0.001)
        await server.stop(1)
        assert not any(each.done() and each.exception() for each in asking)
    finally:
        ended.set()
        await asyncio.gather(*asking)
    assert set(found) <= {"answered", "refused"}


IDLE = {
    "nothing was said": b"",
    "half a greeting": PREFACE[:9],
    "a greeting, and pings are never echoed": PREFACE + frame(SETTINGS, 0, 0),
}


@pytest.mark.parametrize("said", IDLE)
async def test_idle_connections_are_told_and_not_waited_for(said):
    async with serving() as channel:
        assert (await pb_grpc.CertificationServiceStub(channel).Predict(predict())).predictions
        idle = await Connection.open(channel.port, IDLE[said])
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await channel.server.stop(30)
        assert time.monotonic() - began < 1.5
        assert await idle.closed(1)
        told = frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4)) in idle.received
        assert told == (len(IDLE[said]) > len(PREFACE))


async def test_a_stop_without_anybody_takes_no_time():
    server, port = build_server(FakeGateway(), "127.0.0.1", 0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        began = time.monotonic()
        await server.stop(30)
        assert time.monotonic() - began < 0.4
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_call_whose_message_never_comes_does_not_hold_up_a_stop():
    async with serving(message_s=60) as channel:
        connection = await Connection.open(channel.port)
        await connection.send(frame(HEADERS, END_HEADERS, 1, head()))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await channel.server.stop(0)
        assert time.monotonic() - began < 4
        assert await connection.closed(1)
        assert b"the server is stopping" in connection.received
