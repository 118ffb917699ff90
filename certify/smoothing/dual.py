"""Library offering: dual randomized smoothing in its sound form: two networks, each on one half of the coordinates.

The coordinates are split into two disjoint halves (a checkerboard, for images). G_l and G_r are the smoothed networks of the
halves, and the served class is the argmax of their sum: y, if `p_l + p_r > 1`, as no other class can then reach as much.
A perturbation moves the quantile of each by at most `|d_half| / sigma`, and `Phi(a) + Phi(b) > 1` exactly where
`a + b > 0`; under `|d_l|^2 + |d_r|^2 <= R^2` the two moves sum to at most `sqrt(2) R / sigma`. So with *signed* radii

    R = (r_l + r_r) / sqrt(2),   r_i = sigma Phi^-1(p_i)

which half-spaces attain. A half that lies below one half lowers R: `sqrt(r_l^2 + r_r^2)`, and clipping r_i at 0, are
unsound (Xia et al. 2025 is released with them). The two bounds are two claims: alpha / 2 each, at level
`alpha / 2 * m` where the draws choose the class; counts may not be scaled to more draws than were made.
"""

from __future__ import annotations

import math
from typing import Protocol

from certify.bounds import binomial


class HalfBound(Protocol):
    """A lower bound of a class's probability in one half; `certify.claims.certificate.LowerBound` is one."""

    @property
    def class_index(self) -> int:
        """The class."""
        ...

    @property
    def complement(self) -> float:
        """One less the bound, rounded up."""
        ...


_ROUNDED_UP_ROOT = math.nextafter(math.sqrt(2.0), 2.0)


def signed_units(bound: HalfBound) -> float:
    """`Phi^-1(p)`, rounded down: how far one half reaches in units of sigma, negative below one half."""
    return binomial.quantile_of_complement_below(bound.complement)


def radius(left: HalfBound, right: HalfBound, sigma: float) -> float:
    """The l2 radius, in the units of `sigma`, within which the sum of both halves keeps its class; 0 if none is proven.

    `left` and `right` bound the same class, each in its half; the certificate fails with probability at most
    the sum of their levels.
    """
    if left.class_index != right.class_index:
        raise ValueError(
            f"both halves must bound one class; got {left.class_index} and {right.class_index}:"
            " choose the class by the sum of the votes, then bound it in each half"
        )
    units = math.nextafter(signed_units(left) + signed_units(right), -math.inf)
    if units <= 0:
        return 0.0
    return math.nextafter(math.nextafter(sigma * units, 0.0) / _ROUNDED_UP_ROOT, 0.0)
