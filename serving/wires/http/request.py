"""What a route reads of a request: the type of its content, and its body under the limits of size, time and memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.requests import Request

from serving.budget import Held
from serving.config import Limits
from serving.errors import InvalidInput, TooSlow, UnsupportedMedia
from serving.inputs import registry
from serving.wires.http import body as http_body
from serving.wires.http import multipart
from serving.wires.observed import ClientGone
from serving.wires.open_inference import oip_json

JSON = "application/json"
_LEAST_BYTES_A_SECOND = 4 * 1024
_PATIENCE_S = 10.0


def content_type(request: Request) -> str:
    """The media type, of those that are read. A request that names none is read as JSON, as the open protocol's are."""
    found = request.headers.get("content-type", JSON).split(";")[0].strip().lower()
    known = (*registry.types(), JSON, multipart.TYPE)
    if found not in known:
        expected = f"one of {', '.join(known)} (curl: -H 'Content-Type: image/png')"
        raise UnsupportedMedia(f"Content-Type {found!r:.80} is not read; expected {expected}")
    return found


def json_length(request: Request) -> int | None:
    """How much of the body is JSON, if tensors may follow it."""
    text = request.headers.get(oip_json.LENGTH_HEADER)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidInput(f"{oip_json.LENGTH_HEADER} is {text!r:.80}; expected a number of bytes")
    return int(text)


async def body(request: Request, limits: Limits, held: Held, idle_s: float, *, all_json: bool) -> bytearray:
    """The body, inflated; one that is JSON to its end has a lower limit."""
    headers = request.headers
    encoding = headers.get("content-encoding", "").strip().lower()
    limit = min(limits.max_json_bytes, limits.max_body_bytes) if all_json else limits.max_body_bytes
    return await http_body.read(_chunks(request, idle_s), encoding, headers.get("content-length"), limit, held)


async def _chunks(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    """The body as it comes. What stops coming for `idle_s`, or comes too slowly, is given up: it holds memory."""
    waited, received, more = 0.0, 0, True
    while more:
        began = time.monotonic()
        try:
            async with asyncio.timeout(idle_s):
                message = await request.receive()
        except TimeoutError:
            raise InvalidInput(f"the body stopped coming for {idle_s:g} s; send it again") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk, more = message.get("body", b""), message.get("more_body", False)
        waited += time.monotonic() - began
        received += len(chunk)
        if chunk and waited > _PATIENCE_S and received < _LEAST_BYTES_A_SECOND * waited:
            raise TooSlow(f"the body comes with less than {_LEAST_BYTES_A_SECOND} bytes a second; send it faster")
        yield chunk
