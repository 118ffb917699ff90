"""The OpenAPI document as one page of HTML, without a script and without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape

from starlette.responses import Response

from serving.wires.answer_document import Document

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 0 auto; padding: 1rem }
details { border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: .4rem 0 }
summary { cursor: pointer; overflow-wrap: anywhere }
code, pre { font-family: ui-monospace, monospace; font-size: .9em }
pre { overflow-x: auto; padding: .6rem; border-radius: .3rem; background: color-mix(in srgb, currentColor 8%, transparent) }
b { display: inline-block; min-width: 3.5rem }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def response(document: Document) -> Response:
    """The page of a document, with a policy that lets a browser load nothing else."""
    return Response("".join(_page(document)), headers=_HEADERS, media_type="text/html")


def _page(document: Document) -> Iterator[str]:
    info = document["info"]
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}: HTTP</title>'
    yield f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
    yield f"<h1>{escape(info['title'])} {escape(info['version'])}: HTTP</h1><p>{escape(info['description'])} "
    yield 'The same for programs: <a href="/openapi.json">/openapi.json</a>.</p><main>'
    for tag in document["tags"]:
        found = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        if found:
            yield f"<h2>{escape(tag['name'])}</h2>"
        for each in found:
            yield from _operation(*each)
    yield "</main></body></html>"


def _operation(method: str, path: str, operation: Document) -> Iterator[str]:
    yield f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
    if "description" in operation:
        yield f"<p>{escape(operation['description'])}</p>"
    for each in operation["parameters"]:
        where = f"in the {each['in']}: {json.dumps(each['schema'])}"
        yield f"<p><code>{escape(each['name'])}</code> {escape(where)}</p>"
    for kind, schema in operation.get("requestBody", {}).get("content", {}).items():
        yield from _schema(f"Body, {kind}", schema["schema"])
    for kind, schema in operation["responses"]["200"]["content"].items():
        yield from _schema(f"Answer, {kind}", schema["schema"])
    yield "</details>"


def _schema(title: str, schema: Document) -> Iterator[str]:
    yield f'<h3>{escape(title)}</h3><pre tabindex="0">{escape(json.dumps(schema, indent=1))}</pre>'
