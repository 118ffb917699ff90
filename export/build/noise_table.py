"""The exact table of the rounded Gaussian, which a bundle ships and `certify.smoothing.lattice_gaussian` checks when
it loads it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIGITS = 60


def rounded_gaussian_tails(sigma_steps: float) -> NDArray[np.uint64]:
    """`floor(2^64 P(Z > k))` for k = 0, 1, ... until it is 0, where `Z = round(sigma_steps * g)`, g standard normal.

    Computed with `erfc` at 60 digits, so the floor is the exact one.
    """
    import mpmath  # not installed where bundles are only served, and models looked at

    tails: list[int] = []
    with mpmath.workdps(DIGITS):
        scale = mpmath.mpf(sigma_steps) * mpmath.sqrt(2)
        while not tails or tails[-1] > 0:
            tails.append(int(mpmath.floor(mpmath.erfc((len(tails) + mpmath.mpf(1) / 2) / scale) / 2 * 2**64)))
    return np.array(tails, dtype=np.uint64)
