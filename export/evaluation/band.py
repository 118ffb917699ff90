"""What a sample says about the whole: bands about a curve, and intervals about a share.

Rows are taken to be independent and of the distribution that is spoken of; the answer to a row is a function of the row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.bounds.binomial import clopper_pearson_complement


@dataclass(frozen=True, slots=True)
class Between:
    """A share in the sample, with the bounds of the true one."""

    share: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.share:.3f} [{self.lower:.3f}, {self.upper:.3f}]"


def half_width(rows: int, confidence: float) -> float:
    """`sqrt(ln(2 / (1 - confidence)) / (2 rows))`: how far the true curve may lie from that of the sample.

    Claim: with probability at least `confidence`, no point of the curve `r -> P(V >= r)` is farther from the share of rows
    with `V >= r` than this, all r at once, whatever the distribution of V, atoms included (Dvoretzky, Kiefer and Wolfowitz
    1956, with the constant of Massart 1990, which is the best one).
    """
    return math.sqrt(math.log(2 / (1 - confidence)) / (2 * rows))


def curve(values: NDArray[np.float64], at: Sequence[float], confidence: float) -> list[Between]:
    """The share of `values` [n] at or above each of `at`, with a band that holds for all of them at once."""
    if not values.size:
        return [Between(0.0, 0.0, 1.0) for _ in at]
    half = half_width(values.size, confidence)
    shares = [float(np.mean(values >= each)) for each in at]
    return [Between(share, max(0.0, share - half), min(1.0, share + half)) for share in shares]


def share(hits: int, rows: int, confidence: float) -> Between:
    """A share with the exact interval of Clopper and Pearson (1934): it covers with probability `confidence` at least."""
    if not rows:
        return Between(0.0, 0.0, 1.0)
    level = (1 - confidence) / 2
    below = max(0.0, 1.0 - clopper_pearson_complement(rows, hits, level))
    return Between(hits / rows, below, min(1.0, clopper_pearson_complement(rows, rows - hits, level)))
