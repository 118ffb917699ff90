"""What a certificate promises, and the only way to make one: from a bound that knows its share, side and draws.

**certificate**: with probability at least 1 - alpha over the server's noise key, the smoothed classifier of this bundle
gives `class_index` for every grid input within `radius` (norm, caller's units) of the decoded input; this says nothing
of correctness, of the base network's label or of uncertified answers there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from certify.bounds import anytime, prior
from certify.bounds.prior import Prior
from certify.claims.decision import ARGMAX, Decision
from certify.smoothing.ball import Ball, larger
from certify.smoothing.law import HALF, Guarantee

Status = Literal["certified", "refuted", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaSplit:
    """How one alpha is shared by the statements of one answer; declared in the bundle, never by a request.

    On one event of probability at least `1 - alpha` every statement holds at every number of draws at once:
    `of_class` lower bounds of every class, `of_upper` the upper bound of the most probable class (of the two most
    probable ones, half each, where `Terms.two_sided`), `of_threshold` both
    sides of `P(score > threshold)`, `of_interval` both ends of the score interval (half each), `of_joint` lower bounds of
    every label of `certify.claims.joint`, `of_confidence` those of `certify.claims.confidence` (an equal part for each
    threshold).
    """

    of_class: float
    of_upper: float
    of_threshold: float = 0.0
    of_interval: float = 0.0
    of_joint: float = 0.0
    of_confidence: float = 0.0

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

    `law` says what bounds at the input prove, and by how much the drawn noise weakens them; `classes` counts the labels,
    without "none". `kappa_upper` is the prior of upper bounds and refutations, see `certify.bounds.anytime`; `prior` that of
    lower bounds of labels that the draws choose, where bundle and base pass give one, see `certify.bounds.prior`.
    `two_sided` says that a class is compared with the best of the others, see `certify.claims.two_sided`; upper bounds then
    are of rare classes as well, and have the prior of lower ones.
    """

    law: Guarantee
    alpha: float
    split: AlphaSplit
    classes: int
    kappa_upper: float = anytime.KAPPA_UPPER
    decision: Decision = ARGMAX
    prior: Prior | None = None
    two_sided: bool = False
    _needed: dict[tuple[tuple[float, ...], int], float] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.two_sided and not (self.decision.chosen and len(self.law.parts) == 1):
            raise ValueError("two-sided bounds compare the most probable label, under a law whose balls have one part")

    @property
    def of_one_upper(self) -> float:
        """The level of the upper bound of one class that is fixed before the draws; 0 where it has no share."""
        return self.alpha * self.split.of_upper / (2 if self.two_sided else 1)

    def lower_complement(self, draws: int, hits: int) -> float:
        """`1 - L` of a label with these hits, as drawn; on one event for all labels and numbers of draws. Rounded up."""
        level = self.alpha * self.split.of_class
        if not self.decision.chosen:
            return anytime.upper(draws, draws - hits, level, anytime.KAPPA)
        if self.prior is None:
            return anytime.chosen_lower_complement(draws, hits, level)
        return prior.chosen_lower_complement(self.prior, draws, hits, level)

    def upper(self, draws: int, hits: int) -> float:
        """`U` of a label with these hits or fewer, under the exact law, if it is one of those that have a share; else, or
        without draws, 1. It rises with the hits.
        """
        if self.of_one_upper <= 0 or not draws:
            return 1.0
        kappa = anytime.KAPPA if self.two_sided else self.kappa_upper
        return min(1.0, self.charged(anytime.upper(draws, hits, self.of_one_upper, kappa)))

    def charged(self, upper: float) -> float:
        """An upper bound of a probability under the exact law from one under the noise as drawn, rounded up."""
        return math.nextafter(upper + self.law.charge, math.inf)

    def needed(self, ball: Ball, side: int = 1) -> float:
        """What the decided label's probability, as drawn, has to exceed to prove the ball, or to leave it open.

        Every look asks for the same ball, so it is kept: a law's balls of equal sizes are equal.
        """
        found = self._needed.get((ball.sizes, side))
        if found is None:
            found = self._needed[ball.sizes, side] = self.law.needed(ball, self.decision.threshold, side)
        return found


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

    @property
    def others(self) -> float:
        """An upper bound of the probability of every other class."""
        return self.complement

    def ball(self, law: Guarantee, threshold: float = HALF) -> Ball:
        """The ball in which the class stays above the threshold of the decision, rounded down."""
        return law.radius(self.complement, threshold)

    def exceeds(self, threshold: float) -> bool:
        """Whether the bound, unrounded, lies above a threshold: the sign of a sum that is rounded once is exact."""
        return math.fsum((self.complement, threshold, -1.0)) < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One answer of a procedure. It can only be built from a `LowerBound`; without one it abstains.

    - `certified`: the target was proven (or, without a target, some radius; with a tolerance, the true radius of the
      smoothed classifier is moreover at most `radius + radius_tolerance`);
    - `refuted`: the most probable smoothed class has probability below what the target needs (`two_sided`: its lead over
      the second is less than that); it does not mean that an attack exists;
    - `undecided`: neither was shown with these draws.

    The ball is the best one proven at the stop, whatever the status; abstention is `class_index` None and radius 0.
    `p_a_lower` and `p_b_upper` bound the smoothed probabilities of the leader and of every other class, at the input.
    """

    status: Status
    procedure: str
    law: Guarantee
    bound: LowerBound | None
    p_b_upper: float
    draws: int
    lost: int
    target: Ball | None = None
    radius_tolerance: float | None = None
    threshold: float = HALF
    two_sided: bool = False

    @property
    def class_index(self) -> int | None:
        """The certified class, or None where the certificate abstains."""
        return None if self.bound is None else self.bound.class_index

    @property
    def p_a_lower(self) -> float | None:
        """The lower bound of the certified class."""
        return None if self.bound is None else self.bound.value

    @property
    def ball(self) -> Ball | None:
        """The proven ball, rounded down; at least the target where that was proven. None where it abstains."""
        if self.bound is None:
            return None
        proven = self.bound.ball(self.law, self.threshold)
        return larger(self.target, proven) if self.target and self.status == "certified" else proven

    @property
    def radius(self) -> float:
        """The size of the ball, in the caller's units; 0 where it abstains."""
        ball = self.ball
        return ball.size if ball else 0.0

    @property
    def target_radius(self) -> float | None:
        """The size of the target, if there is one."""
        return self.target.size if self.target else None


def certifying(bound: LowerBound, threshold: float = HALF) -> LowerBound | None:
    """The bound if it certifies a class at all, that is if it lies above one half, or the decision's threshold."""
    return bound if bound.exceeds(threshold) else None
