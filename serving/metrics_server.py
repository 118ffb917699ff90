"""A small HTTP server for the counts, which strangers cannot fill: few connections at once, each for a short time.

prometheus_client's own takes a thread for each connection, for as long as the other side likes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

CONNECTIONS = 16
_SILENCE_S = 5.0


class _Handler(WSGIRequestHandler):
    """One scrape: the connection ends with its answer, or where nothing comes for a while."""

    timeout = int(_SILENCE_S)

    def log_message(self, *parts: object) -> None:
        """Strangers write no lines into the log."""

    def handle(self) -> None:
        """One exchange; a client that leaves in the midst of it is no mistake."""
        with contextlib.suppress(OSError):
            super().handle()


class _MetricsServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection; the oldest has to give way where there would be too many."""

    daemon_threads = True
    request_queue_size = 128

    context: Callable[[], ssl.SSLContext] | None = None

    def __init__(self, *settings: Any) -> None:
        self._open: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        super().__init__(*settings)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A new connection."""
        with self._lock:
            self._open[request] = request
            if len(self._open) > CONNECTIONS:
                oldest = self._open.pop(next(iter(self._open)))
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread reads the end, and closes it
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve it, by the thread of the connection, after a handshake where there is TLS."""
        if self.context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_SILENCE_S)
        with self.context().wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secured:
            with self._lock:
                if request in self._open:
                    self._open[request] = secured
            secured.do_handshake()
            super().finish_request(secured, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The end of one."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off writes nothing into the log."""


class _Server6(_MetricsServer):
    address_family = socket.AF_INET6


def serve(
    host: str, port: int, registry: CollectorRegistry, context: Callable[[], ssl.SSLContext] | None = None
) -> WSGIServer:
    """Serve the counts of `registry` from a thread, until the process ends; by TLS, where there is a `context` for a new
    connection. Raises `OSError` if the port is taken.
    """
    kind = _Server6 if ":" in host else _MetricsServer
    server = make_server(host, port, make_wsgi_app(registry), kind, handler_class=_Handler)
    server.context = context
    threading.Thread(target=server.serve_forever, daemon=True, name="certserve-metrics").start()
    return server
