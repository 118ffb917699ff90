"""When to stop drawing and what is then proven: `target`, `best`, `precision`, `fixed`, or `off`.

What a request asks for is one frozen value, which is carried unchanged from the wire to the receipt. A procedure is a pure
function of counts. `receive` looks at a prefix of the stream and either asks for more draws (None) or concludes; `conclude`
says what these counts prove, whatever made the draws end. The anytime procedures stay valid under every stop (target,
deadline, cancel, overload); `fixed` claims something at its own number of draws only. Every statement of the anytime
procedures is true on the one event of `AlphaSplit`.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from certify.bounds import binomial
from certify.claims.certificate import AlphaSplit, Certificate, Status, Terms, class_alone
from certify.claims.conclusions import (
    anytime_bound,
    bound_of,
    certificate_of,
    largest,
    reaches,
    refutes,
)
from certify.claims.counts import Counts
from certify.smoothing.ball import Ball

SLICE = 32
"""Draws are counted in slices of this many, in index order; a procedure looks after each."""


class Procedure(Protocol):
    """What is asked for, and what counts prove of it."""

    name: ClassVar[str]
    """By which wires and receipts know it."""
    anytime: ClassVar[bool]
    """Whether its claims hold at every number of draws; if not, it has a stream of its own, and is not cut short."""
    sees: ClassVar[bool]
    """Whether it stops by what it sees, so that draws made beyond that are made for nothing."""

    def enough(self, terms: Terms, counts: Counts) -> bool:
        """Whether these draws decide, though more are allowed."""
        ...

    def conclude(self, terms: Terms, counts: Counts) -> Certificate:
        """What these counts prove, if no further draw can be had."""
        ...

    def remaining(self, terms: Terms, counts: Counts, left: int) -> int:
        """A forecast of the draws still needed, of those that are left; it has no part in any claim."""
        ...


@dataclass(frozen=True, slots=True)
class Off:
    """Nothing is asked of the votes."""

    name: ClassVar[str] = "off"
    anytime: ClassVar[bool] = True
    sees: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Best:
    """Spend all draws, or what the deadline allows, on the largest radius."""

    name: ClassVar[str] = "best"
    anytime: ClassVar[bool] = True
    sees: ClassVar[bool] = False

    def enough(self, terms: Terms, counts: Counts) -> bool:
        """Never: another draw may prove more."""
        return False

    def conclude(self, terms: Terms, counts: Counts) -> Certificate:
        """The radius of the leading class, by its confidence sequence at level `alpha * m`."""
        bound = anytime_bound(terms, counts)
        return certificate_of(self.name, terms, counts, bound, "certified" if bound else "undecided")

    def remaining(self, terms: Terms, counts: Counts, left: int) -> int:
        """All that is left."""
        return left


@dataclass(frozen=True, slots=True)
class Target:
    """Stop once the ball is proven or refuted."""

    ball: Ball

    name: ClassVar[str] = "target"
    anytime: ClassVar[bool] = True
    sees: ClassVar[bool] = True

    def enough(self, terms: Terms, counts: Counts) -> bool:
        """Whether the target is proven or refuted; where bounds have to be inverted for that, `_now_and_then`."""
        if terms.two_sided and not _now_and_then(counts):
            return False
        return reaches(terms, counts, self.ball) or refutes(terms, counts, self.ball)

    def conclude(self, terms: Terms, counts: Counts) -> Certificate:
        """What holds now: the status speaks of the target, the radius is the best one proven."""
        reached = reaches(terms, counts, self.ball)
        status: Status = "certified" if reached else "refuted" if refutes(terms, counts, self.ball) else "undecided"
        # What the target's test has proven counts, too, where the inverted bound lies a hair below it.
        bound = anytime_bound(terms, counts, terms.needed(self.ball) if reached else 0.0)
        return certificate_of(self.name, terms, counts, bound, status, target=self.ball)

    def remaining(self, terms: Terms, counts: Counts, left: int) -> int:
        """Draws until the evidence is expected to decide, from the leader's share so far: without a miss as few as can
        decide, and before the first draw what inputs need on average.
        """
        needed, hits = min(_needed(terms, counts, self.ball), 1 - 1e-9), counts.votes[terms.decision.label(counts)]
        if counts.draws == 0:
            rate = 0.05
        elif hits == counts.draws:
            rate = -math.log(needed)
        else:
            rate = _divergence((hits + 0.5) / (counts.draws + 1), needed)
        wanted = (math.log(counts.draws + 2) - math.log(terms.alpha)) / max(rate, 1e-9)
        return int(min(left, max(SLICE, wanted - counts.draws)))


@dataclass(frozen=True, slots=True)
class Precision:
    """Stop once the radius is known to within `tolerance` (caller's units).

    The radius of the smoothed classifier is that of its largest class probability, 0 where that is at most one half; where
    bounds are two-sided, that of its two largest. The bounds of the leader, and of the others, enclose it on the one event
    of `AlphaSplit`; without a share of the upper bound they never do. `certified`: the true radius is at most `radius +
    tolerance`.
    """

    tolerance: float

    name: ClassVar[str] = "precision"
    anytime: ClassVar[bool] = True
    sees: ClassVar[bool] = True

    def enough(self, terms: Terms, counts: Counts) -> bool:
        """Whether the radius is known well enough, `_now_and_then`."""
        return _now_and_then(counts) and self._uncertainty(terms, counts) <= self.tolerance

    def conclude(self, terms: Terms, counts: Counts) -> Certificate:
        """The radius proven so far; the status speaks of the tolerance, and of a class that is certified."""
        bound = anytime_bound(terms, counts)
        known = bound is not None and self._uncertainty(terms, counts) <= self.tolerance
        status: Status = "certified" if known else "undecided"
        return certificate_of(self.name, terms, counts, bound, status, radius_tolerance=self.tolerance)

    def _uncertainty(self, terms: Terms, counts: Counts) -> float:
        """How far apart the largest and the least radius are that the bounds allow, rounded up."""
        bound = anytime_bound(terms, counts)
        least = 0.0 if bound is None else bound.ball(terms.law, terms.decision.threshold).size
        return math.nextafter(largest(terms, counts).size - least, math.inf)

    def remaining(self, terms: Terms, counts: Counts, left: int) -> int:
        """Draws until the bounds are expected to be close enough, by the normal approximation at the leader's share."""
        share = (counts.votes[terms.decision.label(counts)] + 0.5) / (counts.draws + 1)
        wide = 2 * math.log(1 / terms.alpha) + math.log(counts.draws + 2)
        apart = 2 * _steepness(terms, share) / self.tolerance
        wanted = wide * share * (1 - share) * apart * apart  # a square written as a power would overflow as an error
        return int(min(left, max(SLICE, wanted - counts.draws)))


@dataclass(frozen=True, slots=True)
class Fixed:
    """Clopper-Pearson at a number of draws fixed beforehand, on a stream of its own, with the class's share of alpha alone.

    For comparison with the literature. The class is chosen by the same draws, at level `alpha * m`. Cut short, it
    claims nothing: a bound for a number of draws that was not fixed beforehand is void.
    """

    draws: int

    name: ClassVar[str] = "fixed"
    anytime: ClassVar[bool] = False
    sees: ClassVar[bool] = False

    def enough(self, terms: Terms, counts: Counts) -> bool:
        """Never before the fixed number of draws."""
        return False

    def conclude(self, terms: Terms, counts: Counts) -> Certificate:
        """The Clopper-Pearson certificate if all draws were counted, else an abstention."""
        bound = None
        if counts.draws == self.draws:
            hits = counts.votes[terms.decision.label(counts)]
            level = terms.alpha * terms.split.of_class
            bound = bound_of(terms, counts, binomial.clopper_pearson_chosen_complement(counts.draws, hits, level))
        return certificate_of(self.name, terms, counts, bound, "certified" if bound else "undecided")

    def remaining(self, terms: Terms, counts: Counts, left: int) -> int:
        """All that is left."""
        return left


Asked = Off | Best | Target | Precision | Fixed
"""What a request asks for."""
PROCEDURES: dict[str, type[Asked]] = {each.name: each for each in (Off, Target, Best, Precision, Fixed)}
"""Each by its name: the only place where a name means anything."""


def made(kind: type[Asked], ball: Ball | None, tolerance: float | None, draws: int) -> Asked:
    """The procedure of a kind; the ball is that of `target`, the tolerance of `precision`, the draws those of `fixed`."""
    if issubclass(kind, Target) and ball is not None:
        return Target(ball)
    if issubclass(kind, Precision) and tolerance is not None:
        return Precision(tolerance)
    if issubclass(kind, Fixed):
        return Fixed(draws)
    if issubclass(kind, Off | Best):
        return kind()
    raise ValueError(f"{kind.name} needs a ball or a tolerance")


@dataclass(frozen=True, slots=True)
class RunningProcedure:
    """A procedure under its terms, with at most `max_draws` draws: no draw at or beyond that index is ever counted."""

    procedure: Procedure
    terms: Terms
    max_draws: int

    def receive(self, counts: Counts) -> Certificate | None:
        """None to draw more, else the certificate: these draws decide, or no more are allowed."""
        if counts.draws >= self.max_draws or self.procedure.enough(self.terms, counts):
            return self.conclude(counts)
        return None

    def conclude(self, counts: Counts) -> Certificate:
        """What these counts prove, if no further draw can be had."""
        return self.procedure.conclude(self.terms, counts)

    def expected_remaining(self, counts: Counts) -> int:
        """A forecast of the draws still needed, for the scheduler; it has no part in any claim."""
        return self.procedure.remaining(self.terms, counts, self.max_draws - counts.draws)

    def shortened(self, max_draws: int) -> RunningProcedure:
        """The same with fewer draws allowed."""
        return replace(self, max_draws=max_draws)

    def under(self, terms: Terms) -> RunningProcedure:
        """The same under other terms, before the first look."""
        return replace(self, terms=terms)


def run(asked: Asked, terms: Terms, max_draws: int) -> RunningProcedure | None:
    """The procedure at work; None where nothing is asked. `fixed` knows its number of draws itself."""
    if isinstance(asked, Off):
        return None
    return RunningProcedure(asked, terms, asked.draws if isinstance(asked, Fixed) else max_draws)


def split_of(asked: Asked, declared: AlphaSplit, menu: int) -> AlphaSplit:
    """The shares of alpha in force: what the bundle declares, or a part of the menu, on the class alone."""
    return declared if asked.anytime else class_alone(menu)


def _now_and_then(counts: Counts) -> bool:
    """Whether these counts are looked at: after every slice at first, after every 32nd part of the draws later on. Bounds
    have to be inverted for a look, and any looks whatever are valid.
    """
    return counts.draws % (SLICE << max(0, (counts.draws // SLICE).bit_length() - 6)) == 0


def _needed(terms: Terms, counts: Counts, ball: Ball) -> float:
    """About what the decided label's probability has to exceed; beside the best of the others, as far as they are seen."""
    if not terms.two_sided or not counts.draws:
        return terms.needed(ball)
    rival = (heapq.nlargest(2, counts.votes)[1] + 0.5) / (counts.draws + 1)
    return terms.law.most(terms.law.most(rival, ball), ball)


def _steepness(terms: Terms, share: float) -> float:
    """About how fast the radius grows with the probability there, which is as fast on the other side of one half."""
    rare = min(share, 1 - share)
    less = 0.01 * rare
    return (terms.law.radius(rare - less).size - terms.law.radius(rare).size) / less


def _divergence(share: float, needed: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(share) from Bernoulli(needed), in nats."""
    return share * math.log(share / needed) + (1 - share) * math.log((1 - share) / (1 - needed))
