"""The real server in a thread: engine, gateway and both wires of the `local` home on free ports."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass

from serving.config import Settings
from serving.deployments.local import running

SIGNING_KEY = b"k" * 32


@dataclass(frozen=True)
class Address:
    http_port: int
    grpc_port: int

    @property
    def http(self):
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self):
        return f"127.0.0.1:{self.grpc_port}"


@contextmanager
def served(models, secret=b"s" * 32, **more):
    """Serve a repository while the context is open; `more` are settings."""
    address = Address(*free_ports(2))
    settings = Settings(
        models=models, http_port=address.http_port, grpc_port=address.grpc_port, metrics_port=0, threads=1, **more
    )
    loop, up, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    failures = []

    async def serve():
        async with running(settings, secret):
            up.set()
            await stop.wait()

    def work():
        try:
            loop.run_until_complete(serve())
        except BaseException as error:
            failures.append(error)
        finally:
            up.set()
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert up.wait(60)
    if failures:
        raise failures[0]
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    assert not thread.is_alive()
    assert not failures


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
