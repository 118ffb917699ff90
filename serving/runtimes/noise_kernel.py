"""The noise of `certify.noise` by a compiled kernel: the same integers, bit for bit, several times faster.

`certify.noise` is the definition and this a second implementation of it, proven against it before a model is ready and
compared with it in the contract tests. `X + Z` goes straight into the batch, in three passes over one slice:

    words   Philox 4x64-10 for `LANES` counters side by side, its 64x64-bit products made of 32-bit halves: that is what
            a compiler turns into vector instructions, and it beats the scalar 128-bit product
    values  a look-up of each 16-bit prefix; the few that leave the value open are collected
    refine  one block of lane 1 for each open one, `LANES` of them at a time

Compiled code is kept in `__pycache__`, in `NUMBA_CACHE_DIR` or in the user's cache, whichever can be written; where none
can, each process compiles anew, which takes seconds. Without numba the reference serves, and a warning says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from certify.noise import KEY_BYTES, RoundedGaussian

_log = logging.getLogger("certserve.noise")
try:
    from numba import njit
except ImportError as _error:  # a platform or a Python that numba does not know yet
    njit = None
    _log.warning("numba cannot be imported (%s): noise is drawn by numpy, several times slower", _error)

LANES = 64
_PREFIXES = 16
_OPEN = np.int16(-32768)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_ONE, _WORDS = np.uint64(1), np.uint64(4)
_FIRST_LOW, _FIRST_HIGH = np.uint64(0x0EE14C6C93 & 0xFFFFFFFF), np.uint64(0xD2E7470E)
_SECOND_LOW, _SECOND_HIGH = np.uint64(0x95121157), np.uint64(0xCA5A8263)
_WEYL_FIRST, _WEYL_SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_PREFIX_SHIFT, _WORD_SHIFT = np.uint64(48), np.uint64(16)

_Function = TypeVar("_Function", bound=Callable[..., None])


class _Tables(NamedTuple):
    """A law as the kernel reads it: the value of each prefix or `_OPEN`, the first edge above it, all edges."""

    values: NDArray[np.int16]
    above: NDArray[np.int64]
    edges: NDArray[np.uint64]


def add_draws(
    law: RoundedGaussian, key: bytes, start: int, lattice: NDArray[np.int32], out: NDArray[np.int32]
) -> None:
    """`out[r] = lattice + Z` for the draws `start + r` of the stream of `key`; lattice (d,), out (rows, d), contiguous."""
    rows, coordinates = out.shape
    if len(key) != KEY_BYTES or lattice.shape != (coordinates,) or not (rows and 0 <= start < 2**47):
        raise ValueError(f"expected {KEY_BYTES} bytes, draws from 0 to 2^47 and a lattice of {coordinates} integers")
    if njit is None:
        np.add(law.sample(key, start, start + rows, coordinates), lattice, out=out)
        return
    words = np.frombuffer(key, dtype="<u8")
    _add(words[0], words[1], np.uint64(start), lattice, *_tables(law), out)


def prove(law: RoundedGaussian, coordinates: int) -> None:
    """Compile, and raise `RuntimeError` unless a slice is that of the reference. To be called before a model is ready."""
    key, start, rows = bytes(range(KEY_BYTES)), 2**33 + 5, 32
    lattice = np.arange(coordinates, dtype=np.int32)
    found = np.empty((rows, coordinates), dtype=np.int32)
    add_draws(law, key, start, lattice, found)
    if not np.array_equal(found, law.sample(key, start, start + rows, coordinates) + lattice):
        raise RuntimeError("the compiled noise differs from certify.noise on this machine; remove numba to serve without")


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
    try:
        compiled: _Function = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # nowhere to keep it
        compiled = njit(nogil=True)(function)
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
def _refine(
    count: int,
    places: NDArray[np.int64],
    prefixes: NDArray[np.uint16],
    numbers: NDArray[np.uint64],
    counters: NDArray[np.uint64],
    first: np.uint64,
    second: np.uint64,
    above: NDArray[np.int64],
    edges: NDArray[np.uint64],
    noise: NDArray[np.int16],
) -> None:
    """Give the `count` collected places their values: word `numbers` of lane 1 decides, from the first edge above on."""
    for i in range(LANES):
        counters[0, i], counters[1, i] = numbers[i] // _WORDS + _ONE, np.uint64(0)
        counters[2, i], counters[3, i] = np.uint64(0), _ONE
    _philox(counters, first, second)
    for i in range(count):
        word = counters[np.int64(numbers[i] % _WORDS), i]
        uniform = (np.uint64(prefixes[i]) << _PREFIX_SHIFT) | (word >> _WORD_SHIFT)
        edge = above[prefixes[i]]
        while edge < edges.size and edges[edge] <= uniform:
            edge += 1
        noise[places[i]] = edge - edges.size // 2


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
    width, group = blocks * _PREFIXES, LANES * _PREFIXES
    groups = (rows * blocks + LANES - 1) // LANES
    noise = np.empty(groups * group, np.int16)
    counters, words = np.empty((4, LANES), np.uint64), np.empty((LANES, 4), np.uint64)
    prefixes = words.view(np.uint16).reshape(group)
    places, open_prefixes = np.empty(LANES + _PREFIXES, np.int64), np.empty(LANES + _PREFIXES, np.uint16)
    numbers = np.zeros(LANES + _PREFIXES, np.uint64)
    waiting = 0
    for g in range(groups):
        for i in range(LANES):
            counters[0, i] = start * np.uint64(blocks) + np.uint64(g * LANES + i) + _ONE
            counters[1, i] = counters[2, i] = counters[3, i] = np.uint64(0)
        _philox(counters, first, second)
        for i in range(LANES):
            for word in range(4):
                words[i, word] = counters[word, i]
        for block in range(LANES):
            least = np.int16(0)
            for j in range(block * _PREFIXES, (block + 1) * _PREFIXES):
                value = values[prefixes[j]]
                noise[g * group + j] = value
                least = min(least, value)
            if least != _OPEN:
                continue
            for j in range(block * _PREFIXES, (block + 1) * _PREFIXES):
                row, coordinate = divmod(g * group + j, width)
                if noise[g * group + j] == _OPEN and coordinate < coordinates and row < rows:
                    places[waiting], open_prefixes[waiting] = g * group + j, prefixes[j]
                    numbers[waiting] = (start + np.uint64(row)) * np.uint64(coordinates) + np.uint64(coordinate)
                    waiting += 1
            if waiting >= LANES:
                _refine(LANES, places, open_prefixes, numbers, counters, first, second, above, edges, noise)
                waiting -= LANES
                for i in range(waiting):
                    places[i], open_prefixes[i], numbers[i] = places[LANES + i], open_prefixes[LANES + i], numbers[LANES + i]
    _refine(waiting, places, open_prefixes, numbers, counters, first, second, above, edges, noise)
    for row in range(rows):
        for j in range(coordinates):
            out[row, j] = lattice[j] + noise[row * width + j]
