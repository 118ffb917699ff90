"""Connections that no well-behaved client makes: what they send is bounded in size, number and time, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import tempfile
import time

import grpc
import psutil
import pytest
import uvloop

from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving import scratch
from serving.wires.grpc import door
from serving.wires.grpc.door import Frames
from tests.serving.wires.grpc.test_grpc_calls import predict, serving
from tests.serving.wires.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Connection,
    frame,
    head,
    header,
    integer,
)

BEGUN = frame(HEADERS, END_STREAM, 1, head())
HEADS = {
    "many headers": frame(CONTINUATION, 0, 1, header(b"x", b"y" * 20) * 600),
    "large headers": frame(CONTINUATION, 0, 1, header(b"x", b"y" * 16_000)),
    "one header without an end": frame(CONTINUATION, 0, 1, b"y" * 16_000),
    "one byte a frame": frame(CONTINUATION, 0, 1, b"y") * 500,
    "nothing in a frame": frame(CONTINUATION, 0, 1) * 500,
    "one header from the table, again and again": frame(CONTINUATION, 0, 1, b"\x90" * 16_000),
}
LARGEST = 2**31 - 1
IDLE = {
    "pings": lambda stream: PING,
    "settings": lambda stream: frame(SETTINGS, 0, 0),
    "priorities": lambda stream: frame(2, 0, stream, struct.pack(">IB", 0, 1)),
    "empty data": lambda stream: frame(DATA, 0, 1),
    "unknown frames": lambda stream: frame(200, 0, 0, b"x"),
    "calls that are reset at once": lambda stream: (
        frame(HEADERS, END_STREAM | END_HEADERS, stream, head()) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
    ),
}


async def live(channel, timeout=5):
    return (await oip_grpc.GRPCInferenceServiceStub(channel).ServerLive(oip.ServerLiveRequest(), timeout=timeout)).live


async def flood(connection, data, limit):
    """Send `data` again and again until the server cuts the connection, at most `limit` bytes."""
    async with asyncio.timeout(20):
        while connection.sent < limit and await connection.send(data):
            await asyncio.sleep(0)
        await connection.closed(5)
    return not connection.open


@pytest.mark.parametrize("kind", HEADS)
async def test_headers_without_an_end_are_cut(kind):
    async with serving() as channel:
        before = psutil.Process().memory_info().rss
        connection = await Connection.open(channel.port)
        await connection.send(BEGUN)
        if kind == "one header without an end":
            await connection.send(frame(CONTINUATION, 0, 1, b"\x00" + integer(1, 7) + b"x" + integer(LARGEST, 7)))
        assert await flood(connection, HEADS[kind], 32 * 2**20)
        assert connection.sent < 16 * 2**20  # what the system keeps on the way is no work of the server
        assert psutil.Process().memory_info().rss - before < 64 * 2**20
        assert await live(channel)


@pytest.mark.parametrize("kind", IDLE)
async def test_frames_that_carry_nothing_are_not_taken_without_end(kind):
    async with serving() as channel:
        connection = await Connection.open(channel.port)
        if kind == "empty data":
            await connection.send(frame(HEADERS, END_HEADERS, 1, head()))
        for stream in range(1, 8_001, 2):
            if not await connection.send(IDLE[kind](stream)):
                break
        assert await connection.closed(5)
        assert await live(channel)


async def test_a_client_that_cancels_most_of_its_calls_is_not_cut():
    async with serving() as channel:
        connection = await Connection.open(channel.port)
        for stream in range(1, 3_001, 2):
            cancelled = stream % 3 == 0
            await connection.send(frame(HEADERS, END_HEADERS, stream, head()))
            if cancelled:
                await connection.send(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
            else:
                await connection.send(frame(DATA, END_STREAM, stream, bytes(5)))
            if stream % 100 == 1:
                await asyncio.sleep(0.05)
        assert connection.open
        assert not await connection.closed(0.2)


SILENT = {
    "nothing": b"",
    "half a greeting": PREFACE[:10],
    "a greeting": PREFACE,
    "a greeting and half a frame": PREFACE + frame(SETTINGS, 0, 0)[:5],
    "headers without an end": PREFACE + frame(SETTINGS, 0, 0) + BEGUN,
    "half of the headers": PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 1, head())[:-1],
}


@pytest.mark.parametrize("said", SILENT)
async def test_a_connection_that_does_not_go_on_is_cut(said):
    async with serving(head_s=0.3) as channel:
        connection = await Connection.open(channel.port, SILENT[said])
        assert await connection.closed(5)
        assert await live(channel)


async def test_what_is_no_http2_is_cut_at_once():
    async with serving() as channel:
        for said in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", bytes(64)):
            assert await (await Connection.open(channel.port, said)).closed(2)
        assert await live(channel)


async def test_connections_are_bounded_in_number_and_the_idle_ones_give_way(monkeypatch, caplog):
    monkeypatch.setattr(door, "_affordable", lambda: 20)
    with caplog.at_level(logging.INFO):
        async with serving() as channel:
            assert await live(channel)
            working = channel_calls(channel)
            before = psutil.Process().num_fds()
            crowd = [await Connection.open(channel.port) for _ in range(100)]
            for each in crowd[:50]:
                assert await each.closed(5)
            assert psutil.Process().num_fds() - before < 100 + 4 * 20  # the crowd's own ends are here, too
            assert await live(channel)
            assert (await working()).predictions
            for each in crowd:
                await each.close()
    assert not [record for record in caplog.records if record.name != "asyncio"]


def channel_calls(channel):
    return lambda: pb_grpc.CertificationServiceStub(channel).Predict(predict())


async def test_a_connection_with_a_call_does_not_give_way_to_idle_ones(monkeypatch):
    monkeypatch.setattr(door, "_affordable", lambda: 4)
    async with serving() as channel:
        busy = [await Connection.open(channel.port) for _ in range(4)]
        for each in busy:
            await each.send(frame(HEADERS, END_HEADERS, 1, head()))
        await asyncio.sleep(0.2)
        assert await (await Connection.open(channel.port)).closed(5)
        assert all(each.open for each in busy)


async def test_a_call_that_is_being_sent_is_not_hurried_by_the_limit_of_heads():
    async with serving(head_s=0.2, message_s=5) as channel:
        call = channel.stream_unary("/inference.GRPCInferenceService/ServerLive")()
        await asyncio.sleep(0.6)
        await call.write(b"")
        assert oip.ServerLiveResponse.FromString(await call).live


async def test_messages_larger_than_any_buffer_pass_both_ways_unchanged():
    async with serving() as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(oip.ModelInferRequest(model_name="pictures", id="x" * 8_000_000).SerializeToString())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_way_behind_the_door_is_closed_to_others_and_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_short", lambda _: str(tmp_path))
    async with serving() as channel:
        assert await live(channel)
        (inner,) = tmp_path.iterdir()
        assert inner.stat().st_mode & 0o777 == 0o700
    assert not inner.exists()


async def test_a_long_path_of_the_temporary_folder_is_no_obstacle(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    async with serving() as channel:
        assert await live(channel)


def test_it_opens_on_the_loop_of_a_replica_too():
    async def ask():
        async with serving() as channel:
            assert await live(channel)

    uvloop.run(ask())


@pytest.mark.parametrize("size", [1, 2, 5, 9, 10, 13, 64, 1000])
def test_frames_are_told_apart_in_whatever_pieces_they_come(size):
    wanted = [(HEADERS, 4, 1, 20), (DATA, 0, 1, 0), (DATA, 1, 1, 300), (SETTINGS, 1, 0, 0), (200, 255, LARGEST, 3)]
    data = b"".join(frame(kind, flags, stream, b"z" * length) for kind, flags, stream, length in wanted)
    frames = Frames()
    found = [each for i in range(0, len(data), size) for each in frames.heads(data[i : i + size])]
    assert found == wanted
    assert frames.left == 0


async def test_a_flood_does_not_hold_up_the_calls_of_others():
    async with serving() as channel:
        assert await live(channel)
        floods = [
            asyncio.create_task(flood(await Connection.open(channel.port), data, 2**22)) for data in HEADS.values()
        ]
        slowest = 0.0
        while not all(each.done() for each in floods):
            began = time.monotonic()
            assert await live(channel)
            slowest = max(slowest, time.monotonic() - began)
        with contextlib.suppress(OSError):
            await asyncio.gather(*floods)
        assert slowest < 3.0
