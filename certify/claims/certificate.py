"""What a certificate promises, and the only way to make one: from a bound that knows its share, side and draws.

**certificate**: with probability at least 1 - alpha over the server's noise key, the smoothed classifier of this bundle
gives `class_index` for every grid input within `radius` (norm, caller's units) of the decoded input; this says nothing
of correctness, of the base network's label or of uncertified answers there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from certify.bounds import anytime, binomial

Status = Literal["certified", "refuted", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaSplit:
    """How one alpha is shared by the statements of one answer; declared in the bundle, never by a request.

    On one event of probability at least `1 - alpha` every statement holds at every number of draws at once:
    `of_class` lower bounds of every class, `of_upper` the upper bound of the most probable class, `of_threshold` both
    sides of `P(score > threshold)`, `of_interval` both ends of the score interval (half each), `of_joint` lower bounds of
    every label of `certify.claims.joint`.
    """

    of_class: float
    of_upper: float
    of_threshold: float = 0.0
    of_interval: float = 0.0
    of_joint: float = 0.0

    def __post_init__(self) -> None:
        shares = [getattr(self, field.name) for field in fields(self)]
        # None above 1 is added up: such a sum may be too large for a float.
        in_range = all(0 <= share <= 1 for share in shares)
        if not in_range or self.of_class <= 0 or math.fsum(shares) > 1 + 1e-12:
            raise ValueError(f"the shares of alpha must not be negative, nor sum to more than 1; got {shares}")


def class_alone(menu: int) -> AlphaSplit:
    """The split of the `fixed` procedure, which claims the class alone, with one of `menu` declared numbers of draws.

    Each number has a stream of its own, and so a chance of its own to be wrong: whoever asks for all of them has all.
    """
    if menu < 1:
        raise ValueError(f"a menu of draws has one entry or more; got {menu}")
    return AlphaSplit(of_class=1 / menu, of_upper=0.0)


WHOLE_ON_CLASS = class_alone(1)
"""The split of the `fixed` procedure where there is one number of draws only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What bundle and request fix before the first draw.

    `sigma` is in the caller's units and rounded down; `charge` is the total variation `d * eps` of the drawn noise,
    by which every bound of a probability is weakened; `classes` counts the labels, without "none". `kappa_upper` is the
    prior of upper bounds and refutations, see `certify.bounds.anytime`.
    """

    sigma: float
    alpha: float
    split: AlphaSplit
    charge: float
    classes: int
    kappa_upper: float = anytime.KAPPA_UPPER

    def charged(self, upper: float) -> float:
        """An upper bound of a probability under the exact law from one under the noise as drawn, rounded up."""
        return math.nextafter(upper + self.charge, math.inf)

    def needed(self, radius: float, sign: int = 1) -> float:
        """`Phi(radius / sigma)` moved by the charge to the safe side: up to prove (`sign` 1), down to refute (-1)."""
        ratio = radius / self.sigma
        if sign > 0:
            return binomial.probability_above(math.nextafter(ratio, math.inf)) + self.charge
        return binomial.probability_below(math.nextafter(ratio, -math.inf)) - self.charge


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was counted over the first `draws` draws of a stream: `votes[c]` for class c, and `lost` without a result.

    Votes for "none" (a non-finite logit) are in `draws` only. A lost draw is a miss in every lower bound and a hit in
    every upper bound. Votes exclude each other, one a draw at most: labels that may be given together are refused.
    """

    draws: int
    votes: tuple[int, ...]
    lost: int = 0

    def __post_init__(self) -> None:
        if min(*self.votes, self.lost) < 0 or sum(self.votes) + self.lost > self.draws:
            raise ValueError(
                f"expected at most one vote a draw, of labels that exclude each other; got {sum(self.votes)} votes and"
                f" {self.lost} lost of {self.draws} draws"
            )

    def leader(self) -> int:
        """The class with most votes, the first of equals."""
        return max(range(len(self.votes)), key=self.votes.__getitem__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerBound:
    """`P(class) >= 1 - complement` at the input, at level `alpha`; `complement` is rounded up and bears the charge."""

    class_index: int
    complement: float
    draws: int
    alpha: float

    @property
    def value(self) -> float:
        """The bound itself, rounded down."""
        return max(0.0, math.nextafter(1.0 - self.complement, 0.0))

    def radius(self, sigma: float) -> float:
        """`sigma * Phi^-1(1 - complement)`, rounded down; 0 unless the bound is above one half (Cohen et al. 2019)."""
        quantile = binomial.quantile_of_complement_below(self.complement)
        return math.nextafter(sigma * quantile, 0.0) if quantile > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One answer of a procedure. It can only be built from a `LowerBound`; without one it abstains.

    - `certified`: the target radius was proven (or, without a target, some radius; with a `radius_tolerance`, the true
      radius of the smoothed classifier is moreover at most `radius + radius_tolerance`);
    - `refuted`: the most probable smoothed class has probability below what `target_radius` needs; it does not mean
      that an attack exists;
    - `undecided`: neither was shown with these draws.

    The radius is the best one proven at the stop, whatever the status; abstention is `class_index` None and radius 0.
    `p_a_lower` and `p_b_upper` bound the smoothed probabilities of the leader and of every other class, at the input.
    """

    status: Status
    procedure: str
    sigma: float
    bound: LowerBound | None
    p_b_upper: float
    draws: int
    lost: int
    target_radius: float | None = None
    radius_tolerance: float | None = None
    norm: str = "l2"

    @property
    def class_index(self) -> int | None:
        """The certified class, or None where the certificate abstains."""
        return None if self.bound is None else self.bound.class_index

    @property
    def p_a_lower(self) -> float | None:
        """The lower bound of the certified class."""
        return None if self.bound is None else self.bound.value

    @property
    def radius(self) -> float:
        """The proven radius in the caller's units, rounded down; at least the target where that was proven."""
        if self.bound is None:
            return 0.0
        proven = self.bound.radius(self.sigma)
        return max(proven, self.target_radius or 0.0) if self.status == "certified" else proven


def certifying(bound: LowerBound) -> LowerBound | None:
    """The bound if it certifies a class at all, that is if it lies above one half."""
    return bound if binomial.quantile_of_complement_below(bound.complement) > 0 else None
