"""The OpenAPI document of the HTTP server, made from the routes that it serves: `/openapi.json`, and as a page `/docs`.

Paths, methods, scopes and sentences come from the routes and their handlers, options and answers from the tables by which
they are read and written, the rest from `operations`. Both say nothing of the models, so they are for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from starlette.requests import Request
from starlette.responses import Response

from serving.wires.answer_document import Document
from serving.wires.http import docs_page
from serving.wires.http.frame import Guarded, json_response
from serving.wires.http.operations import ERROR, OPERATIONS, OPTIONS, Operation
from serving.wires.open_inference import oip_models
from serving.wires.open_inference.oip_control import MEMORIES

_PART = re.compile(r"\{(\w+)(?::\w+)?\}")
_VERSION = "/versions/{version}"
_FILES = "/page/"
_GROUPS = {"/v1/": "Predictions, and KServe V1", "/v2": "Open Inference Protocol", _FILES: "The page"}


def routes(others: Iterable[Guarded]) -> list[Guarded]:
    """The two routes of the document, which speaks of the `others` and of themselves."""
    found: dict[str, Response] = {}

    async def openapi(request: Request) -> Response:
        """The OpenAPI document."""
        return found["json"]

    async def docs(request: Request) -> Response:
        """The same to read in a browser; nothing of it comes from elsewhere."""
        return found["page"]

    own = [Guarded("/openapi.json", openapi, None), Guarded("/docs", docs, None)]
    whole = document([*others, *own])
    found.update(json=json_response(whole), page=docs_page.response(whole))
    return own


def document(served: Iterable[Guarded]) -> Document:
    """The document of these routes."""
    paths: dict[str, Document] = {}
    for route in served:
        path = template(route)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            # The first route that fits is the one that is served.
            paths.setdefault(path, {}).setdefault(method.lower(), _operation(route, path, method))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "certserve",
            "version": oip_models.server()["version"],
            "description": "Predictions with robustness certificates, out-of-distribution verdicts and mixtures.",
        },
        "tags": [{"name": name} for name in ("The server", *_GROUPS.values())],
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "responses": {"Refused": {"description": "Refused; the text says why.", "content": _content(_REFUSAL)}},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


_REFUSAL: dict[str, Document] = {"application/json": {"$ref": "#/components/schemas/Error"}}


def template(route: Guarded) -> str:
    """The path of a route as the document writes it."""
    return _PART.sub(r"{\1}", route.path)


def known(path: str) -> Operation | None:
    """What is known of a path beside its route; None where nobody has said it."""
    if path.startswith(_FILES):
        kind = {"css": "text/css", "js": "text/javascript"}.get(path.rpartition(".")[2], "application/json")
        return Operation({kind: {}})
    return OPERATIONS.get(path.replace(_VERSION, ""))


def _operation(route: Guarded, path: str, method: str) -> Document:
    about = known(path) or Operation({"application/json": {}})
    said = (route.endpoint.__doc__ or "A part of the page.").strip().split("\n\n")[0]
    found: Document = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{path}").strip("_"),
        "summary": " ".join(said.split()),
        "tags": [next((group for prefix, group in _GROUPS.items() if path.startswith(prefix)), "The server")],
        "parameters": [*_parameters(path), *(_query() if about.options else ())],
        "responses": {
            "200": {"description": "Answered.", "content": _content(about.answer)},
            "4XX": {"$ref": "#/components/responses/Refused"},
            "5XX": {"$ref": "#/components/responses/Refused"},
        },
    }
    if route.needs is not None:
        found["security"] = [{}, {"key": []}]
        found["description"] = f"Where the server has a login, for callers with the scope `{route.needs}`."
    if method == "POST" and about.body:
        found["requestBody"] = {"content": _content(about.body)}
    return found


def _content(bodies: object) -> Document:
    assert isinstance(bodies, dict)
    return {kind: {"schema": schema} for kind, schema in bodies.items()}


def _parameters(path: str) -> Iterator[Document]:
    for name in _PART.findall(path):
        schema = {"enum": list(MEMORIES)} if name == "memory" else {"type": "string", "pattern": "^[^/:]+$"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query() -> Iterator[Document]:
    for name, schema in OPTIONS.items():
        yield {"name": name, "in": "query", "schema": schema, "style": "form", "explode": False}
