"""What only shows on a real connection: limits while reading, and clients that leave."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from serving.config import Limits
from tests.serving.wire.fake_gateway import FakeGateway
from tests.serving.wire.pictures import encoded, grey
from tests.serving.wire.sockets import served

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
