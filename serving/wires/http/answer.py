"""The answer of an infer call, compressed where the client says that it can read that."""

from __future__ import annotations

import functools
import gzip
import re
import zlib
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from serving.wires.open_inference import oip_json

_WORTH_COMPRESSING = 1024
_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": functools.partial(gzip.compress, compresslevel=1),
    "deflate": functools.partial(zlib.compress, level=1),
}
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def infer_response(request: Request, body: bytes, json_length: int | None) -> Response:
    """Only this answer may be compressed: clients inflate no other, and know gzip and deflate alone."""
    headers = {"Vary": "Accept-Encoding"}
    if json_length is not None:
        headers[oip_json.LENGTH_HEADER] = str(json_length)
    encoding = accepted_encoding(",".join(request.headers.getlist("accept-encoding")))
    if encoding and len(body) > _WORTH_COMPRESSING:
        body = _COMPRESSORS[encoding](body)
        headers["Content-Encoding"] = encoding
    media_type = "application/json" if json_length is None else "application/octet-stream"
    return Response(body, headers=headers, media_type=media_type)


def accepted_encoding(header: str) -> str | None:
    """The encoding of ours that an Accept-Encoding likes best, gzip where it likes both alike; None where it likes none."""
    likes = {name: quality for name, quality in map(_weighed, header.lower().split(",")) if name}
    likes.setdefault("gzip", likes.get("x-gzip", likes.get("*", 0.0)))
    likes.setdefault("deflate", likes.get("*", 0.0))
    best = max(_COMPRESSORS, key=lambda name: likes[name])
    return best if likes[best] > 0 and likes[best] >= likes.get("identity", 0.0) else None


def _weighed(part: str) -> tuple[str, float]:
    """A coding and how much it is liked, from 0 to 1; what cannot be read is not liked."""
    name, *parameters = (each.strip() for each in part.split(";"))
    if not parameters:
        return name, 1.0
    found = _QUALITY.fullmatch(parameters[0].replace(" ", ""))
    return name, float(found[1]) if found else 0.0
