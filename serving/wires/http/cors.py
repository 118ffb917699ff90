"""Pages of other origins may call the server from a browser where the operator names them (CORS); by default none may.

Nothing of the browser's own, such as cookies, is sent with such calls: a page has to send its credentials itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from serving.wires.http.frame import json_response
from serving.wires.open_inference.oip_json import LENGTH_HEADER
from serving.wires.trace import FIELDS

_TAKEN = (*FIELDS, "accept", "authorization", "content-encoding", "content-type", LENGTH_HEADER)
_TOLD = (*FIELDS, "RateLimit", "Retry-After", "WWW-Authenticate", LENGTH_HEADER)
_KEPT_S = 600


class OtherOrigins(CORSMiddleware):
    """ASGI around the application, its frame included: a browser asks beforehand without credentials."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        """`origins` as browsers name them, such as `https://example.org`, or `*` for every one."""
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=_TAKEN,
            expose_headers=_TOLD,
            max_age=_KEPT_S,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to what a browser asks beforehand: nothing, or why not, in the form of every error."""
        found = super().preflight_response(request_headers)
        headers = {name: value for name, value in found.headers.items() if not name.startswith("content-")}
        if found.status_code == 200:
            return Response(status_code=204, headers=headers)
        what = bytes(found.body).decode().removeprefix("Disallowed CORS ")
        said = f"a page of {request_headers['origin']!r:.120} may not call this from a browser ({what})"
        return json_response({"error": f"{said}; the operator names origins by --cors-origins"}, 400, headers)
