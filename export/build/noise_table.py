"""The exact table of the rounded Gaussian, which a bundle ships and `certify.smoothing.lattice_gaussian` checks when
it loads it.

Tails are computed with `erfc` at 60 digits, so the floor is the exact one. Where a sigma has many steps, that is done at
some of them, a hundredth of sigma apart, and the steps between follow from the normal density's Taylor series there, whose
coefficients are taken to as many digits: a table of a hundred thousand entries takes a second, and is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = 60
_ANCHORS = 100
"""In a sigma: so close together, thirty terms leave less than 2^-190 of the density."""
_TERMS = 30
_BITS = 512
"""Behind the point of the integers in which the series are added up."""


def rounded_gaussian_tails(sigma_steps: float) -> NDArray[np.uint64]:
    """`floor(2^64 P(Z > k))` for k = 0, 1, ... until it is 0, where `Z = round(sigma_steps * g)`, g standard normal."""
    import mpmath  # not installed where bundles are only served, and models looked at

    tails: list[int] = []
    with mpmath.workdps(DIGITS + 100):
        for tail in _tails(mpmath, sigma_steps, max(1, int(sigma_steps / _ANCHORS))):
            tails.append(tail)
            if tail == 0:
                break
    return np.array(tails, dtype=np.uint64)


def _tails(mpmath: Any, sigma_steps: float, together: int) -> Iterator[int]:
    sigma, anchor = mpmath.mpf(sigma_steps), 0
    while True:
        place = (anchor + mpmath.mpf(1) / 2) / sigma
        series = _series(mpmath, place, sigma) if together > 1 else []
        first = int(mpmath.floor(mpmath.ldexp(mpmath.erfc(place / mpmath.sqrt(2)) / 2, 64 + _BITS)))
        for step in range(together):
            lost = 0
            for coefficient in series:
                lost = (lost + coefficient) * step
            yield (first - lost) >> _BITS
        anchor += together


def _series(mpmath: Any, place: Any, sigma: Any) -> list[int]:
    """The coefficients, highest first, of what the tail loses in so many steps beyond a place (in sigmas)."""
    before, current = mpmath.mpf(0), mpmath.npdf(place)
    found = []
    for term in range(_TERMS):
        found.append(int(mpmath.floor(mpmath.ldexp(current / (term + 1) / sigma ** (term + 1), 64 + _BITS))))
        before, current = current, -(place * current + before) / (term + 1)
    return found[::-1]
