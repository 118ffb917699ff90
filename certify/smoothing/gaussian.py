"""What Gaussian noise proves: a probability moves by at most one unit of its normal quantile for each sigma of distance.

    Phi(Phi^-1(p) - |d| / sigma) <= p(x + d) <= Phi(Phi^-1(p) + |d| / sigma)          (Cohen et al. 2019)

for every function with values in [0, 1] and every d; half-spaces attain it. `p` above a threshold t hence stays there within
`sigma (Phi^-1(p) - Phi^-1(t))`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from certify.bounds import binomial
from certify.smoothing import margins
from certify.smoothing.ball import Ball, Euclidean
from certify.smoothing.law import HALF

NAME = "gaussian"
L2, SCALED = "l2", "scaled_l2"
"""The distances in which it reaches: in the caller's units, or in those of each column's own scale, which the noise has as
well: sigma is the same share of every scale, and dividing by them gives the theorem as it stands.
"""
LARGEST_REACH = 8
"""Radii in sigmas beyond which no number of draws proves anything."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """The formulas of `certify.smoothing.law.Guarantee`. `sigma` is in the units of `norm`, and rounded down."""

    sigma: float
    charge: float = 0.0
    norm: Euclidean = field(default=Euclidean(), compare=False)
    name: str = field(default=NAME, init=False)

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma: expected a positive number, got {self.sigma}")
        if not 0 <= self.charge < 1:
            raise ValueError("charge: expected 0 to 1")

    @property
    def parameters(self) -> Mapping[str, float | str]:
        """The noise's scale, and in which norm it reaches."""
        return {"sigma": self.sigma, "norm": self.norm.norm}

    @property
    def parts(self) -> tuple[Euclidean, ...]:
        """One: the l2 norm."""
        return (self.norm,)

    @property
    def reach(self) -> Ball:
        """Eight sigma."""
        return self._ball(LARGEST_REACH * self.sigma)

    def least(self, p: float, ball: Ball, complement: float | None = None) -> float:
        """`Phi(Phi^-1(p) - radius / sigma)`, rounded down."""
        own = binomial.quantile_below(p) if complement is None else binomial.quantile_of_complement_below(complement)
        return binomial.probability_below(math.nextafter(own - self._ratio_above(ball), -math.inf))

    def most(self, p: float, ball: Ball) -> float:
        """`Phi(Phi^-1(p) + radius / sigma)`, rounded up."""
        return binomial.probability_above(
            math.nextafter(binomial.quantile_above(p) + self._ratio_above(ball), math.inf)
        )

    def needed(self, ball: Ball, threshold: float = HALF, side: int = 1) -> float:
        """`Phi(Phi^-1(threshold) + radius / sigma)`, moved by the charge to the safe side: up to prove, down to refute."""
        if side > 0:
            reached = self._ratio_above(ball)
            if threshold != HALF:
                reached = math.nextafter(binomial.quantile_above(threshold) + reached, math.inf)
            return binomial.probability_above(reached) + self.charge
        reached = math.nextafter(ball.size / self.sigma, -math.inf)
        if threshold != HALF:
            reached = math.nextafter(binomial.quantile_below(threshold) + reached, -math.inf)
        return binomial.probability_below(reached) - self.charge

    def radius(self, complement: float, threshold: float = HALF) -> Ball:
        """`sigma (Phi^-1(1 - complement) - Phi^-1(threshold))`, rounded down."""
        if threshold == HALF:
            units = binomial.quantile_of_complement_below(complement)
        else:
            units = margins.above(complement, threshold)
        return self._ball(math.nextafter(self.sigma * units, 0.0) if units > 0 else 0.0)

    def radius_above(self, p: float, threshold: float = HALF) -> Ball:
        """`sigma (Phi^-1(p) - Phi^-1(threshold))`, rounded up."""
        units = binomial.quantile_above(p)
        if threshold != HALF:
            units = math.nextafter(units - binomial.quantile_below(threshold), math.inf)
        return self._ball_above(units)

    def lead(self, complement: float, rival: float, margin: float) -> Ball:
        """The largest l2 radius found; `sigma / 2 (Phi^-1(1 - complement) - Phi^-1(rival))` where the margin is 0."""
        if margin == 0:
            top, next_ = binomial.quantile_of_complement_below(complement), binomial.quantile_above(rival)
            units = 0.5 * math.nextafter(top - next_, -math.inf)
        else:
            units = margins.leading(complement, rival, margin)
        return self._ball(max(0.0, math.nextafter(self.sigma * units, -math.inf)))

    def lead_above(self, p: float, rival: float) -> Ball:
        """`sigma / 2 (Phi^-1(p) - Phi^-1(rival))`, rounded up."""
        apart = binomial.quantile_above(p) - binomial.quantile_below(rival)
        return self._ball_above(0.5 * math.nextafter(apart, math.inf))

    def _ball_above(self, units: float) -> Ball:
        # `sigma` is rounded down, by less than the last place that is added twice here.
        return self._ball(self.sigma * math.nextafter(max(0.0, units) * (1 + 2.0**-51), math.inf))

    def _ratio_above(self, ball: Ball) -> float:
        return math.nextafter(ball.size / self.sigma, math.inf)

    def _ball(self, size: float) -> Ball:
        return Ball(self.parts, (size,))


def gaussian_of(parameters: Mapping[str, float | str], charge: float) -> Gaussian:
    """The formulas that these parameters describe; `ValueError`, by the parameter's name, where they are none."""
    sigma, norm = parameters.get("sigma"), parameters.get("norm")
    if not isinstance(sigma, float) or not 0 < LARGEST_REACH * sigma < math.inf:
        raise ValueError(f"sigma: expected a positive number, {LARGEST_REACH} times which is finite")
    if norm not in (L2, SCALED):
        raise ValueError(f"norm: expected {L2!r} or {SCALED!r}")
    found = Gaussian(sigma, charge, Euclidean(norm=str(norm)))
    if set(parameters) != set(found.parameters):
        raise ValueError(f"parameters: expected {' and '.join(found.parameters)} alone")
    return found
