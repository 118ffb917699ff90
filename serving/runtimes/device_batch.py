"""What `device_kernels.cu` is given and gives back, as arrays of the host: pure, and the same for every device.

A batch has a fixed number of rows. Each is described by 32 bytes (key, draw, which lattice), so that what is copied to the
device for a batch is small and the work itself can be captured once and launched again for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from certify.smoothing.lattice_gaussian import RoundedGaussian
from serving.runtimes.noise_kernel import Draws

SOURCE = Path(__file__).with_name("device_kernels.cu")
THREADS = 128
TILE_WIDTH = 16 * THREADS
NOBODY = np.uint64(2**64 - 1)
LARGEST_INPUT = 2**24  # coordinates; with fewer than 2^40 draws no counter leaves its first word
LARGEST_BATCH = 65_535  # rows, the hardware's limit of a grid's second axis
_OPEN = -32768

RESULT = np.dtype([("vote", "<i4"), ("score", "<f4")])
_ELEMENTS: dict[np.dtype[np.generic], tuple[int, int]] = {
    np.dtype(np.int32): (0, 2**31 - 1),
    np.dtype(np.int16): (1, 2**15 - 1),
    np.dtype(np.float16): (2, 2**11),  # beyond it FP16 knows even numbers alone
}


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


def describe(parts: Sequence[Draws], rows: NDArray[np.uint64]) -> int:
    """Fill `rows` (batch, 4) with the draws of all parts, one after another, and nobody's after them; how many there are.

    Part number i reads lattice number i.
    """
    filled = sum(part.rows for part in parts)
    if not 0 < filled <= len(rows):
        raise DeviceBatchError(f"expected 1 to {len(rows)} draws in a batch; got {filled}")
    done = 0
    for number, part in enumerate(parts):
        mine = rows[done : done + part.rows]
        mine[:, :2] = np.frombuffer(part.key, dtype="<u8")
        mine[:, 2] = np.arange(part.start, part.start + part.rows, dtype=np.uint64)
        mine[:, 3] = number
        done += part.rows
    rows[done:] = NOBODY
    return filled


def read_results(results: NDArray[np.void], filled: int, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Votes and scores of the first `filled` rows; raises `DeviceBatchError` if a vote is none."""
    votes = results["vote"][:filled].astype(np.int64)
    if votes.size and not (votes.min() >= 0 and votes.max() <= classes):
        raise DeviceBatchError(f"a vote is outside 0 to {classes}: the device does not compute what the graph says")
    return votes, results["score"][:filled].astype(np.float32)
