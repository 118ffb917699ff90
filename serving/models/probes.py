"""The inputs that a proof tries: what a row may be, what may stand beside it, and rows near ties. All of them seeded.

How many is fixed by how much a row costs, never by a clock, so that a proof passes or fails alike wherever it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.keys import KEY_BYTES
from export.bundle import Bundle

ProbeRows = NDArray[np.int32]
Votes = Callable[[ProbeRows], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried: `random` rows, `ties` pairs of rows near ties, `everywhere` rows seen in every slot of a batch."""

    random: int
    ties: int
    everywhere: int

    @classmethod
    def of(cls, multiplications: float) -> Effort:
        """Everything up to 2^24 multiplications a row (the bundled model takes 2^23.4), less for larger graphs."""
        if multiplications <= 2**24:
            return cls(random=2048, ties=5, everywhere=24)
        return cls(random=max(256, round(2048 * 2.0**24 / multiplications)), ties=3, everywhere=12)


def extremes(bundle: Bundle) -> ProbeRows:
    """Zeros, the lowest and the highest that noise can make of any input, and these two in turn."""
    spec = bundle.manifest.input
    lowest, highest = bundle.law.span(0, spec.top)
    low, high = np.full(spec.shape, lowest, np.int32), np.full(spec.shape, spec.tops + (highest - spec.top), np.int32)
    mixed = np.where(np.arange(low.size).reshape(spec.shape) % 2, low, high)
    return np.stack([np.zeros(spec.shape, np.int32), low, high, mixed])


def random_rows(bundle: Bundle, count: int, seed: int) -> ProbeRows:
    """Golden inputs, flat ones and pure chance in turn, each with fresh noise of the bundle's law."""
    generator, spec = np.random.default_rng(seed), bundle.manifest.input
    golden, rows = bundle.golden.noisy_input, np.empty((count, *spec.shape), np.int32)
    for index, row in enumerate(rows):
        kind = index % 3
        if kind == 0:
            row[...] = golden[generator.integers(len(golden))]
        elif kind == 1:
            row[...] = generator.integers(spec.top + 1)
        else:
            row[...] = generator.integers(0, spec.tops + 1, spec.shape)
        row[...] = bundle.law.at(row).sample(seed.to_bytes(KEY_BYTES, "little"), index, index + 1)[0]
    return np.clip(rows, *bundle.law.span(0, spec.top))  # golden inputs have had their noise before


def clean_rows(bundle: Bundle, count: int, seed: int) -> ProbeRows:
    """Inputs on the grid, as the base graph gets them: all zeros, all at the top, and chance."""
    generator, spec = np.random.default_rng(seed), bundle.manifest.input
    rows = generator.integers(0, spec.tops + 1, (max(count, 3), *spec.shape)).astype(np.int32)
    rows[0], rows[1] = 0, spec.tops
    return rows


def near_ties(rows: ProbeRows, votes: NDArray[np.int64], vote: Votes, pairs: int, batch: int) -> ProbeRows:
    """Both sides of a change of the vote on the way from one row to another, for up to `pairs` pairs; (0 to 2 pairs, ...).

    Each step tries `batch` points on all the ways together and keeps, of each way, the first part on which the vote changes;
    after five steps the two sides mostly differ in a coordinate or two.
    """
    chosen = _unlike(votes, min(pairs, batch // 4))
    if not chosen:
        return rows[:0]
    starts, ends = (rows[[pair[side] for pair in chosen]].astype(float) for side in (0, 1))
    low, high = np.zeros(len(chosen)), np.ones(len(chosen))
    points = batch // len(chosen)
    for _ in range(5):
        shares = np.linspace(low, high, points, axis=1)
        found = vote(_between(starts, ends, shares, batch))[: shares.size].reshape(shares.shape)
        changes = np.argmax(found[:, 1:] != found[:, :1], axis=1)
        each = np.arange(len(chosen))
        low, high = shares[each, changes], shares[each, changes + 1]
    return _between(starts, ends, np.stack([low, high], axis=1), 0)


def _unlike(votes: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    pairs = ((one, other) for other in range(len(votes)) for one in range(other) if votes[one] != votes[other])
    return [pair for pair, _ in zip(pairs, range(most), strict=False)]


def _between(
    starts: NDArray[np.float64], ends: NDArray[np.float64], shares: NDArray[np.float64], least: int
) -> ProbeRows:
    """The lattice points at these shares of each way, [ways, shares] in one row after another; padded to `least` rows."""
    wide = shares.reshape(*shares.shape, *([1] * (starts.ndim - 1)))
    points = np.rint(starts[:, None] + wide * (ends - starts)[:, None]).astype(np.int32).reshape(-1, *starts.shape[1:])
    return np.concatenate([points, np.repeat(points[-1:], max(0, least - len(points)), axis=0)])
