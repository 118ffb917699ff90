"""What only shows on a real connection: limits while reading, and clients that leave."""

from __future__ import annotations

import asyncio
import io
import logging.handlers
import socket

import httpx
import pytest

from serving.config import Limits
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.pictures import encoded, grey
from tests.serving.wires.sockets import read_reply, served, serving

PREDICT = "/v1/models/pictures:predict"


@pytest.fixture
def gateway():
    return FakeGateway(limits=Limits(max_body_bytes=100_000))


@pytest.fixture
async def port(gateway):
    async with served(gateway) as address:
        yield address


def head(*lines):
    fixed = (f"POST {PREDICT} HTTP/1.1", "Host: x", "Content-Type: image/png")
    return "\r\n".join((*fixed, *lines, "", "")).encode()


async def answered(port, *parts):
    """The status line of the answer to what is sent, which need not be a whole request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    line = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    return line.decode().split(" ")[1]


async def still_answers(port):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        response = await client.post(PREDICT, content=encoded(grey()), headers={"Content-Type": "image/png"})
    return response.status_code == 200


async def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(port):
    assert await answered(port, head("Content-Length: 100001")) == "413"
    assert await still_answers(port)


async def test_a_body_over_the_limit_is_refused_while_it_is_sent(port, gateway):
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    assert await answered(port, head("Transfer-Encoding: chunked"), *[chunk] * 11) == "413"
    assert gateway.observed == [("http", "RESOURCE_EXHAUSTED")]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        response = await client.post(PREDICT, content=b"x" * 5_000_000, headers={"Content-Type": "image/png"})
        assert response.status_code == 413
        assert "over the limit of 100000 bytes" in response.json()["error"]
    assert await still_answers(port)


async def test_a_body_in_very_many_chunks_is_read(port):
    assert await answered(port, head("Transfer-Encoding: chunked"), b"1\r\nx\r\n" * 50_000, b"0\r\n\r\n") == "400"


async def test_a_body_that_stops_coming_is_given_up(port, gateway):
    assert await answered(port, head("Content-Length: 500"), b"x" * 499) == "400"
    assert gateway.observed == [("http", "INVALID_ARGUMENT")]
    assert await still_answers(port)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_client_that_hangs_up_cancels_its_work(port, gateway, whole):
    gateway.hold.clear()
    body = encoded(grey())
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head(f"Content-Length: {len(body)}") + (body if whole else body[:-1]))
    await writer.drain()
    async with asyncio.timeout(10):
        while len(gateway.asked) < whole:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        writer.close()
        while not gateway.observed:
            await asyncio.sleep(0.01)
    assert gateway.cancelled == whole
    assert gateway.observed == [("http", "CANCELLED")]
    gateway.hold.set()
    assert await still_answers(port)


async def test_a_server_that_starts_leaves_the_log_of_its_process_alone(gateway):
    """Ray Serve logs through a handler that holds records back for another; closed, it fails, and so does its replica."""
    file = logging.StreamHandler(io.StringIO())
    handler = logging.handlers.MemoryHandler(1_000, target=file)
    async with served(gateway):
        assert handler.target is file


LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_request_on_its_way_when_the_server_stops_is_answered(gateway):
    """On connections that were just used, just opened, or not even taken in yet; none goes on after its answer."""
    async with serving(gateway) as (port, server):
        used = await asyncio.open_connection("127.0.0.1", port)
        used[1].write(LIVE)
        assert (await read_reply(used[0])).status == 200
        opened = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(server.stop())
        waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]  # the loop knows of none
        await asyncio.sleep(0.25)
        opened_late = [await asyncio.open_connection(sock=each) for each in waiting]
        for reader, writer in (used, opened, *opened_late):
            writer.write(LIVE)
            reply = await read_reply(reader)
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert await reader.read() == b""
            writer.close()
        await asyncio.wait_for(stopping, 2)


@pytest.mark.parametrize("sent", [b"", LIVE[:20], LIVE])
async def test_connections_without_a_request_do_not_hold_up_a_stop(gateway, sent):
    async with serving(gateway) as (port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await asyncio.sleep(0.05)
        await asyncio.wait_for(server.stop(), 2)
        assert b"408" in await reader.read() or sent != LIVE[:20]
        writer.close()
