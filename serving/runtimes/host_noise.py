"""Draws in memory of the host, for the runtimes that take their inputs from there: any law by its own `sample`, some by
compiled code.

A compiled kernel is registered for a law and the host; `serving.models.proof` compares it with `sample` before it serves.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.lattice_gaussian import LatticeGaussianAt
from serving.runtimes import noise_kernel
from serving.runtimes.runtime import DrawRange, portions

Kernel = Callable[[Sequence[DrawRange], NDArray[np.int32]], None]
"""Fills rows (draws, numbers of an input) with draws of one law, one range after another."""

_BATCHES_AT_ONCE, _BYTES_AT_ONCE = 8, 2**25


def lattice_gaussian(draws: Sequence[DrawRange], out: NDArray[np.int32]) -> None:
    """`LatticeGaussianAt` by `noise_kernel`; inputs of one bundle go in one call."""
    done = 0
    for table, several in itertools.groupby(draws, key=lambda each: each.law.law.table):  # type: ignore[attr-defined]
        parts = [
            noise_kernel.Draws(each.key, each.start, len(each), each.law.lattice.reshape(-1))  # type: ignore[attr-defined]
            for each in several
        ]
        stop = done + sum(part.rows for part in parts)
        noise_kernel.add_draws(table, parts, out[done:stop])
        done = stop


KERNELS: Mapping[type, Kernel] = {LatticeGaussianAt: lattice_gaussian}
"""Compiled noise for the host, by the law."""


def fill(draws: Sequence[DrawRange], out: NDArray[np.int32]) -> None:
    """Write the perturbed inputs of all these draws, one range after another, into rows (draws, numbers of an input)."""
    done = 0
    for law, several in itertools.groupby(draws, key=lambda each: type(each.law)):
        alike = list(several)
        stop = done + sum(map(len, alike))
        KERNELS.get(law, _by_sample)(alike, out[done:stop])
        done = stop


def _by_sample(draws: Sequence[DrawRange], out: NDArray[np.int32]) -> None:
    done = 0
    for each in draws:
        rows = each.law.sample(each.key, each.start, each.stop)
        if len(rows) != len(each):
            raise ValueError(f"expected {len(each)} perturbed inputs, got {len(rows)}")
        out[done : done + len(each)] = rows.reshape(len(each), -1)
        done += len(each)


class HostBatches:
    """Makes draws into batches of `rows` inputs of one shape, in memory of each thread's own."""

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        self._rows, self._shape, self._size = rows, shape, math.prod(shape)
        fit = _BYTES_AT_ONCE // (4 * rows * self._size)
        self._at_once = rows * max(1, min(_BATCHES_AT_ONCE, fit))
        self._kept = _KeptRows()

    def portions(self, draws: Sequence[DrawRange]) -> Iterator[tuple[int, list[NDArray[np.int32]]]]:
        """How many draws, and the full batches (rows, *shape) that hold them; rows left over are zero. They are good until
        the thread asks for the next.

        Several batches are drawn together, since each compiled call gives up Python's lock and has to win it back.
        """
        for portion in portions(draws, self._at_once):
            count = sum(map(len, portion))
            batches = -(-count // self._rows)
            rows = self._kept.of(batches * self._rows, self._size)
            fill(portion, rows[:count])
            rows[count:] = 0
            shaped = rows.reshape(batches, self._rows, *self._shape)
            yield count, list(shaped)

    def drawn(self, draws: Sequence[DrawRange]) -> NDArray[np.int32]:
        """The rows of all these draws, (draws, *shape), in memory of their own."""
        parts = [np.concatenate(batches)[:count] for count, batches in self.portions(draws)]
        return np.concatenate(parts) if parts else np.empty((0, *self._shape), np.int32)


class _KeptRows(threading.local):
    """Memory of each thread's own, kept from call to call: fresh memory has to be mapped page by page."""

    def __init__(self) -> None:
        self._numbers = np.empty(0, dtype=np.int32)

    def of(self, rows: int, size: int) -> NDArray[np.int32]:
        """(rows, size), with whatever was there before."""
        if self._numbers.size < rows * size:
            self._numbers = np.empty(rows * size, dtype=np.int32)
        return self._numbers[: rows * size].reshape(rows, size)
