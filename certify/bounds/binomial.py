"""Fixed-n Clopper-Pearson bounds and directed normal functions, every float on the safe side.

A lower bound close to one loses its digits, so bounds are kept as the *complement* `q = 1 - L`, which is precise there.
The correctness of a bound never rests on a library's root finder: the exact tail is evaluated at the returned value and
the value is pushed outward until it passes (the pattern of dp_accounting's mechanism calibration). SciPy's `betaincc`
and `betainc` are relied on to a relative 3e-12, far inside the slack of `TAIL_SLACK`; tests compare with mpmath.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import betaincc, betainccinv, ndtr, ndtri

TAIL_SLACK = 1e-9
"""Relative distance that a proven tail keeps from its level: it covers the error of the incomplete beta function."""

_ULP = 2.0**-52
_NORMAL_SLACK = 16 * _ULP
_NARROW = 4e-13
_SMALLEST = 1e-300  # below it, doubles lose their digits


def quantile_below(p: float) -> float:
    """A number not above the standard normal quantile of `p`; `-inf` at `p <= 0`, `inf` only at `p >= 1`."""
    return _lowered(float(ndtri(min(max(p, 0.0), 1.0))))


def quantile_of_complement_below(q: float) -> float:
    """A number not above the normal quantile of `1 - q`, precise where `1 - q` would round to one."""
    return _lowered(-float(ndtri(min(max(q, 0.0), 1.0))))


def quantile_above(p: float) -> float:
    """A number not below the standard normal quantile of `p`."""
    return -quantile_of_complement_below(p)


def _lowered(quantile: float) -> float:
    return quantile - _NORMAL_SLACK * max(abs(quantile), _ULP) if math.isfinite(quantile) else quantile


def probability_above(z: float) -> float:
    """A number not below the standard normal distribution function at `z`, at most one."""
    if z >= 0:
        return min(1.0, float(ndtr(z)) + _NORMAL_SLACK)
    return max(float(ndtr(z)) * (1 + _NORMAL_SLACK * (1 + z * z)), _SMALLEST)


def probability_below(z: float) -> float:
    """A number not above the standard normal distribution function at `z`, at least zero."""
    value = float(ndtr(z))
    return max(0.0, value * (1 - _NORMAL_SLACK * (1 + z * z)) if z < 0 else value - _NORMAL_SLACK)


def clopper_pearson_complement(draws: int, hits: int, alpha: float) -> float:
    """The complement `1 - L` of the one-sided Clopper-Pearson lower bound, rounded up.

    For `hits ~ Binomial(draws, p)` with `draws` fixed before any draw was seen, `P(L > p) <= alpha`
    (Clopper and Pearson 1934): the exact tail `P(Binomial(draws, L) >= hits)` is at most `alpha`.
    """
    _check(draws, hits, alpha)
    misses = draws - hits
    if hits == 0:
        return 1.0
    if misses == 0:
        return min(1.0, -math.expm1(math.log(alpha) / draws) * (1 + 1e-14))
    complement = float(betainccinv(misses + 1, hits, alpha))
    return _pushed_up(complement, lambda q: bool(betaincc(misses + 1, hits, q) <= alpha * (1 - TAIL_SLACK)))


def clopper_pearson_upper(draws: int, hits: int, alpha: float) -> float:
    """The one-sided Clopper-Pearson upper bound, rounded up: `P(U < p) <= alpha` at a fixed number of draws."""
    return clopper_pearson_complement(draws, draws - hits, alpha)


def least_hits(draws: int, complement: float, alpha: float) -> int | None:
    """The least k with `P(Binomial(draws, 1 - complement) >= k) <= alpha`: hits that prove more than that probability.

    For a number of draws fixed beforehand; None if all draws being hits would not be enough. The exact tail is evaluated
    at the returned k.
    """

    def rare(hits: int) -> bool:
        return bool(betaincc(draws - hits + 1, hits, complement) <= alpha * (1 - TAIL_SLACK))

    if draws < 1 or not 0 < complement <= 1 or not rare(draws):
        return None
    return first_true(0, draws, rare)  # no hit at all has probability one


def first_true(below: int, found: int, holds: Callable[[int], bool]) -> int:
    """The least integer above `below` at which `holds`, which does at `found` and, once true, stays true."""
    while found - below > 1:
        middle = (below + found) // 2
        below, found = (below, middle) if holds(middle) else (middle, found)
    return found


def clopper_pearson_chosen_complement(draws: int, hits: int, alpha: float) -> float:
    """`1 - L` for a class that was chosen by the very draws that bound it, rounded up.

    The candidate value `m` is tested at level `alpha * m`: with `sum_c p_c <= 1` the chance that any class has
    `L_c > p_c` is at most `alpha`, whatever rule chose the class (the alpha*m theorem). The rejected values form an
    initial segment, since `I_m(k, n-k+1) / m` rises and then falls to one; no more than one hit proves nothing.
    """
    _check(draws, hits, alpha)
    if hits <= 1:
        return 1.0
    misses = draws - hits

    def proven(q: float) -> bool:
        return bool(betaincc(misses + 1, hits, q) <= alpha * (1 - q) * (1 - TAIL_SLACK))

    # The value at plain level alpha is a lower bound of q, and q = 1 - L cannot exceed 1.
    return bisect_complement(clopper_pearson_complement(draws, hits, alpha), proven)


def bisect_complement(unproven: float, proven: Callable[[float], bool]) -> float:
    """The least complement found for which `proven` holds, searched upwards from `unproven`; 1 if there is none.

    `proven` must hold on a final segment of [0, 1). The returned value itself has passed `proven`.
    """
    low, high = unproven, 1.0
    while low < (middle := 0.5 * (low + high)) < high and high - low > _NARROW * low:
        low, high = (low, middle) if proven(middle) else (middle, high)
    return high


def _pushed_up(value: float, proven: Callable[[float], bool]) -> float:
    step = 1e-13
    while value < 1.0 and not proven(value):
        value *= 1 + step
        step *= 2
    return min(value, 1.0)


def _check(draws: int, hits: int, alpha: float) -> None:
    if not 0 <= hits <= draws or draws < 1:
        raise ValueError(f"hits must lie between 0 and draws, and draws be at least 1; got {hits} of {draws}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1; got {alpha}")
