"""An issuer's keys over HTTP: read whole, once in a while, and within bounds, whatever the other side does."""

from __future__ import annotations

import http.server
import threading
import time

import pytest

from serving.security import fetched
from serving.security.fetched import Fetched
from tests.serving.security.credentials import jwks


class Issuer(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/keys")
            self.end_headers()
            return
        if self.path == "/gone":
            self.send_error(404)
            return
        body = {"/keys": jwks(), "/huge": b" " * 2**20, "/page": b"<html>"}.get(self.path, b"")
        self.send_response(200)
        self.end_headers()
        try:
            if self.path == "/slow":
                for _ in range(100):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.05)
            self.wfile.write(body)
        except OSError:
            pass  # whoever asked has had enough

    def log_message(self, *parts):
        pass


@pytest.fixture(scope="module")
def issuer():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_keys_are_read(issuer):
    found = Fetched(f"{issuer}/keys")
    deadline = time.monotonic() + 10
    while found.now is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [each.algorithm for each in found.now or ()] == ["RS256", "ES256", "EdDSA"]


@pytest.mark.parametrize("path", ["moved", "gone", "huge", "page", "nothing", "slow"])
def test_what_is_something_else_or_too_much_leaves_no_keys_and_is_logged_once(issuer, path, caplog, monkeypatch):
    monkeypatch.setattr(fetched, "_IN_ALL_S", 0.3)
    found = Fetched(f"{issuer}/{path}")
    began = time.monotonic()
    assert [found.read() for _ in range(2)] == [False, False]
    assert time.monotonic() - began < 10
    assert found.now is None
    assert 1 <= sum("cannot be read" in each.getMessage() for each in caplog.records) <= 2


def test_a_token_of_an_unknown_key_has_them_read_again_and_never_more_often(issuer):
    found = Fetched(f"{issuer}/keys")
    found.missing()
    assert found.wanted.is_set()
    assert fetched._AT_ONCE_S >= 10
