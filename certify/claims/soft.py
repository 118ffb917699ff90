"""Library offering: certified confidence from soft votes, the averaged class probabilities that a network gives under noise.

A soft vote `v_c` in [0, 1] is no coin toss, so counts of labels do not suffice for its mean. The e-process against
`E v <= m` is a mixture of constant bets (Waudby-Smith and Ramdas 2024 for the bets; the mixture is declared here for good):

    M(m) = sum_j w_j prod_i (1 - b_j + b_j v_i/m)              each factor has mean at most one if E v <= m

`m M(m)` is convex in m and at most one at m = 1, so at level `alpha m` the rejected values are an initial segment, one
evaluation proves a bound, and the class may be chosen by the same draws, since `sum_c E v_c <= 1`.

Votes are integers in units of 2^-40, rounded down, and lowered where rounding in the network makes them sum to more than
one. For the mean they are rounded to one of 257 values *at random*, by bits that the caller derives from key and draw index:
unbiased to the last bit. Hence a histogram of 257 bins a class suffices; workers add histograms. A row that is lost or
not finite votes for nothing.

**certified confidence**: with probability at least 1 - level over the noise key, `E v_c` is at least the returned number at
every input of a ball, at every number of draws at once (Salman et al. 2019, Kumar et al. 2020). It is the mean
confidence of the network under noise, not the probability of being right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from certify.bounds import anytime, binomial
from certify.claims.certificate import Terms
from certify.claims.confidence import lower_sum, mean_in
from certify.smoothing.ball import Ball

UNIT = 2**40
"""A vote of one."""
BINS = 257
_FINE = 32
_BETS = np.array([0.008, 0.0188, 0.0433, 0.0969, 0.2027, 0.376, 0.5881, 0.7719, 0.8891, 0.95, 1.0])
_LOG_WEIGHTS = np.log([*[0.09] * 10, 0.1])
_VALUES = np.arange(BINS) / (BINS - 1)
_TOO_MUCH = 1e-2


def exclusive(votes: NDArray[np.floating]) -> NDArray[np.int64]:
    """Votes (draws, classes) as integers of 2^-40, each row of sum at most `UNIT`; a row that is not finite is zero.

    Raises `ValueError` for votes that are no class probabilities: negative, or of a sum beyond rounding above one, as the
    votes for labels that do not exclude each other are.
    """
    known = np.isfinite(votes).all(axis=1, keepdims=True)
    found = np.where(known, votes, 0.0).astype(np.float64)
    total = found.sum(axis=1, keepdims=True)
    if (found < 0).any() or (total > 1 + _TOO_MUCH).any():
        raise ValueError("soft votes must be probabilities of classes that exclude each other: at least 0, of sum 1")
    # A whole unit less than one: far more than the sum and the product may be off.
    scale = np.where(total > 1, (1 - 1 / UNIT) / np.maximum(total, 1.0), 1.0)
    return np.floor(found * scale * UNIT).astype(np.int64)


def histogram(units: NDArray[np.int64], bits: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Counts (classes, 257) of the votes rounded to k/256, up with exactly the probability that is left over.

    `bits` (draws,): one uniform 32-bit word a draw, a function of key and draw index and of nothing else.
    """
    classes = units.shape[1]
    up = bits[:, None] < (units & (2**_FINE - 1))
    bins = (units >> _FINE) + up + BINS * np.arange(classes)
    return np.bincount(bins.ravel(), minlength=BINS * classes).reshape(classes, BINS)


def log_evidence(counts: NDArray[np.int64], complement: float) -> float:
    """The natural logarithm of the e-process against `E v <= 1 - complement`, for the histogram (257,) of one class.

    Double precision is within 1e-7 up to 10^7 draws; `anytime.GUARD` covers it.
    """
    hit = np.flatnonzero(counts)
    with np.errstate(divide="ignore"):  # the bet of everything is lost by a single vote of zero
        logs = np.log1p(_BETS[:, None] * (_VALUES[hit] / (1 - complement) - 1))
    terms = [math.fsum(counts[hit] * row) for row in logs]
    return float(np.logaddexp.reduce(_LOG_WEIGHTS + terms))


def lower_complement(counts: NDArray[np.int64], level: float) -> float:
    """`1 - L` where `P(some class and some n have L > E v) <= level`; 1 where nothing is proven. Rounded up."""
    draws = int(counts.sum())
    if not 0 < draws <= anytime.MAX_DRAWS:
        raise ValueError(f"expected 1 to {anytime.MAX_DRAWS} draws; got {draws}")

    def proven(q: float) -> bool:
        return 0 < q < 1 and math.log1p(-q) + log_evidence(counts, q) >= -math.log(level) + anytime.GUARD

    return binomial.bisect_complement(max(0.0, 1 - float(counts @ _VALUES) / draws), proven)


def reached(units: NDArray[np.int64], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Counts (classes, thresholds) of the votes at least as large as each threshold."""
    return np.stack([(units >= least).sum(axis=0) for least in _in_units(thresholds)], axis=1)


def threshold_confidence(
    terms: Terms, draws: int, hits: Sequence[int], thresholds: Sequence[float], level: float, ball: Ball
) -> float:
    """A lower bound of `E v` at every input of the ball, from how often one class reached each threshold.

    `E v >= sum_j (t_j - t_(j-1)) P(v >= t_j)`, `t_0 = 0`, with a certified bound of each probability. As many as
    `floor(1/t_j)` classes may reach `t_j` in one draw, so for a class chosen by the same draws the candidate value m is
    tested at `level m / (J floor(1/t_j))`. Thresholds are declared in the bundle.
    """
    proven = []
    for least, count in zip(_in_units(thresholds), hits, strict=True):
        share = level / (len(thresholds) * (UNIT // least))
        proven.append(mean_in(terms, anytime.chosen_lower_complement(draws, count, share), ball))
    return lower_sum(thresholds, proven)


def _in_units(thresholds: Sequence[float]) -> list[int]:
    rising = [0.0, *thresholds, math.nextafter(1.0, 2.0)]
    if not all(one < other for one, other in pairwise(rising)):
        raise ValueError(f"thresholds must rise from above 0 to at most 1; got {list(thresholds)}")
    return [math.ceil(threshold * UNIT) for threshold in thresholds]
