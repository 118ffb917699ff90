"""The exact lattice noise `noise-v1`: rounded Gaussian integers, each draw a pure function of (key, draw index).

The served input is `T = X + Z` in integers, `Z = round(s g)` with `g` standard normal and `s` in grid steps. As
`round(X + s g) = X + round(s g)` on integers, the served vote probabilities are the Gaussian smoothing, with `s` itself,
of the classifier behind the rounding: the theorem of Cohen et al. (2019) holds for what is computed, which it does not
for floating-point noise (Voracek and Hein 2023).

**Law.** `TAILS[k] = floor(2^64 P(Z > k))`, `C_{-k-1} = TAILS[k]`, `C_k = 2^64 - TAILS[k]`. A uniform 64-bit `U` gives
the `k` with `C_{k-1} <= U < C_k`. How far a boundary may be off is bounded when a table is loaded, and charged to every
claim.

**Stream.** Philox 4x64-10 keyed with 128 bits. *Block* `b` of lane `l` is its output on the counter words
`(b + 1, 0, 0, l)`, which is what numpy's `Philox(counter=[b, 0, 0, l])` puts out first. Draw `i` of an input with `d`
coordinates owns the blocks `[i B, (i + 1) B)` of lane 0, `B = ceil(d / 16)`: coordinate `j` has the 16-bit prefix number
`j` in it, low bits of each word first. Where the prefix leaves `k` open, word `i d + j` of lane 1 refines it:
`U = prefix 2^48 + (word >> 16)`.

**At an input.** `LatticeGaussian.at` adds the noise to the input; what is proven of it is `certify.smoothing.gaussian`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from certify.smoothing.ball import Euclidean
from certify.smoothing.gaussian import NAME, Gaussian
from certify.smoothing.keys import KEY_BYTES, NOISE_V1

LARGEST_TABLE = 2**20
"""Entries of a table of noise: 8 MiB of them, and 24 MiB in all where it is drawn from."""
_OPEN = -32768
_LAW_SLACK = 1e-14
_PREFIXES = 16


class NoiseTableError(ValueError):
    """A noise table is not the rounded Gaussian that it is declared to be."""


@dataclass(frozen=True, eq=False)
class RoundedGaussian:
    """The law of `round(sigma_steps * g)` as exact 64-bit boundaries, checked when it is built.

    `tails[k] = floor(2^64 P(Z > k))` for k = 0, 1, ..., down to a last entry of 0.
    """

    sigma_steps: float
    tails: NDArray[np.uint64]
    _doubt: float = field(init=False, default=math.inf)

    def __post_init__(self) -> None:
        tails = self.tails
        if tails.dtype != np.uint64 or tails.ndim != 1 or not 2 <= tails.size <= LARGEST_TABLE:
            raise NoiseTableError(
                f"expected 2 to {LARGEST_TABLE} uint64 tails; got {tails.dtype} of shape {tails.shape}"
            )
        if not 0 < self.sigma_steps < math.inf:
            raise NoiseTableError(f"sigma_steps must be a finite number above 0; got {self.sigma_steps}")
        with np.errstate(over="ignore", invalid="ignore"):
            places = -(np.arange(tails.size) + 0.5) / self.sigma_steps
            expected = np.ldexp(ndtr(places), 64)
            slack = _LAW_SLACK * (1 + places**2) * expected
        # One unit for the floor, which lies below, the rest for what double precision knows of the normal law.
        above = tails.astype(float) - expected
        wrong = ~((above <= slack) & (above >= -1 - slack))  # what is not a number is wrong, too
        object.__setattr__(self, "_doubt", float(2 * np.sum(1 + slack)))
        if tails[-1] != 0 or tails[-2] == 0 or np.any(tails[1:] > tails[:-1]) or wrong.any():
            raise NoiseTableError(
                f"the noise table is not that of a rounded Gaussian with sigma_steps={self.sigma_steps}"
                f" (first wrong entry: {int(np.argmax(wrong))}); export the bundle again"
            )

    @property
    def largest(self) -> int:
        """The largest value that can be drawn, in grid steps; the smallest is its negative."""
        return self.tails.size - 1

    @property
    def total_variation(self) -> float:
        """An upper bound of the total variation distance, per coordinate, to the exact law of `Z`.

        It charges what the check of the table cannot exclude, though the exporter's boundaries are the exact floors.
        """
        return math.ldexp(self._doubt, -64)

    def charge(self, coordinates: int) -> float:
        """How far a probability under the drawn noise may be from that under the exact law: `d * eps`."""
        return coordinates * self.total_variation * (1 + 2**-52)

    @cached_property
    def _edges(self) -> NDArray[np.uint64]:
        """`C_{-K}, ..., C_{K-1}`, ascending, where K is the largest value that can be drawn."""
        lower = self.tails[-2::-1]
        upper = np.uint64(0) - self.tails[:-1]  # 2^64 - C, in 64-bit arithmetic; no tail here is 0
        return np.concatenate([lower, upper])

    @cached_property
    def _by_prefix(self) -> NDArray[np.int16]:
        """The value of each prefix that leaves none open. It has a probability of 2^-16 at least, which none beyond 15,900
        has, whatever sigma is; larger values are refined.
        """
        first = np.arange(2**16, dtype=np.uint64) << np.uint64(48)
        low, high = self._values(first), self._values(first | np.uint64(2**48 - 1))
        return np.where(low == high, low, _OPEN).astype(np.int16)

    def _values(self, uniform: NDArray[np.uint64]) -> NDArray[np.int64]:
        return np.searchsorted(self._edges, uniform, side="right") - (self.tails.size - 1)

    def sample(self, key: bytes, start: int, stop: int, coordinates: int) -> NDArray[np.int32]:
        """Draws `[start, stop)` of the stream of `key`, as int32 of shape (stop - start, coordinates)."""
        if len(key) != KEY_BYTES or not 0 <= start < stop:
            raise ValueError(
                f"expected a key of {KEY_BYTES} bytes and 0 <= start < stop; got {len(key)}, {start}, {stop}"
            )
        words = np.frombuffer(key, dtype="<u8")
        blocks = -(-coordinates // _PREFIXES)
        raw = np.random.Philox(key=words, counter=[start * blocks, 0, 0, 0]).random_raw((stop - start) * blocks * 4)
        prefixes = raw.astype("<u8", copy=False).view("<u2").reshape(stop - start, blocks * _PREFIXES)[:, :coordinates]
        noise = self._by_prefix.take(prefixes).astype(np.int32)
        self._refine(noise, prefixes, words, start * coordinates)
        return noise

    def _refine(
        self, noise: NDArray[np.int32], prefixes: NDArray[np.uint16], key: NDArray[np.uint64], first_word: int
    ) -> None:
        places = np.flatnonzero(noise == _OPEN)
        if not places.size:
            return
        skip = first_word % 4
        lane = np.random.Philox(key=key, counter=[first_word // 4, 0, 0, 1])
        words = lane.random_raw(skip + int(places[-1]) + 1)[skip + places]
        uniform = (prefixes.reshape(-1)[places].astype(np.uint64) << np.uint64(48)) | (words >> np.uint64(16))
        noise.reshape(-1)[places] = self._values(uniform)


@dataclass(frozen=True, eq=False, slots=True)
class LatticeGaussian:
    """The law of a bundle whose inputs lie on a grid: rounded Gaussian noise of `sigma` in the units of `norm`.

    `sigma` is `table.sigma_steps` steps of the grid, rounded down, which bounds every radius.
    """

    table: RoundedGaussian
    sigma: float
    norm: Euclidean
    name: str = NAME

    @property
    def tensors(self) -> Mapping[str, NDArray[np.uint64]]:
        """The tails of its table."""
        return {"tails": self.table.tails}

    def at(self, x: NDArray[np.integer[Any]]) -> LatticeGaussianAt:
        """The law at one input, integers (*shape)."""
        return LatticeGaussianAt(self, np.ascontiguousarray(x, dtype=np.int32))

    def span(self, lowest: int, highest: int) -> tuple[int, int]:
        """As far beyond as the noise can reach."""
        return lowest - self.table.largest, highest + self.table.largest


@dataclass(frozen=True, eq=False, slots=True)
class LatticeGaussianAt:
    """`certify.smoothing.law.LawAt` of rounded Gaussian noise around `lattice`, int32 (*shape)."""

    law: LatticeGaussian
    lattice: NDArray[np.int32]
    name: str = NAME
    stream: str = NOISE_V1
    ballots: int = 1

    @property
    def guarantee(self) -> Gaussian:
        """The formulas, charged for so many coordinates."""
        return Gaussian(self.law.sigma, self.law.table.charge(self.lattice.size), self.law.norm)

    def sample(self, key: bytes, start: int, stop: int) -> NDArray[np.int32]:
        """`X + Z` for the draws `[start, stop)`, int32 (stop - start, *shape), never clipped."""
        noise = self.law.table.sample(key, start, stop, self.lattice.size)
        return self.lattice + noise.reshape(stop - start, *self.lattice.shape)
