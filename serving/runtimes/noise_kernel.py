"""The noise of `certify.smoothing.lattice_gaussian` by a compiled kernel: the same integers, bit for bit, several
times faster.

`certify.smoothing.lattice_gaussian` is the definition and this a second implementation of it, proven against it before
a model is ready and compared with it in the contract tests. `X + Z` goes straight into the batch:

    words   Philox 4x64-10 for `LANES` counters side by side, its 64x64-bit products made of 32-bit halves: that is what
            a compiler turns into vector instructions, and it beats the scalar 128-bit product
    values  a look-up of each 16-bit prefix; the few that leave the value open are collected
    refine  the one block of lane 1 that each open place needs, `LANES` of them side by side

Compiled code is kept in a private folder of the user's (`serving.cache`); where there is no home that can be written to,
each process compiles anew, which takes seconds. Without numba the reference serves, and a warning says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

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

LANES = 64
_LAST_START = 2**40  # so that no counter leaves its first word
_PREFIXES = 16
_OPEN = np.int16(-32768)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_ONE, _WORDS = np.uint64(1), np.uint64(4)
_FIRST_LOW, _FIRST_HIGH = np.uint64(0xE14C6C93), np.uint64(0xD2E7470E)
_SECOND_LOW, _SECOND_HIGH = np.uint64(0x95121157), np.uint64(0xCA5A8263)
_WEYL_FIRST, _WEYL_SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_PREFIX_SHIFT, _WORD_SHIFT = np.uint64(48), np.uint64(16)

_Function = TypeVar("_Function", bound=Callable[..., None])


class _Tables(NamedTuple):
    """A law as the kernel reads it: the value of each prefix or `_OPEN`, the first edge above it, all edges."""

    values: NDArray[np.int16]
    above: NDArray[np.int64]
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
    values = np.where(above == last, above - len(edges) // 2, int(_OPEN)).astype(np.int16)
    return _Tables(values, above.astype(np.int64), edges)


def _compiled(function: _Function) -> _Function:
    if njit is None:
        return function
    compiled: _Function = njit(nogil=True, cache=True)(function)
    return compiled


@_compiled
def _philox(counters: NDArray[np.uint64], first: np.uint64, second: np.uint64) -> None:
    """Ten rounds on `counters` (4, LANES) in place, under the key (first, second)."""
    c0, c1, c2, c3 = counters[0], counters[1], counters[2], counters[3]
    for _ in range(10):
        for i in range(LANES):
            low, high = c0[i] & _LOW, c0[i] >> _HALF
            bottom = low * _FIRST_LOW
            middle = low * _FIRST_HIGH + (bottom >> _HALF)
            other = high * _FIRST_LOW + (middle & _LOW)
            first_high = high * _FIRST_HIGH + (middle >> _HALF) + (other >> _HALF)
            first_low = (other << _HALF) | (bottom & _LOW)
            low, high = c2[i] & _LOW, c2[i] >> _HALF
            bottom = low * _SECOND_LOW
            middle = low * _SECOND_HIGH + (bottom >> _HALF)
            other = high * _SECOND_LOW + (middle & _LOW)
            c0[i] = high * _SECOND_HIGH + (middle >> _HALF) + (other >> _HALF) ^ c1[i] ^ first
            c1[i] = (other << _HALF) | (bottom & _LOW)
            c2[i] = first_high ^ c3[i] ^ second
            c3[i] = first_low
        first += _WEYL_FIRST
        second += _WEYL_SECOND


@_compiled
def _words(words: NDArray[np.uint64], block: np.uint64, first: np.uint64, second: np.uint64) -> None:
    """Fill `words` (blocks, 4), a multiple of LANES blocks, with the blocks of lane 0 from `block` on."""
    counters = np.empty((4, LANES), np.uint64)
    for done in range(0, len(words), LANES):
        for i in range(LANES):
            counters[0, i] = block + np.uint64(done + i) + _ONE
            counters[1, i] = counters[2, i] = counters[3, i] = np.uint64(0)
        _philox(counters, first, second)
        for i in range(LANES):
            for word in range(4):
                words[done + i, word] = counters[word, i]


@_compiled
def _refine(
    places: NDArray[np.int32],
    prefixes: NDArray[np.uint16],
    start: np.uint64,
    first: np.uint64,
    second: np.uint64,
    lattice: NDArray[np.int32],
    above: NDArray[np.int64],
    edges: NDArray[np.uint64],
    out: NDArray[np.int32],
) -> None:
    """Give the open `places` of `out`, a multiple of LANES of them, their values by their words of lane 1."""
    coordinates = out.shape[1]
    counters, turns = np.empty((4, LANES), np.uint64), np.empty(LANES, np.int64)
    for done in range(0, len(places), LANES):
        for i in range(LANES):
            number = start * np.uint64(coordinates) + np.uint64(places[done + i])
            counters[0, i], turns[i] = number // _WORDS + _ONE, np.int64(number % _WORDS)
            counters[1, i], counters[2, i], counters[3, i] = np.uint64(0), np.uint64(0), _ONE
        _philox(counters, first, second)
        for i in range(LANES):
            row, j = divmod(places[done + i], coordinates)
            prefix = prefixes[row, j]
            uniform = (np.uint64(prefix) << _PREFIX_SHIFT) | (counters[turns[i], i] >> _WORD_SHIFT)
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
    values: NDArray[np.int16],
    above: NDArray[np.int64],
    edges: NDArray[np.uint64],
    out: NDArray[np.int32],
) -> None:
    rows, coordinates = out.shape
    blocks = (coordinates + _PREFIXES - 1) // _PREFIXES
    words = np.empty((-(-rows * blocks // LANES) * LANES, 4), np.uint64)
    _words(words, start * np.uint64(blocks), first, second)
    prefixes = words.view(np.uint16)[: rows * blocks].reshape(rows, blocks * _PREFIXES)
    places, count = np.empty(rows * coordinates + LANES, np.int32), 0
    drawn = np.empty(coordinates, np.int16)
    for row in range(rows):
        for j in range(coordinates):
            drawn[j] = values[prefixes[row, j]]
            if drawn[j] == _OPEN:
                places[count] = row * coordinates + j
                count += 1
        for j in range(coordinates):
            out[row, j] = lattice[j] + drawn[j]
    padded = -(-count // LANES) * LANES
    places[count:padded] = places[0]  # the same place twice does no harm
    _refine(places[:padded], prefixes, start, first, second, lattice, above, edges, out)


@_compiled
def _add_all(
    keys: NDArray[np.uint64],
    places: NDArray[np.uint64],
    lattices: NDArray[np.int32],
    values: NDArray[np.int16],
    above: NDArray[np.int64],
    edges: NDArray[np.uint64],
    out: NDArray[np.int32],
) -> None:
    """`places` (parts, 2) holds the first draw of each part and how many there are."""
    done = np.int64(0)
    for part in range(len(keys)):
        stop = done + np.int64(places[part, 1])
        _add(keys[part, 0], keys[part, 1], places[part, 0], lattices[part], values, above, edges, out[done:stop])
        done = stop
