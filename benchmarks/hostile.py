"""Eight good clients, and beside them strangers who send what costs a server most, one kind at a time.

Prints for each kind how many answers the good ones got and how long the slowest hundredth took, with and without it, how
long a health check took at worst, and the server's memory before and after. Bounded in count and time.

python -m benchmarks.hostile [a part of the name of an attack]
"""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import multiprocessing
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import psutil

from benchmarks.clients import demo_pictures, png, predict_over_http
from benchmarks.measure import machine, percentile
from benchmarks.networks import DEMO
from tests.servers import ROOT, Address, command_line

CLIENTS, SECONDS, STRANGERS = 8, 5.0, 4
PREDICT, INFER = f"/v1/models/{DEMO}:predict", f"/v2/models/{DEMO}/infer"
JSON = {"Content-Type": "application/json"}
MIB = 2**20

Attack = Callable[[str, int], None]
"""One stranger's one attempt, at this host and port."""


def _post(path: str, body: bytes, **headers: str) -> Attack:
    def attempt(host: str, port: int) -> None:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        try:
            connection.request("POST", path, body, {**JSON, **headers})
            connection.getresponse().read()
        finally:
            connection.close()

    return attempt


def _say(count: int, *parts: bytes, wait_s: float = 1.0) -> Attack:
    """Open so many connections, say the parts on each, and wait."""

    def attempt(host: str, port: int) -> None:
        opened = []
        try:
            for _ in range(count):
                opened.append(socket.create_connection((host, port), timeout=5))
                for part in parts:
                    with suppress(OSError):
                        opened[-1].sendall(part)
            time.sleep(wait_s)
        finally:
            for each in opened:
                each.close()

    return attempt


def _filled(unit: bytes, size: int, head: bytes = b'{"instances":[', tail: bytes = b"]}") -> bytes:
    return head + b",".join([unit] * ((size - len(head) - len(tail)) // (len(unit) + 1))) + tail


def _head(path: str, *fields: str) -> bytes:
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: x", *fields, "", "")).encode()


def attacks() -> dict[str, Attack]:
    nothings, zeros = gzip.compress(_filled(b"[]", 61 * MIB), 1), gzip.compress(bytes(64 * MIB), 1)
    shape = json.dumps({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [10**9] * 160_000, "data": [0]}]})
    rows = json.dumps({"instances": [[[[0] * 28] * 28]] * 1024, "certify": "off"}).encode()
    binary = _head(INFER, "Inference-Header-Content-Length: 2", "Content-Length: 67108864")
    return {
        "61 MB of [] in a small gzip": _post(PREDICT, nothings, **{"Content-Encoding": "gzip"}),
        "8 MiB of []": _post(PREDICT, _filled(b"[]", 8 * MIB)),
        "8 MiB of keys": _post(PREDICT, _filled(b'"alpha":0', 8 * MIB, b"{", b"}")),
        "8 MiB of numbers": _post(PREDICT, _filled(b"0", 8 * MIB)),
        "8 MiB of one string": _post(PREDICT, b'{"instances":["' + b"a" * (8 * MIB - 20) + b'"]}'),
        "160,000 dimensions": _post(INFER, shape.encode()),
        "1,024 plain rows": _post(PREDICT, rows),
        "64 MiB of zeros in a small gzip": _post(
            INFER, zeros, **{"Content-Encoding": "gzip", "Inference-Header-Content-Length": "2"}
        ),
        "a head of 57 MB": _say(1, b"GET / HTTP/1.1\r\nA: ", *[b"a" * 65536] * 870, wait_s=0),
        "half a head, 1,000 times": _say(1000, b"GET / HTTP/1.1\r\nHost: x\r\n"),
        "no body, 1,000 times": _say(1000, _head(PREDICT, "Content-Type: image/png", "Content-Length: 9")),
        "half a body of 64 MiB": _say(4, binary, *[b"a" * MIB] * 32),
        "tiny chunks": _say(1, _head(INFER, "Transfer-Encoding: chunked"), *[b"1\r\nx\r\n" * 10_000] * 50, wait_s=0),
        "2,000 requests at once on a connection": _say(10, b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n" * 2000),
        "nonsense, 1,000 connections": _say(1000, b"nonsense\r\n\r\n", wait_s=0),
    }


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(machine(), flush=True)
    print("| beside | answers | without | p99 | without | health at worst | memory before | after |", flush=True)
    print("|-|-|-|-|-|-|-|-|", flush=True)
    with command_line(ROOT / "models", local=True) as address:
        _good(address, 1.0)
        for name, attempt in attacks().items():
            if wanted in name:
                print(_row(name, attempt, address), flush=True)


def _row(name: str, attempt: Attack, address: Address) -> str:
    process = psutil.Process(address.process)
    calm, before = _good(address, SECONDS)[0], process.memory_info().rss
    with _strangers(attempt, address):
        time.sleep(0.5)
        busy, health = _good(address, SECONDS)
    time.sleep(1)
    after = process.memory_info().rss
    times = [f"{1e3 * percentile(each, 0.99):.1f} ms" for each in (busy, calm)]
    memory = [f"{each / MIB:.0f} MiB" for each in (before, after)]
    cells = (name, len(busy), len(calm), *times, f"{1e3 * max(health):.0f} ms", *memory)
    return f"| {' | '.join(map(str, cells))} |"


@contextmanager
def _strangers(attempt: Attack, address: Address) -> Iterator[None]:
    """Some processes that make their attempt again and again; they end with the context."""
    place = urlsplit(address.http)
    forked = multiprocessing.get_context("fork")
    running = [
        forked.Process(target=_again, args=(attempt, place.hostname, place.port), daemon=True) for _ in range(STRANGERS)
    ]
    for each in running:
        each.start()
    try:
        yield
    finally:
        for each in running:
            each.terminate()
            each.join()


def _again(attempt: Attack, host: str, port: int) -> None:
    end = time.monotonic() + 2 * SECONDS + 5
    while time.monotonic() < end:
        with suppress(OSError, http.client.HTTPException):
            attempt(host, port)


def _good(address: Address, seconds: float) -> tuple[list[float], list[float]]:
    """The seconds of each plain prediction of eight clients, and of each health check beside them."""
    times: list[float] = []
    end = time.monotonic() + seconds
    bodies = [png(picture) for picture in demo_pictures(CLIENTS)]

    def predict(body: bytes) -> None:
        send = predict_over_http(address.http, DEMO, certify="off", outputs="probabilities")
        _until(end, times, lambda: send(body))

    threads = [threading.Thread(target=predict, args=(body,)) for body in bodies]
    with _checked(address, end) as health:
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    return times, health


@contextmanager
def _checked(address: Address, end: float) -> Iterator[list[float]]:
    """The seconds of each health check until `end`, known when the context closes. They are made by a process of its own:
    the good clients would let it wait for their interpreter.
    """
    forked, health = multiprocessing.get_context("fork"), list[float]()
    here, there = forked.Pipe(duplex=False)
    checking = forked.Process(target=_check, args=(address, end, there), daemon=True)
    checking.start()
    yield health
    health += here.recv()
    checking.join()


def _check(address: Address, end: float, found: Connection) -> None:
    place, times = urlsplit(address.http), list[float]()
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)

    def once() -> None:
        connection.request("GET", "/v2/health/live")
        assert connection.getresponse().read() == b'{"live":true}'
        time.sleep(0.02)

    _until(end, times, once, pause_s=0.02)
    found.send(times)


def _until(end: float, times: list[float], work: Callable[[], object], pause_s: float = 0.0) -> None:
    for _ in itertools.count():
        began = time.monotonic()
        if began >= end:
            return
        try:
            work()
        except (RuntimeError, OSError, http.client.HTTPException):  # missing among the answers
            time.sleep(0.05)
        else:
            times.append(time.monotonic() - began - pause_s)


if __name__ == "__main__":
    main()
