"""The port of the counts answers scrapes, whoever else is connected to it."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from serving import metrics_server
from serving.security.tls import Tls
from tests.certificates import Authority


@pytest.fixture
def port():
    registry = CollectorRegistry()
    Counter("seen", "x", registry=registry).inc(3)
    server = metrics_server.serve("127.0.0.1", 0, registry)
    yield server.server_port
    server.shutdown()
    server.server_close()


def scraped(port):
    return "seen_total 3.0" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text


def threads():
    return sum("process_request_thread" in each.name for each in threading.enumerate())


@pytest.mark.parametrize(
    "sent", [b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nA: b\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 50]
)
def test_connections_that_never_finish_keep_nobody_out(port, capfd, sent):
    idle = []
    for place in range(200):
        idle.append(socket.create_connection(("127.0.0.1", port)))
        idle[-1].sendall(sent)
        if place % 40 == 0:
            assert scraped(port)
    assert scraped(port)
    deadline = time.monotonic() + 10
    while threads() > metrics_server.CONNECTIONS and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threads() <= metrics_server.CONNECTIONS
    for each in idle:
        each.close()
    assert capfd.readouterr() == ("", "")


def test_by_tls_it_is_scraped_beside_handshakes_that_never_end_and_never_in_the_clear(tmp_path, capfd):
    authority = Authority()
    secured = Tls(*authority.pair().write(tmp_path))
    registry = CollectorRegistry()
    Counter("seen", "x", registry=registry).inc(3)
    server = metrics_server.serve("127.0.0.1", 0, registry, lambda: secured.http)
    url = f"127.0.0.1:{server.server_port}/metrics"
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    slow = []
    for place in range(100):
        slow.append(socket.create_connection(("127.0.0.1", server.server_port)))
        slow[-1].sendall(b"\x16\x03\x01\x02\x00\x01"[: place % 7])
        if place % 20 == 0:
            assert "seen_total 3.0" in httpx.get(f"https://{url}", verify=trusting, timeout=5).text
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{url}", timeout=5)
    deadline = time.monotonic() + 10
    while threads() > metrics_server.CONNECTIONS and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threads() <= metrics_server.CONNECTIONS
    for each in slow:
        each.close()
    server.shutdown()
    server.server_close()
    assert capfd.readouterr() == ("", "")


def test_a_silent_connection_is_closed_after_a_while(port, monkeypatch):
    assert 0 < metrics_server._Handler.timeout <= 5
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
        assert silent.recv(1) == b""


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500],
)
def test_what_is_no_request_is_refused_and_told_to_no_log(port, capfd, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(sent)
        client.recv(100)
    assert scraped(port)
    assert "Traceback" not in capfd.readouterr().err


def test_a_taken_port_is_an_error(port):
    with pytest.raises(OSError, match="in use"):
        metrics_server.serve("127.0.0.1", port, CollectorRegistry())
