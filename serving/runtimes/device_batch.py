"""What `device_kernels.cu` is given and gives back, as arrays of the host: pure, and the same for every device.

A batch has a fixed number of rows. Each is described by 32 bytes (key, draw, which lattice), so that what is copied to the
device for a batch is small and the work itself can be captured once and launched again for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.graphs.reading import EXACT_UP_TO
from serving.runtimes.noise_kernel import Draws

SOURCE = Path(__file__).with_name("device_kernels.cu")
THREADS = 128
TILE_WIDTH = 16 * THREADS
NOBODY = AS_IT_IS = np.uint64(2**64 - 1)
LARGEST_INPUT = 2**24  # coordinates; with fewer than 2^40 draws no counter leaves its first word
LARGEST_BATCH = 65_535  # rows, the hardware's limit of a grid's second axis
_OPEN = -32768

RESULT = np.dtype([("vote", "<i4"), ("score", "<f4")])
_ELEMENTS = {np.dtype(name): (number, EXACT_UP_TO[name]) for number, name in enumerate(("int32", "int16", "float16"))}
"""`ELEMENT` of the kernels, and up to which size the type is exact."""


@dataclass(frozen=True, slots=True, eq=False)
class AsTheyAre:
    """Rows (n, d), int32, that go to the network unperturbed: what the host has drawn, or a proof has chosen."""

    lattices: NDArray[np.int32]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.lattices)


DevicePart = Draws | AsTheyAre


class DeviceBatchError(ValueError):
    """A model or a batch that the kernels cannot fill."""


@dataclass(frozen=True, eq=False)
class NoiseTables:
    """A law as the kernels read it."""

    values: NDArray[np.int16]  # of each 16-bit prefix, or `_OPEN`
    above: NDArray[np.uint32]  # how many edges lie at or below the first number of each prefix; one more at the end
    edges: NDArray[np.uint64]  # ascending
    largest: int

    @classmethod
    def of(cls, law: RoundedGaussian) -> NoiseTables:
        """Built from the law's boundaries alone, apart from the reference's own tables."""
        edges = np.concatenate([law.tails[-2::-1], np.uint64(0) - law.tails[:-1]])
        first = np.arange(2**16, dtype=np.uint64) << np.uint64(48)
        above = np.append(np.searchsorted(edges, first, side="right"), len(edges))
        last = np.searchsorted(edges, first | np.uint64(2**48 - 1), side="right")
        values = np.where(above[:-1] == last, last - law.largest, _OPEN)
        return cls(values.astype(np.int16), above.astype(np.uint32), edges, law.largest)


def fits(law: RoundedGaussian, parts: Sequence[DevicePart], kind: np.dtype[Any]) -> bool:
    """Whether `kind` holds exactly what may become of these parts."""
    limit = _ELEMENTS[kind][1]
    return all(
        int(np.abs(_around(part).astype(np.int64)).max(initial=0)) + law.largest * isinstance(part, Draws) <= limit
        for part in parts
    )


def element_kind(law: RoundedGaussian, low: int, high: int, declared: DTypeLike) -> int:
    """`ELEMENT` of the kernels for a graph that takes `declared`, where inputs lie in `[low, high]`.

    Raises `DeviceBatchError` where a noisy input may be a number that the type does not hold exactly.
    """
    kind = np.dtype(declared)
    if kind not in _ELEMENTS:
        raise DeviceBatchError(f"the graph takes {kind}; the device writes int32, int16 or float16: export it so")
    number, limit = _ELEMENTS[kind]
    reach = max(high + law.largest, law.largest - low)
    if reach > limit:
        raise DeviceBatchError(f"noisy inputs reach {reach}, and {kind} is exact up to {limit}: export with int32")
    return number


def grid(rows: int, coordinates: int) -> tuple[int, int]:
    """Blocks of the grid of `add_noise`: tiles of a row, rows."""
    if not (0 < rows <= LARGEST_BATCH and 0 < coordinates <= LARGEST_INPUT):
        raise DeviceBatchError(
            f"expected 1 to {LARGEST_BATCH} rows of 1 to {LARGEST_INPUT} coordinates; got {rows} of {coordinates}"
        )
    return -(-coordinates // TILE_WIDTH), rows


def results_grid(rows: int) -> tuple[int, int]:
    """Blocks of the grid of `gather_results`."""
    return -(-rows // THREADS), 1


def check(parts: Sequence[DevicePart], rows: int, coordinates: int) -> None:
    """Raises `DeviceBatchError` unless these are 1 to `rows` rows around lattices of so many coordinates."""
    filled = sum(part.rows for part in parts)
    if not 0 < filled <= rows:
        raise DeviceBatchError(f"expected 1 to {rows} draws in a batch; got {filled}")
    if any(_around(part).shape[1] != coordinates for part in parts):
        raise DeviceBatchError(f"expected lattices of {coordinates} coordinates")


def _around(part: DevicePart) -> NDArray[np.int32]:
    """The lattices of a part: one for all its draws, or one a row."""
    return np.atleast_2d(part.lattice if isinstance(part, Draws) else part.lattices)


def describe(parts: Sequence[DevicePart], rows: NDArray[np.uint64], lattices: NDArray[np.int32]) -> tuple[int, int]:
    """Fill `rows` (batch, 4) with all parts, one after another, and nobody's after them, and `lattices` (batch, d) with what
    they are drawn around. How many rows and how many lattices there are.

    The parts have been checked.
    """
    done = used = 0
    for part in parts:
        own = _around(part)
        lattices[used : used + len(own)] = own
        mine = rows[done : done + part.rows]
        if isinstance(part, Draws):
            mine[:, :2] = np.frombuffer(part.key, dtype="<u8")
            mine[:, 2] = np.arange(part.start, part.start + part.rows, dtype=np.uint64)
            mine[:, 3] = used
        else:
            mine[:, :3], mine[:, 3] = AS_IT_IS, np.arange(used, used + part.rows)
        done, used = done + part.rows, used + len(own)
    rows[done:] = NOBODY
    return done, used


def read_results(
    results: NDArray[np.void], filled: int, last_vote: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Votes and scores of the first `filled` rows; raises `DeviceBatchError` if a vote is none."""
    votes = results["vote"][:filled].astype(np.int64)
    if votes.size and not (votes.min() >= 0 and votes.max() <= last_vote):
        raise DeviceBatchError(f"a vote is outside 0 to {last_vote}: the device does not compute what the graph says")
    return votes, results["score"][:filled].astype(np.float32)
