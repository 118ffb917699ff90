"""Confidence sequences for hard votes: valid at every number of draws at once, whatever makes them stop.

The e-process is the one-sided Beta mixture: under `p <= m` each alternative `q = 1 - u (1 - m)` gives a likelihood ratio, a
supermartingale, and so is their mixture over `u ~ Beta(kappa, 1)`, whatever `kappa`. By Ville's inequality
`P(some n has E_n(m) >= 1/a) <= a`. `E` depends on (draws, hits) alone: it is free of order, and workers add counts.

    E(m) = kappa B(k+1, e+kappa) I_{1-m}(e+kappa, k+1) / (m^k (1-m)^(e+kappa)),   k hits, e misses

`E` falls with m, and `m E(m)` is convex in m and at most one at m = 1, so the rejected values are an initial segment and one
evaluation at the returned bound proves it. Double precision agrees with 50-digit quadrature to 7e-8 up to 10^7 draws;
`GUARD` covers it.

A lower bound does not know how rare the misses are: `KAPPA`. An upper bound of the leading class counts its misses as hits,
and matters where that class falls short by little: `KAPPA_UPPER` has its mass there, and wants fewer draws to refute.
"""

from __future__ import annotations

import math
from functools import lru_cache

from scipy.special import betainc, betaln

from certify.bounds.binomial import bisect_complement, first_true

KAPPA = 0.5
KAPPA_UPPER = 8.0
GUARD = 1e-6
_LEAST_MASS = 1e-290  # below it doubles lose their digits
MAX_DRAWS = 10_000_000


def log_evidence(draws: int, hits: int, m: float, complement: float | None = None, kappa: float = KAPPA) -> float:
    """The natural logarithm of the e-process against `p <= m`; `-inf` where the hits do not exceed `draws * m`.

    `complement` is `1 - m` where it is known more precisely than `m`.
    """
    q = 1 - m if complement is None else complement
    if not (0 <= hits <= draws <= MAX_DRAWS):
        raise ValueError(f"expected 0 <= hits <= draws <= {MAX_DRAWS}; got {hits} of {draws}")
    if q <= 0 or m <= 0 or hits <= draws * (1 - q) or hits == 0:
        return -math.inf
    shape = draws - hits + kappa
    mass = float(betainc(shape, hits + 1, q))  # more hits than draws * m: a small tail only where q is next to nothing
    if mass < _LEAST_MASS:
        return -math.inf
    log_m = math.log(m) if complement is None else math.log1p(-q)
    log_beta = float(betaln(hits + 1, shape))
    return math.log(kappa) + log_beta + math.log(mass) - hits * log_m - shape * math.log(q)


def exceeds(draws: int, hits: int, m: float, alpha: float, kappa: float = KAPPA) -> bool:
    """Whether `p > m` is proven at plain level `alpha`, for one event fixed beforehand."""
    return log_evidence(draws, hits, m, kappa=kappa) >= -math.log(alpha) + GUARD


@lru_cache(maxsize=4096)
def least_hits(draws: int, m: float, alpha: float) -> int | None:
    """The least number of hits that proves `p > m` at plain level `alpha`; None if even `draws` hits do not.

    Every answer of a bundle asks for one of few, so they are kept.
    """
    if alpha <= 0 or not exceeds(draws, draws, m, alpha):
        return None
    return first_true(0, draws, lambda hits: exceeds(draws, hits, m, alpha))


def chosen_exceeds(draws: int, hits: int, m: float, alpha: float, complement: float | None = None) -> bool:
    """Whether `p > m` is proven at level `alpha * m`: for any class of exclusive votes, chosen from the same draws."""
    log_m = math.log(m) if complement is None else math.log1p(-complement)
    return log_m + log_evidence(draws, hits, m, complement) >= -math.log(alpha) + GUARD


def chosen_lower_complement(draws: int, hits: int, alpha: float) -> float:
    """`1 - L` where `P(some class and some n have L > p) <= alpha`; 1 where nothing is proven. Rounded up."""
    misses = draws - hits
    return bisect_complement(
        misses / draws, lambda q: 0 < q < 1 and chosen_exceeds(draws, hits, 1 - q, alpha, complement=q)
    )


def upper(draws: int, hits: int, alpha: float, kappa: float = KAPPA_UPPER) -> float:
    """`U` with `P(some n has U < p) <= alpha`, for one event fixed beforehand; 1 where nothing is proven.

    The lower bound of the misses: `U = 1 - (lower bound of 1 - p)`, at plain level. It rises with the hits.
    """
    return bisect_complement(hits / draws, lambda q: 0 < q < 1 and _misses_exceed(draws, draws - hits, q, alpha, kappa))


def _misses_exceed(draws: int, misses: int, q: float, alpha: float, kappa: float) -> bool:
    return log_evidence(draws, misses, 1 - q, complement=q, kappa=kappa) >= -math.log(alpha) + GUARD
