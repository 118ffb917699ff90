"""Real servers for tests: in this process, or started from the command line and stopped by process id."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from serving.config import Settings
from serving.deployments.local import running

ROOT = Path(__file__).resolve().parent.parent
AS_INSTALLED = ROOT / "tests" / "e2e" / "as_installed"
SECRET = b"s" * 32


@dataclass(frozen=True)
class Address:
    """Where a server under test is reached."""

    http: str
    grpc: str
    metrics: str = ""
    process: int = 0
    log: Path = Path()


@dataclass
class Ending:
    """How a server is expected to have ended: with Ctrl-C, or with what a test does to it."""

    exit_code: int = 0


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@asynccontextmanager
async def in_process(models: Path, **settings):
    """The local server on this loop, without metrics."""
    http, grpc = free_ports(2)
    wanted = Settings(models=models, http_port=http, grpc_port=grpc, metrics_port=0, **settings)
    async with running(wanted, SECRET):
        yield Address(f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}")


@contextmanager
def command_line(
    models: Path,
    *arguments: str,
    local: bool,
    secret: bytes = SECRET,
    environment: dict[str, str] | None = None,
    ending: Ending | None = None,
    program: tuple[str, ...] = (str(Path(sys.executable).with_name("certserve")),),
    checkout: Path = ROOT,
    context: ssl.SSLContext | None = None,
) -> Iterator[Address]:
    """`certserve serve` of a checkout. Stopped by Ctrl-C, unless it has ended; it must leave no process of
    its own behind, and end as `ending` says. A server that asks for certificates is asked by `context`.
    """
    http, grpc, metrics = free_ports(3)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "secret").write_bytes(secret)
        command = [
            *(*program, "serve", str(models), *(["--local"] if local else [])),
            *("--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)),
            *("--noise-secret-file", str(Path(folder) / "secret"), *arguments),
        ]
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            path = f"{AS_INSTALLED}{os.pathsep}{checkout}"
            given = os.environ | {"PYTHONPATH": path} | (environment or {})
            server = subprocess.Popen(command, cwd=checkout, env=given, stderr=stream, stdout=stream)
        family: set[psutil.Process] = set()
        try:
            scheme = "https" if "--tls-cert-file" in arguments else "http"
            address = Address(
                f"{scheme}://127.0.0.1:{http}",
                f"127.0.0.1:{grpc}",
                f"{scheme}://127.0.0.1:{metrics}/metrics",
                process=server.pid,
                log=log,
            )
            _wait_until_ready(server, address, context)
            yield address
        finally:
            family |= set(psutil.Process(server.pid).children(recursive=True)) if server.poll() is None else set()
            left = _stop(server, family)
        assert server.returncode == (ending or Ending()).exit_code, log.read_text()
        assert not left, f"left behind: {left}"


def _wait_until_ready(
    server: subprocess.Popen[bytes], address: Address, context: ssl.SSLContext | None, seconds: float = 180
) -> None:
    deadline, log = time.monotonic() + seconds, address.log
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise AssertionError(f"the server ended with {server.returncode}:\n{log.read_text()}")
        if "certserve: ready:" in log.read_text():
            with httpx.Client(timeout=5, verify=context or False) as client:
                if client.get(f"{address.http}/v2/health/ready").status_code == 200:
                    return
        time.sleep(0.1)
    raise AssertionError(f"not ready after {seconds} s:\n{log.read_text()}")


def _stop(server: subprocess.Popen[bytes], family: set[psutil.Process]) -> list[psutil.Process]:
    """Ctrl-C; what is still there after a while is reported, and ended by process id."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(timeout=60)
    except subprocess.TimeoutExpired:
        server.kill()
    _, alive = psutil.wait_procs(family, timeout=15)
    for process in alive:
        process.kill()
    return alive


async def post_rows(address: Address, model: str, rows: list[list[int]], client_settings=None, **query) -> list[dict]:
    """The predictions of some rows over the friendly route."""
    async with httpx.AsyncClient(timeout=120, **(client_settings or {})) as client:
        answer = await client.post(f"{address.http}/v1/models/{model}:predict", params=query, json={"instances": rows})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


async def in_batches(address: Address, model: str, rows: list[list[int]], size: int = 100, **query) -> list[dict]:
    """Many rows, in requests of `size`, a few of them at a time."""
    gate = asyncio.Semaphore(4)

    async def one(batch: list[list[int]]) -> list[dict]:
        async with gate:
            return await post_rows(address, model, batch, deadline_ms=60_000, **query)

    answers = await asyncio.gather(*(one(rows[i : i + size]) for i in range(0, len(rows), size)))
    return [row for answer in answers for row in answer]
