"""The noise of `certify.smoothing.lattice_gaussian` by a compiled kernel: the same integers, bit for bit, several
times faster.

`certify.smoothing.lattice_gaussian` is the definition and this a second implementation of it, proven against it before
a model is ready and compared with it in the contract tests. `X + Z` goes straight into the batch, some blocks of the
generator after others, few enough for all between to stay in the processor's first cache:

    words   Philox 4x64-10, its 64x64-bit products made of 32-bit halves: that is what a compiler turns into vector
            instructions, for as many blocks side by side as a vector has words
    values  a look-up of each 16-bit prefix; the few that leave the value open are collected
    sums    the input and its noise, row by row
    refine  the one block of lane 1 that each open place needs

Compiled code is kept in a private folder of the user's (`serving.cache`); where there is no home that can be written to,
each process compiles anew, which takes seconds. Without numba the reference serves, and a warning says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.keys import KEY_BYTES
from certify.smoothing.lattice_gaussian import RoundedGaussian
from serving import cache

_log = logging.getLogger("certserve.noise")
try:
    from numba import config, njit
except ImportError as _error:  # a platform or a Python that numba does not know yet
    njit = None
    _log.warning("numba cannot be imported (%s): noise is drawn by numpy, several times slower", _error)

if njit is not None:
    config.CACHE_DIR = str(cache.folder("noise"))  # what lies in a cache is run: nobody else may write to it

_BLOCKS = 256
"""Of the generator, done together: 4,096 values, with all that leads to them in some 20 KB."""
_TOGETHER = 16
"""Blocks side by side: a multiple of what the vectors of any processor hold."""
_LAST_START = 2**40  # so that no counter leaves its first word
_PREFIXES = 16
_OF_NOTHING = 2**14
"""The code of the value 0. No prefix has a value beyond 15,900 (`RoundedGaussian`), so that no code is negative: what is
open is, which a compiler takes for rare.
"""
_OPEN = -1
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_NOTHING, _ONE, _WORDS = np.uint64(0), np.uint64(1), np.uint64(4)
_FIRST_LOW, _FIRST_HIGH = np.uint64(0xE14C6C93), np.uint64(0xD2E7470E)
_SECOND_LOW, _SECOND_HIGH = np.uint64(0x95121157), np.uint64(0xCA5A8263)
_WEYL_FIRST, _WEYL_SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_PREFIX_SHIFT, _WORD_SHIFT, _BLOCK = np.uint64(48), np.uint64(16), np.uint64(_PREFIXES)

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Tables(NamedTuple):
    """A law as the kernel reads it: the code of each prefix' value or `_OPEN`, the first edge above it, all edges."""

    codes: NDArray[np.int16]
    above: NDArray[np.int32]
    edges: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """The draws `[start, start + rows)` of the stream of `key` (16 bytes) around `lattice`, int32 (d,)."""

    key: bytes
    start: int
    rows: int
    lattice: NDArray[np.int32]

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES or not (self.rows > 0 and 0 <= self.start < _LAST_START):
            raise ValueError(
                f"expected a key of {KEY_BYTES} bytes, rows to draw and 0 <= start < {_LAST_START};"
                f" got {len(self.key)} bytes, {self.rows} rows, {self.start}"
            )


def add_draws(law: RoundedGaussian, parts: Sequence[Draws], out: NDArray[np.int32]) -> None:
    """`out[r] = lattice + Z` for the draws of all `parts`, one after another: out (rows, d), as many rows as they have.

    One call for a whole batch, since each compiled one gives up Python's lock and has to win it back.
    """
    rows, coordinates = out.shape
    if not out.flags.c_contiguous or any(part.lattice.shape != (coordinates,) for part in parts):
        raise ValueError(f"expected contiguous rows and lattices ({coordinates},)")
    if not parts or rows != sum(part.rows for part in parts):
        raise ValueError(f"expected as many rows to fill as there are draws, and some; got {rows} rows")
    if njit is None:
        _add_by_numpy(law, parts, out)
        return
    keys = np.frombuffer(b"".join(part.key for part in parts), dtype="<u8").reshape(-1, 2)
    # Arrays of our own, since those of Ray are read-only, for which numba would compile all of it again.
    places = np.array([(part.start, part.rows) for part in parts], dtype=np.uint64)
    _add_all(keys, places, np.stack([part.lattice for part in parts]), *_tables(law), out)


def _add_by_numpy(law: RoundedGaussian, parts: Sequence[Draws], out: NDArray[np.int32]) -> None:
    place = 0
    for part in parts:
        drawn = law.sample(part.key, part.start, part.start + part.rows, part.lattice.size)
        np.add(drawn, part.lattice, out=out[place : place + part.rows])
        place += part.rows


@lru_cache(maxsize=64)
def _tables(law: RoundedGaussian) -> _Tables:
    """Built from the law's boundaries alone, apart from the reference's own tables."""
    edges = np.concatenate([law.tails[-2::-1], np.uint64(0) - law.tails[:-1]])
    first = np.arange(2**16, dtype=np.uint64) << _PREFIX_SHIFT
    above = np.searchsorted(edges, first, side="right")
    last = np.searchsorted(edges, first | np.uint64(2**48 - 1), side="right")
    codes = np.where(above == last, above - len(edges) // 2 + _OF_NOTHING, _OPEN).astype(np.int16)
    return _Tables(codes, above.astype(np.int32), edges)


def _compiled(function: _Function) -> _Function:
    if njit is None:
        return function
    compiled: _Function = njit(nogil=True, cache=True)(function)
    return compiled


def _written_out(function: _Function) -> _Function:
    """Compiled where it is called: a call would keep the loop around it from becoming one of vectors."""
    if njit is None:
        return function
    compiled: _Function = njit(nogil=True, inline="always")(function)
    return compiled


_State = tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]
"""Four words of a block, and the two of the key."""


@_written_out
def _product(word: np.uint64, low_of: np.uint64, high_of: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The upper and the lower half of a product of 64 by 64 bits; the other factor is given in halves."""
    low, high = word & _LOW, word >> _HALF
    bottom = low * low_of
    middle = low * high_of + (bottom >> _HALF)
    other = high * low_of + (middle & _LOW)
    return high * high_of + (middle >> _HALF) + (other >> _HALF), (other << _HALF) | (bottom & _LOW)


@_written_out
def _round(c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, first: np.uint64, second: np.uint64) -> _State:
    upper, lower = _product(c0, _FIRST_LOW, _FIRST_HIGH)
    upper_of_third, lower_of_third = _product(c2, _SECOND_LOW, _SECOND_HIGH)
    return (
        upper_of_third ^ c1 ^ first,
        lower_of_third,
        upper ^ c3 ^ second,
        lower,
        first + _WEYL_FIRST,
        second + _WEYL_SECOND,
    )


@_compiled
def _philox(words: NDArray[np.uint64], count: int, lane: np.uint64, first: np.uint64, second: np.uint64) -> None:
    """The first `count` blocks of `words` (4, _BLOCKS), from the counters (words[0], 0, 0, lane) under (first, second)."""
    for i in range(-(-count // _TOGETHER) * _TOGETHER):  # whole vectors, for what is left of them is made word by word
        c0, c1, c2, c3, k0, k1 = _round(words[0, i], _NOTHING, _NOTHING, lane, first, second)
        # Ten rounds, written out: the compiler makes vectors of an innermost loop alone.
        c0, c1, c2, c3, k0, k1 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3, k0, k1 = _round(c0, c1, c2, c3, k0, k1)
        words[0, i], words[1, i], words[2, i], words[3, i] = c0, c1, c2, c3


@_compiled
def _look_up(
    words: NDArray[np.uint64], count: int, codes: NDArray[np.int16], drawn: NDArray[np.int16], places: NDArray[np.int64]
) -> int:
    """The code of each prefix of `count` blocks, into `drawn`; where its value is open, the `places` there, and how many."""
    prefixes, found = words.view(np.uint16), np.uint64(0)
    for i in range(count):
        for word in range(4):
            for part in range(4):
                place = 16 * i + 4 * word + part
                code = codes[prefixes[word, 4 * i + part]]
                drawn[place] = code
                if code < 0:
                    places[found] = place
                    found += _ONE
    return int(found)


@_compiled
def _add_to_rows(
    lattice: NDArray[np.int32], drawn: NDArray[np.int16], block: int, count: int, out: NDArray[np.int32]
) -> None:
    """`out` at the `count` blocks from `block` on: the lattice and what was drawn for them."""
    coordinates = out.shape[1]
    blocks = (coordinates + _PREFIXES - 1) // _PREFIXES
    row, before = divmod(block, blocks)
    done = 0
    while done < count:
        several = min(count - done, blocks - before)
        left = _PREFIXES * before
        right = min(left + _PREFIXES * several, coordinates)
        # Slices, since an index that might be negative would keep the loop from becoming one of vectors.
        into, at, codes = out[row, left:right], lattice[left:right], drawn[_PREFIXES * done :]
        for j in range(right - left):
            into[j] = at[j] + (codes[j] - _OF_NOTHING)
        row, before, done = row + 1, 0, done + several


@_compiled
def _refine(
    places: NDArray[np.int64],
    words: NDArray[np.uint64],
    finer: NDArray[np.uint64],
    at: NDArray[np.int64],
    block: int,
    start: np.uint64,
    first: np.uint64,
    second: np.uint64,
    lattice: NDArray[np.int32],
    above: NDArray[np.int32],
    edges: NDArray[np.uint64],
    out: NDArray[np.int32],
) -> None:
    """Give the open `places`, `_BLOCKS` at most, in the `words` of the blocks from `block` on their values by lane 1.

    `finer` (4, _BLOCKS) and `at` (2, _BLOCKS), the row and column of each, are room for that.
    """
    coordinates = out.shape[1]
    wide = (coordinates + _PREFIXES - 1) // _PREFIXES * _PREFIXES
    row = _PREFIXES * block // wide
    left = row * wide - _PREFIXES * block
    for i in range(len(places)):
        while places[i] >= left + wide:
            row, left = row + 1, left + wide
        at[0, i], at[1, i] = row, places[i] - left
        finer[0, i] = ((start + np.uint64(row)) * np.uint64(coordinates) + np.uint64(at[1, i])) // _WORDS + _ONE
    _philox(finer, len(places), _ONE, first, second)
    prefixes = words.view(np.uint16)
    for i in range(len(places)):
        row, j, place = at[0, i], at[1, i], np.uint64(places[i])
        if j >= coordinates:  # of a block's end, which no coordinate has
            continue
        prefix = prefixes[place // _WORDS % _WORDS, place // _BLOCK * _WORDS + place % _WORDS]
        turn = ((start + np.uint64(row)) * np.uint64(coordinates) + np.uint64(j)) % _WORDS
        uniform = (np.uint64(prefix) << _PREFIX_SHIFT) | (finer[turn, i] >> _WORD_SHIFT)
        edge = above[prefix]
        while edge < edges.size and edges[edge] <= uniform:
            edge += 1
        out[row, j] = lattice[j] + edge - edges.size // 2


@_compiled
def _add(
    first: np.uint64,
    second: np.uint64,
    start: np.uint64,
    lattice: NDArray[np.int32],
    codes: NDArray[np.int16],
    above: NDArray[np.int32],
    edges: NDArray[np.uint64],
    out: NDArray[np.int32],
) -> None:
    rows, coordinates = out.shape
    blocks = (coordinates + _PREFIXES - 1) // _PREFIXES
    words, drawn = np.empty((4, _BLOCKS), np.uint64), np.empty(_PREFIXES * _BLOCKS, np.int16)
    places, finer, at = (
        np.empty(_PREFIXES * _BLOCKS, np.int64),
        np.empty((4, _BLOCKS), np.uint64),
        np.empty((2, _BLOCKS), np.int64),
    )
    for block in range(0, rows * blocks, _BLOCKS):
        count = min(_BLOCKS, rows * blocks - block)
        counter = start * np.uint64(blocks) + np.uint64(block) + _ONE
        for i in range(count):
            words[0, i] = counter + np.uint64(i)
        _philox(words, count, _NOTHING, first, second)
        found = _look_up(words, count, codes, drawn, places)
        _add_to_rows(lattice, drawn, block, count, out)
        for done in range(0, found, _BLOCKS):
            several = places[done : min(found, done + _BLOCKS)]
            _refine(several, words, finer, at, block, start, first, second, lattice, above, edges, out)


@_compiled
def _add_all(
    keys: NDArray[np.uint64],
    places: NDArray[np.uint64],
    lattices: NDArray[np.int32],
    codes: NDArray[np.int16],
    above: NDArray[np.int32],
    edges: NDArray[np.uint64],
    out: NDArray[np.int32],
) -> None:
    """`places` (parts, 2) holds the first draw of each part and how many there are."""
    done = np.int64(0)
    for part in range(len(keys)):
        stop = done + np.int64(places[part, 1])
        _add(keys[part, 0], keys[part, 1], places[part, 0], lattices[part], codes, above, edges, out[done:stop])
        done = stop
