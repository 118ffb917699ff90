from __future__ import annotations

import asyncio
import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget import BufferedBytes
from serving.errors import InvalidInput, Overloaded, TooLarge, UnsupportedMedia
from serving.wires.http import body as http_body

LIMIT = 2 * 2**20


async def read(data, encoding="", declared=None, limit=LIMIT, size=1000, held=None):
    async def chunks():
        for place in range(0, len(data), size):
            yield data[place : place + size]

    return await http_body.read(chunks(), encoding, declared, limit, held)


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("gzip", lambda data: b"".join(gzip.compress(data[place : place + 999]) for place in range(0, len(data), 999))),
    ],
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
        (gzip.compress(b"abc", mtime=0)[:-1], {"encoding": "gzip"}, InvalidInput, "cut off"),
        (gzip.compress(b"abc", mtime=0) + b"x", {"encoding": "gzip"}, InvalidInput, "bytes follow"),
        (zlib.compress(b"abc", wbits=-15), {"encoding": "deflate"}, InvalidInput, "not deflate"),
        (gzip.compress(b"\0" * 2**24, mtime=0), {"encoding": "gzip"}, TooLarge, "inflates"),
        (gzip.compress(b"\0" * 2**20, mtime=0), {"encoding": "gzip", "limit": 1000}, TooLarge, "inflates"),
    ],
)
async def test_what_is_wrong_is_said(data, settings, kind, said):
    with pytest.raises(kind, match=said):
        await read(data, **settings)


@pytest.mark.parametrize("size", [100, 10**6])
async def test_no_more_of_a_bomb_is_held_than_the_limit(size):
    bomb = gzip.compress(b"\0" * 2**28)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        await read(bomb, "gzip", limit=2**24, size=size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.25 * 2**24 + 2**22


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


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_honest_zeros_are_read_up_to_the_limit(encoding):
    data = b"\0" * LIMIT
    encoded = gzip.compress(data) if encoding == "gzip" else zlib.compress(data)
    assert await read(encoded, encoding) == data
    with pytest.raises(TooLarge):
        await read(gzip.compress(data + b"x") if encoding == "gzip" else zlib.compress(data + b"x"), encoding)


async def test_members_without_end_are_refused():
    with pytest.raises(InvalidInput, match="tiny gzip members"):
        await read(gzip.compress(b"") * 10_000, "gzip", size=100_000)


async def test_what_is_kept_is_counted_before_and_while_it_is_read():
    budget = BufferedBytes(1_000_000)
    with budget.hold() as held:
        assert await read(b"x" * 10_000, held=held) == b"x" * 10_000
        assert held.size == 10_000
    with budget.hold() as held:
        assert len(await read(gzip.compress(b"x" * 300_000), "gzip", held=held)) == 300_000
        assert held.size == 300_000
    with budget.hold() as held, pytest.raises(TooLarge, match="of memory"):
        await read(gzip.compress(b"x" * 600_000), "gzip", held=held)
    budget.acquire(500_000)
    with budget.hold() as held:
        with pytest.raises(Overloaded):
            await read(b"never read", "", "260000", held=held)
        with pytest.raises(Overloaded):
            await read(b"x" * 260_000, held=held)
    assert budget.held == 500_000


async def test_inflating_ends_when_nobody_waits_and_leaves_nothing_counted():
    budget, started = BufferedBytes(2**30), asyncio.Event()
    bomb = gzip.compress(b"\0" * 2**28, compresslevel=1)

    async def chunks():
        for place in range(0, len(bomb), 2**18):
            started.set()
            yield bomb[place : place + 2**18]

    async def reading():
        with budget.hold() as held:
            await http_body.read(chunks(), "gzip", None, 2**29, held)

    task = asyncio.create_task(reading())
    await started.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert budget.held == 0
    await asyncio.sleep(0.3)
    assert budget.held == 0
