"""The HTTP front of a fake gateway on a real port, and clients that say exactly what they are told to."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass

from serving.wires.http.listener import HttpServer, listen
from serving.wires.http.server import build_app


@asynccontextmanager
async def served(gateway, limits=None, idle_body_s=2.0, drain_s=5):
    """The port of a server that runs while the context is open."""
    async with serving(gateway, limits, idle_body_s, drain_s) as (port, _):
        yield port


@asynccontextmanager
async def serving(gateway, limits=None, idle_body_s=2.0, drain_s=5, send_buffer=None, max_requests=1024):
    """The port and the server itself; with `send_buffer` the system takes few bytes of an answer from it."""
    server = HttpServer(build_app(gateway, idle_body_s, max_requests), gateway.buffered, drain_s=drain_s, limits=limits)
    listening = listen("127.0.0.1", 0)
    if send_buffer:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    port = listening.getsockname()[1]
    await server.start(listening)
    try:
        yield port, server
    finally:
        await server.stop()


@dataclass(frozen=True)
class Reply:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self):
        assert self.headers["content-type"] == "application/json", self
        document = json.loads(self.body)
        assert list(document) == ["error"]
        return document["error"]


async def read_reply(reader):
    """The next answer, interim ones passed over; None where the connection ends instead."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().strip().split("\r\n")
        status = int(first.split(" ")[1])
        if status >= 200:
            break
    fields = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in fields}
    assert len(headers) == len(fields), f"a field comes twice: {fields}"
    return Reply(status, headers, await reader.readexactly(int(headers["content-length"])))


async def ask(port, *parts, half_close=False, seconds=10):
    """The answer to what is sent, which need not be a whole request; None if the connection ended without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(seconds):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if half_close:
                writer.write_eof()
            try:
                return await read_reply(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
    finally:
        writer.close()
