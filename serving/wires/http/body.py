"""Reading a request's body: never more of it than the limit, as it comes and inflated, and never more than memory is free.

What is compressed is inflated in pieces, in a thread unless it is short: the loop goes on serving others.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import AsyncIterator

from serving.budget import Held
from serving.errors import InvalidInput, TooLarge, UnsupportedMedia
from serving.inputs import work
from serving.wires import off_loop

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_PIECE = 2**20
_SHORT = 1024  # inflates to a megabyte at most
_BATCH = 64 * 1024
_MEMBERS = 64


async def read(
    chunks: AsyncIterator[bytes], encoding: str, declared: str | None, limit: int, held: Held | None = None
) -> bytearray:
    """The whole body, inflated if it is encoded; `TooLarge` as soon as it is over the limit.

    `declared` is its Content-Length, which is looked at before anything is read. `held` is charged for what is kept, and
    refuses it where the server has too little memory left.
    """
    _check_declared(declared, limit, held)
    inflater = _inflater(encoding, limit)
    received, body = 0, bytearray()
    async for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise _too_large(limit, "more than that came")
        if held is not None:
            held.grow(len(chunk))
        body += chunk
        if inflater and len(body) >= min(_BATCH, limit):
            await _inflate(inflater, body, held)
    if not inflater:
        return body
    await _inflate(inflater, body, held)
    return inflater.finish()


def _check_declared(declared: str | None, limit: int, held: Held | None) -> None:
    if declared is None or not (declared.isascii() and declared.isdigit()):
        return
    if int(declared[:20]) > limit:
        raise _too_large(limit, f"it says {declared[:20]}")
    if held is not None:
        held.check(int(declared))


async def _inflate(inflater: _Inflater, body: bytearray, held: Held | None) -> None:
    """Move what has come through the inflater."""
    compressed = bytes(body)
    body.clear()
    await off_loop.doing(functools.partial(inflater.feed, compressed), len(compressed) <= _SHORT, held)
    if held is not None:
        held.shrink(len(compressed))


def _inflater(encoding: str, limit: int) -> _Inflater | None:
    if encoding in ("", "identity"):
        return None
    if encoding not in _WINDOW:
        raise UnsupportedMedia(f"Content-Encoding {encoding!r:.80} is not read; expected gzip, deflate or none")
    return _Inflater(encoding, limit)


class _Inflater:
    """Inflates as bytes come, and counts what comes out before it is kept. A gzip file may have several members."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding.removeprefix("x-")
        self._inflater = zlib.decompressobj(_WINDOW[encoding])
        self._limit = limit
        self._received = self._members = 0
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Inflate some more."""
        self._received += len(data)
        piece = b"."
        while data or len(piece) == _PIECE:
            if self._inflater.eof and data:
                self._next_member(data)
            try:
                piece = self._inflater.decompress(data, _PIECE)
            except zlib.error:
                raise InvalidInput(f"the body is not {self._encoding}, as its Content-Encoding says") from None
            data = self._inflater.unused_data or self._inflater.unconsumed_tail
            self._keep(piece)

    def _next_member(self, data: bytes) -> None:
        self._members += 1
        if self._encoding != "gzip" or not data.startswith(b"\x1f"):
            raise InvalidInput(f"bytes follow the end of the {self._encoding} stream; expected none")
        if self._members > _MEMBERS + self._received // 1024:
            raise InvalidInput(f"the body comes in {self._members} tiny gzip members; send larger ones")
        self._inflater = zlib.decompressobj(_WINDOW["gzip"])

    def _keep(self, piece: bytes) -> None:
        if len(self._body) + len(piece) > self._limit:
            raise _too_large(self._limit, f"it inflates to more, from {self._received} bytes")
        work.take(len(piece))
        self._body += piece

    def finish(self) -> bytearray:
        """All that came out."""
        if not self._inflater.eof:
            raise InvalidInput(f"the {self._encoding} stream of the body is cut off; send it again")
        return self._body


def _too_large(limit: int, what: str) -> TooLarge:
    return TooLarge(f"the body is over the limit of {limit} bytes ({what}); send fewer rows at a time")
