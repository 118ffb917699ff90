from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidInput, TooLarge, UnsupportedMedia
from serving.wire import http_body

LIMIT = 2 * 2**20


async def read(data, encoding="", declared=None, limit=LIMIT, size=1000):
    async def chunks():
        for place in range(0, len(data), size):
            yield data[place : place + size]

    return await http_body.read(chunks(), encoding, declared, limit)


@pytest.mark.parametrize(
    ("encoding", "encode"), [("", bytes), ("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)]
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_every_encoding_is_read_in_any_chunks(encoding, encode, size):
    data = b"some body " * 500
    assert await read(encode(data), encoding, size=size) == data


@pytest.mark.parametrize(
    ("data", "settings", "kind", "said"),
    [
        (b"x" * 101, {"limit": 100}, TooLarge, "over the limit of 100 bytes"),
        (b"", {"declared": "101", "limit": 100}, TooLarge, "it says 101"),
        (b"", {"declared": "9" * 5000, "limit": 100}, TooLarge, "over the limit"),
        (b"x", {"encoding": "br"}, UnsupportedMedia, "Content-Encoding 'br' is not read; expected gzip"),
        (b"x", {"encoding": "gzip"}, InvalidInput, "cut off"),
        (b"nonsense", {"encoding": "gzip"}, InvalidInput, "not gzip"),
        (b"", {"encoding": "gzip"}, InvalidInput, "cut off"),
        (gzip.compress(b"abc")[:-1], {"encoding": "gzip"}, InvalidInput, "cut off"),
        (gzip.compress(b"abc") + b"x", {"encoding": "gzip"}, InvalidInput, "bytes follow"),
        (zlib.compress(b"abc", wbits=-15), {"encoding": "deflate"}, InvalidInput, "not deflate"),
        (gzip.compress(b"\0" * 2**24), {"encoding": "gzip"}, TooLarge, "inflates"),
        (gzip.compress(b"\0" * 2**20), {"encoding": "gzip", "limit": 1000}, TooLarge, "inflates"),
    ],
)
async def test_what_is_wrong_is_said(data, settings, kind, said):
    with pytest.raises(kind, match=said):
        await read(data, **settings)


@pytest.mark.parametrize("size", [100, 10**6])
async def test_a_bomb_is_never_held(size):
    bomb = gzip.compress(b"\0" * 2**28)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        await read(bomb, "gzip", limit=2**26, size=size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


async def test_a_body_over_the_limit_is_not_read_to_its_end():
    taken = 0

    async def chunks():
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 1000

    with pytest.raises(TooLarge):
        await http_body.read(chunks(), "", None, 10_000)
    assert taken == 11


@given(st.binary(max_size=100), st.sampled_from(["", "gzip", "deflate", "gzip, gzip", "x"]))
async def test_no_bytes_raise_anything_else(data, encoding):
    for candidate in (data, gzip.compress(data)[:-3] + data):
        with contextlib.suppress(InvalidInput, TooLarge, UnsupportedMedia):
            await read(candidate, encoding)
