"""What every HTTP exchange has, whatever the route: a request id, one form of errors, no redirects, no leaks.

All of it is in one place around the routes: Starlette's own layers for errors, each with a function for every message, would
do nothing here but pass on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics, strict_json
from serving.errors import SEE_LOG, CertserveError, Internal, MethodNotAllowed, NotFound
from serving.log import REQUEST_ID
from serving.security.callers import ANONYMOUS, CALLER, LEFT, Callers, joined, of_caller
from serving.wires.observed import ClientGone
from serving.wires.trace import FIELDS, Known, known

_log = logging.getLogger("certserve.http")
_KNOWN = frozenset(name.encode() for name in FIELDS)


class Guarded(Route):
    """A route for callers that have the scope `needs`; with None, whose path has no parameters, for everybody."""

    def __init__(
        self, path: str, endpoint: Callable[..., Any], needs: str | None, methods: Sequence[str] | None = None
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.needs = needs
        self.app = self._answer  # what it raises the frame knows

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it, or raise what `Caller.must_have` raises."""
        if self.needs is not None:
            CALLER.get().must_have(self.needs)
        await super().handle(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class Framed(Starlette):
    """The routes, and around them what it was given as middleware alone, a `Frame` among it."""

    def build_middleware_stack(self) -> ASGIApp:
        """See Starlette."""
        app: ASGIApp = self.router
        for each, arguments, named in reversed(self.user_middleware):
            app = each(app, *arguments, **named)
        return app


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON with exactly `application/json`, which clients compare."""
    return Response(strict_json.dumps(document), status, dict(headers or {}), media_type="application/json")


def error_response(
    error: CertserveError, headers: Mapping[str, str] | None = None, beside: Mapping[str, object] | None = None
) -> Response:
    """The one form of an error, with further keys `beside` it; 429 and 503 say when to come back."""
    if not isinstance(error, Internal):  # which is logged where it is caught
        _log_refused(error)
    if error.http_status in (401, 403):
        metrics.REFUSED_CALLERS.labels(error.code).inc()
    found = {**(headers or {}), **error_headers(error)}
    return json_response({**(beside or {}), "error": error.message}, error.http_status, found)


def error_headers(error: CertserveError) -> dict[str, str]:
    """What the head of every such answer says."""
    if error.http_status in (429, 503):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s or 1)))}
    return {"WWW-Authenticate": "Bearer"} if error.http_status == 401 else {}


def error_text(error: CertserveError) -> bytes:
    """The body of every such answer."""
    return strict_json.dumps({"error": error.message})


def _answer_to(error: Exception, scope: Scope) -> Response:
    """What is answered where a route, or the search for one, raised this."""
    if isinstance(error, CertserveError):
        if isinstance(error, Internal):  # whoever is sent to the log finds it there
            _log_failed(error)
        return error_response(error)
    if isinstance(error, HTTPException):
        return _http_error(Request(scope), error)
    return Response(status_code=499) if isinstance(error, ClientGone) else error_response(_bug(error))


def refusal_of(error: Exception) -> CertserveError:
    """What the client is told of whatever ended an answer that had begun; what sends it to the log is in the log."""
    if not isinstance(error, CertserveError):
        return _bug(error)
    if isinstance(error, Internal):
        _log_failed(error)
    else:
        _log_refused(error)
    return error


def _log_failed(error: Internal) -> None:
    _log.error("request %s%s failed: %s", REQUEST_ID.get(), of_caller(), error.message, exc_info=error.__cause__)


def _log_refused(error: CertserveError) -> None:
    if SEE_LOG in error.message:
        _log.error("request %s%s is refused: %s", REQUEST_ID.get(), of_caller(), error.message)


def _http_error(request: Request, error: HTTPException) -> Response:
    """Starlette's own refusals (404, 405) in our form."""
    headers = error.headers or {}
    if error.status_code == 405:
        return error_response(
            MethodNotAllowed(f"{request.method} is not offered at {request.url.path!r:.120}"), headers
        )
    if error.status_code == 404:
        return error_response(NotFound(f"there is nothing at {request.url.path!r:.120}; see /v2 and /v1/models"))
    return json_response({"error": error.detail}, error.status_code, headers)


def _bug(error: Exception) -> Internal:
    _log.error("request %s%s failed", REQUEST_ID.get(), of_caller(), exc_info=error)
    return Internal(f"something went wrong in the server; {SEE_LOG}")


class Frame:
    """ASGI around the application: gives every answer its request's id and trace, asks `callers` who it is, save at paths
    `to_everybody`, serves a trailing slash as if it were not there, and answers whatever error comes out of it, one that
    nobody knows as a plain 500. Without `callers` whoever comes is anonymous.
    """

    def __init__(self, app: ASGIApp, callers: Callers | None, to_everybody: Collection[str]) -> None:
        self._app = app
        self._callers = callers
        self._to_everybody = to_everybody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(send, known_by(scope["headers"]))
        exchange.known.enter()
        scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        try:
            if self._callers is None:
                CALLER.set(ANONYMOUS)
            elif scope["path"] not in self._to_everybody:
                CALLER.set(self._callers.caller(_fields(scope)))
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            if exchange.started:
                raise
            await _answer_to(error, scope)(scope, receive, exchange.send)


def known_by(headers: Iterable[tuple[bytes, bytes]]) -> Known:
    """By what a request with this head is known from now on."""
    return known(joined((name.decode(), value.decode("latin-1")) for name, value in headers if name in _KNOWN))


def _encoded(fields: Iterable[tuple[str, str]]) -> Iterator[tuple[bytes, bytes]]:
    return ((name.encode(), value.encode()) for name, value in fields)


def _fields(scope: Scope) -> dict[str, str]:
    return joined((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])


class _Exchange:
    """One exchange's way back: its id and its trace go into its head."""

    def __init__(self, send: Send, known: Known) -> None:
        self._send = send
        self.known = known
        self.started = False

    async def send(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.started = True
            left = LEFT.get()
            said = (*self.known.fields(), ("ratelimit", left)) if left else self.known.fields()
            message["headers"] = [*message["headers"], *_encoded(said)]
        await self._send(message)
