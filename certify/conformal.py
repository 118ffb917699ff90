"""Calibrated decisions from the scores of held-out inputs: the conformal p-value and the PAC threshold.

Scores are larger the farther an input lies outside the training distribution. Both results take the calibration scores
to be independent of the model and of its fit, and scored exactly as served: same graph, noise and number of draws, the
noise of each calibration row keyed by the row.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc

from certify.bounds import TAIL_SLACK


def p_value(calibration: NDArray[np.float64], score: float) -> float:
    """The conformal p-value `(1 + #{C_i >= score}) / (m + 1)` of one score against m sorted calibration scores.

    Claim: for each a, `P(p <= a) <= a`, over calibration and input together (Vovk et al. 2005). Assumption: the input is
    exchangeable with the calibration inputs, which excludes attacks. Ties count against the input, and so never make p
    too small. A NaN score counts as +inf, the farthest there is.
    """
    return p_value_of_count(count_at_least(calibration, score), calibration.size)


def count_at_least(calibration: NDArray[np.float64], score: float) -> int:
    """How many of the sorted calibration scores are at least `score`: all that the p-value depends on."""
    farthest = math.inf if math.isnan(score) else score
    return calibration.size - int(np.searchsorted(calibration, farthest, side="left"))


def p_value_of_count(at_least: int, size: int) -> float:
    """The conformal p-value where `at_least` of `size` calibration scores are at least the score."""
    return (1 + at_least) / (size + 1)


def alarm_rank(size: int, far: float) -> int:
    """The 1-based rank `k = ceil((m + 1) (1 - far))`: `p <= far` if and only if the score exceeds the k-th smallest.

    It is the rank at which `p_value` itself, a rounded fraction, falls to `far`. Raises `ValueError` where m scores
    cannot give so small a p-value: such a level would flag nothing, and so certify everything as in distribution.
    """
    if not 0 < far < 1:
        raise ValueError(f"far must lie strictly between 0 and 1; got {far}")
    allowed = round(far * (size + 1))
    allowed -= allowed / (size + 1) > far
    if size < 1 or allowed < 1:
        raise ValueError(
            f"{size} calibration scores give no p-value of {far:g} or less; at least {least_size(far)} are needed"
        )
    return size + 1 - allowed


def least_size(far: float) -> int:
    """The least number of calibration scores whose p-values can be `far` or less: `m >= 1 / far - 1`."""
    size = max(1, math.ceil(1 / far) - 2)
    while 1 / (size + 1) > far:
        size += 1
    return size


def pac_threshold(calibration: NDArray[np.float64], far: float, eta: float) -> float:
    """The least calibration score that bounds the false-alarm rate by `far`, except with probability `eta`.

    Claim: with probability at least `1 - eta` over m independent calibration scores, a fresh score from the same
    distribution exceeds the threshold with probability at most `far`. The distribution is arbitrary: ties and atoms are
    covered. Source: the tolerance limits of Wilks (1941), the order statistic with 1-based rank `pac_rank(m, far, eta)`.
    """
    if calibration.ndim != 1 or np.isnan(calibration).any():
        raise ValueError("expected one vector of calibration scores without NaN; score a NaN as +inf")
    rank = pac_rank(calibration.size, far, eta)
    return float(np.partition(calibration, rank - 1)[rank - 1])


def pac_rank(size: int, far: float, eta: float) -> int:
    """The least k (1-based) with `P(Binomial(size, 1 - far) >= k) <= eta`.

    Let h be the `1 - far` quantile of the score. The k-th smallest score lies below h only if k scores do, each with
    probability at most `1 - far`; that has probability at most `eta`, and a threshold of at least h is exceeded with
    probability at most `far`. The tail is evaluated at the returned k, with slack for the error of the incomplete beta
    function. It exists if and only if `(1 - far)^size <= eta`; else `ValueError` says how many scores are needed.
    """
    if not (0 < far < 1 and 0 < eta < 1):
        raise ValueError(f"far and eta must lie strictly between 0 and 1; got {far} and {eta}")
    if size < 1 or not _rare(size, size, far, eta):
        wanted = math.ceil(math.log(eta) / math.log1p(-far))
        raise ValueError(
            f"{size} calibration scores cannot bound a false-alarm rate of {far:g} at eta={eta:g};"
            f" at least {wanted} are needed"
        )
    low, high = 0, size  # k = 0 has probability one
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _rare(size, middle, far, eta) else (middle, high)
    return high


def _rare(size: int, rank: int, far: float, eta: float) -> bool:
    """Whether `P(Binomial(size, 1 - far) >= rank) <= eta`, surely; `far` itself goes in, `1 - far` would be rounded."""
    return bool(betaincc(size - rank + 1, rank, far) <= eta * (1 - TAIL_SLACK))
