"""The page at `/`: its files, which are in `serving/page`, and what it has to know of the models that are served.

A reader's browser asks with `Accept: text/html` and gets the page; whoever asks otherwise is told that the server is alive.
Nothing on the page comes from elsewhere, and the policy that goes with it lets a browser load nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from export.bundle import InputSpec
from serving.messages import Model
from serving.security.callers import READ
from serving.wires.http.frame import Guarded, json_response
from serving.wires.port import GatewayPort

_FOLDER = Path(__file__).parents[2] / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_EXAMPLES, _MOST_NUMBERS = 8, 2**18
"""How many examples of a model are shown, and how many numbers they may have in all."""

_Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Static:
    body: bytes
    headers: dict[str, str]


def open_routes(alive: _Endpoint) -> list[Guarded]:
    """The routes of the page's own files, which tell nothing of the models; `alive` answers `/` to whoever is no browser."""
    files = {path.relative_to(_FOLDER).as_posix(): _file(path) for path in sorted(_FOLDER.rglob("*.*"))}
    index = files.pop("index.html")

    async def root(request: Request) -> Response:
        asked = request.headers.get("accept", "")
        return _sent(request, index) if "text/html" in asked else await alive(request)

    served = {"/": root, **{f"/page/{name}": _endpoint(found) for name, found in files.items()}}
    return [Guarded(path, endpoint, None) for path, endpoint in served.items()]


def models_route(gateway: GatewayPort) -> Guarded:
    """The route of what the page has to know of the models."""

    async def models(_: Request) -> Response:
        return json_response({"models": [described(each, gateway) for each in gateway.models()]})

    return Guarded("/page/models", models, READ)


def described(model: Model, gateway: GatewayPort) -> dict[str, object]:
    """What the page shows of one model: labels, input, noise and defaults, and inputs to begin with as flat integers."""
    manifest = model.manifest
    spec, rows = manifest.input, gateway.examples(model)
    shown = rows[: max(1, min(_EXAMPLES, _MOST_NUMBERS // spec.size))]
    return {
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "labels": manifest.labels,
        "input": input_of(spec),
        "sigma": manifest.formulas.parameters.get("sigma"),
        "defaults": manifest.defaults.model_dump(mode="json"),
        "ood": None if manifest.ood is None else {"radius": manifest.ood.radius, "threshold": manifest.ood.threshold},
        "mixture": None if manifest.mixture is None else manifest.mixture.model_dump(mode="json"),
        "examples": [row.ravel().tolist() for row in shown],
    }


def input_of(spec: InputSpec) -> dict[str, object]:
    """What the page has to know of the inputs of a model; numbers are one for all, or a list of one for each column.

    A value is `low + step * k` for a `k` of 0 to `tops`, for which requests say `k - zero`. A step is `length` in the
    units of radii.
    """
    return {
        "shape": spec.shape,
        "layout": spec.layout,
        "mode": getattr(spec.kind, "mode", None),  # of pictures alone
        "low": spec.grid.low,
        "step": spec.grid.step,
        "high": spec.grid.high,
        "tops": spec.tops.tolist(),
        "zero": spec.zero,
        "length": spec.length,
        "units": spec.units,
    }


def _file(path: Path) -> _Static:
    body = path.read_bytes()
    headers = {
        "Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8",
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "Vary": "Accept",
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
    }
    return _Static(body, headers)


def _endpoint(found: _Static) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        return _sent(request, found)

    return endpoint


def _sent(request: Request, found: _Static) -> Response:
    if request.headers.get("if-none-match") == found.headers["ETag"]:
        return Response(status_code=304, headers=found.headers)
    return Response(found.body, headers=found.headers)
