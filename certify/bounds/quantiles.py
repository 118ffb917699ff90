"""Bounds of any quantile of any distribution, valid at every number of draws at once, whatever makes them stop.

`h_q = inf{t: F(t) >= q}`. Values below `h_q` have probability `F(h_q-) <= q`, values above it `1 - F(h_q) <= 1 - q`, with
ties and atoms. So if `k` is the least number of hits by which the e-process of `certify.bounds.anytime` rejects `p <=
q`, then
fewer than `k` values lie below `h_q` and the k-th smallest is not below it, at all `n` together save with probability
`level` (Ville's inequality). Likewise from above, by symmetry. A fixed number of draws would allow closer ranks, which
fail when used at every look.

A lost value is NaN: minus infinity in a lower bound and infinity in an upper one, so it never helps.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from certify.bounds import anytime


def lower(values: NDArray[np.floating], q: float, level: float) -> float:
    """`L` with `P(some n has L > h_q) <= level`, from the first n `values`; minus infinity where nothing is proven."""
    return not_below(values, anytime.least_hits(values.size, math.nextafter(1 - q, math.inf), level))


def upper(values: NDArray[np.floating], q: float, level: float) -> float:
    """`U` with `P(some n has U < h_q) <= level`, from the first n `values`; infinity where nothing is proven."""
    return not_above(values, anytime.least_hits(values.size, q, level))


def not_below(values: NDArray[np.floating], rank: int | None) -> float:
    """The largest number that at least `rank` of the values are not below; minus infinity without a rank."""
    if rank is None:
        return -math.inf
    return ranked(np.where(np.isnan(values), -np.inf, values), values.size + 1 - rank)


def not_above(values: NDArray[np.floating], rank: int | None) -> float:
    """The smallest number that at least `rank` of the values are not above; infinity without a rank."""
    return math.inf if rank is None else ranked(np.where(np.isnan(values), np.inf, values), rank)


def ranked(values: NDArray[np.floating], rank: int) -> float:
    """The order statistic of 1-based rank."""
    return float(np.partition(values, rank - 1)[rank - 1])
