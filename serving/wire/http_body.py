"""Reading a request's body: never more of it than the limit, and never more than the limit when inflated."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from serving.errors import InvalidInput, TooLarge, UnsupportedMedia

# A body of one colour compresses a thousandfold; a ratio says "bomb" only where much comes out.
_MAX_RATIO = 100
_FREE = 2**20
_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def read(chunks: AsyncIterator[bytes], encoding: str, declared: str | None, limit: int) -> bytes:
    """The whole body, inflated if it is encoded; `TooLarge` as soon as it is over the limit."""
    if declared is not None and declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit, f"it says {declared[:20]}")
    sink = _sink(encoding, limit)
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise _too_large(limit, "more than that came")
        sink.feed(chunk)
    return sink.finish()


def _sink(encoding: str, limit: int) -> _Plain | _Inflated:
    if encoding in ("", "identity"):
        return _Plain()
    if encoding not in _WINDOW:
        raise UnsupportedMedia(f"Content-Encoding {encoding!r:.80} is not read; expected gzip, deflate or none")
    return _Inflated(_WINDOW[encoding], encoding, limit)


class _Plain:
    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._body += chunk

    def finish(self) -> bytes:
        return bytes(self._body)


class _Inflated:
    """Inflates as bytes come, and counts what comes out before it is kept."""

    def __init__(self, window: int, encoding: str, limit: int) -> None:
        self._inflater = zlib.decompressobj(window)
        self._encoding = encoding
        self._limit = limit
        self._received = 0
        self._body = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._received += len(chunk)
        allowed = min(self._limit, max(_FREE, _MAX_RATIO * self._received))
        try:
            self._body += self._inflater.decompress(chunk, allowed + 1 - len(self._body))
        except zlib.error:
            raise InvalidInput(f"the body is not {self._encoding}, as its Content-Encoding says") from None
        if len(self._body) > allowed:
            raise _too_large(allowed, f"it inflates to more, from {self._received} bytes")
        if self._inflater.unused_data:
            raise InvalidInput(f"bytes follow the end of the {self._encoding} stream; expected one stream")

    def finish(self) -> bytes:
        if not self._inflater.eof:
            raise InvalidInput(f"the {self._encoding} stream of the body is cut off; send it again")
        return bytes(self._body)


def _too_large(limit: int, what: str) -> TooLarge:
    return TooLarge(f"the body is over the limit of {limit} bytes ({what}); send fewer rows at a time")
