"""When to stop drawing and what is then proven: `target`, `best`, `precision` and `fixed`.

A procedure is a pure function of counts. `receive` looks at a prefix of the stream and either asks for more draws
(None) or concludes; `conclude` says what these counts prove, whatever made the draws end. The anytime procedures stay
valid under every stop (target, deadline, cancel, overload); `fixed` claims something at its own number of draws only.
Every statement of the anytime procedures is true on the one event of `AlphaSplit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from certify.bounds import anytime, binomial
from certify.claims.certificate import Certificate, Counts, Status, Terms
from certify.claims.conclusions import anytime_bound, bound_of, certificate_of, most_probable_above

SLICE = 32
"""Draws are counted in slices of this many, in index order; a procedure looks after each."""


class Procedure(Protocol):
    """When to stop and what is proven."""

    @property
    def max_draws(self) -> int:
        """No draw at or beyond this index is ever counted."""
        ...

    def receive(self, counts: Counts) -> Certificate | None:
        """None to draw more, else the certificate: these draws decide, or no more are allowed."""
        ...

    def conclude(self, counts: Counts) -> Certificate:
        """What these counts prove, if no further draw can be had."""
        ...

    def expected_remaining(self, counts: Counts) -> int:
        """A forecast of the draws still needed, for the scheduler; it has no part in any claim."""
        ...


@dataclass(frozen=True, slots=True)
class Best:
    """Spend `max_draws`, or what the deadline allows, on the largest radius."""

    terms: Terms
    max_draws: int
    name: str = "best"

    def receive(self, counts: Counts) -> Certificate | None:
        """The certificate once `max_draws` are counted."""
        return self.conclude(counts) if counts.draws >= self.max_draws else None

    def conclude(self, counts: Counts) -> Certificate:
        """The radius of the leading class, by its confidence sequence at level `alpha * m`."""
        bound = anytime_bound(self.terms, counts)
        return certificate_of(self.name, self.terms, counts, bound, "certified" if bound else "undecided")

    def expected_remaining(self, counts: Counts) -> int:
        """All that is left."""
        return self.max_draws - counts.draws


@dataclass(frozen=True, slots=True)
class Target:
    """Stop once `target_radius` is proven or refuted, or at `max_draws`."""

    terms: Terms
    max_draws: int
    target_radius: float
    name: str = "target"

    def receive(self, counts: Counts) -> Certificate | None:
        """The certificate once the target is proven, refuted, or no more draws are allowed."""
        if self._reached(counts) or self._refuted(counts) or counts.draws >= self.max_draws:
            return self.conclude(counts)
        return None

    def conclude(self, counts: Counts) -> Certificate:
        """What holds now: the status speaks of the target, the radius is the best one proven."""
        reached = self._reached(counts)
        status: Status = "certified" if reached else "refuted" if self._refuted(counts) else "undecided"
        # What the target's test has proven counts, too, where the inverted bound lies a hair below it.
        bound = anytime_bound(self.terms, counts, self.terms.needed(self.target_radius) if reached else 0.0)
        return certificate_of(self.name, self.terms, counts, bound, status, target_radius=self.target_radius)

    def _reached(self, counts: Counts) -> bool:
        needed = self.terms.needed(self.target_radius)
        hits = counts.votes[counts.leader()]
        return needed < 1 and anytime.chosen_exceeds(
            counts.draws, hits, needed, self.terms.alpha * self.terms.split.of_class
        )

    def _refuted(self, counts: Counts) -> bool:
        """Whether the leader, and so every class, has probability below what the target needs."""
        level = self.terms.alpha * self.terms.split.of_upper
        needed = self.terms.needed(self.target_radius, sign=-1)
        misses = counts.draws - counts.votes[counts.leader()] - counts.lost
        return level > 0 and anytime.exceeds(counts.draws, misses, 1 - needed, level, self.terms.kappa_upper)

    def expected_remaining(self, counts: Counts) -> int:
        """Draws until the evidence is expected to decide, from the leader's share so far: without a miss as few as can
        decide, and before the first draw what inputs need on average.
        """
        needed, hits = min(self.terms.needed(self.target_radius), 1 - 1e-9), max(counts.votes)
        if counts.draws == 0:
            rate = 0.05
        elif hits == counts.draws:
            rate = -math.log(needed)
        else:
            rate = _divergence((hits + 0.5) / (counts.draws + 1), needed)
        wanted = (math.log(counts.draws + 2) - math.log(self.terms.alpha)) / max(rate, 1e-9)
        return int(min(self.max_draws - counts.draws, max(SLICE, wanted - counts.draws)))


@dataclass(frozen=True, slots=True)
class Precision:
    """Stop once the radius is known to within `radius_tolerance` (caller's units), or at `max_draws`.

    The radius of the smoothed classifier is `sigma Phi^-1` of its largest class probability, 0 where that is at most one
    half. The leader's lower bound and the upper bound of every class enclose it on the one event of `AlphaSplit`; without
    a share of the upper bound they never do. `certified`: the true radius is at most `radius + radius_tolerance`.
    """

    terms: Terms
    max_draws: int
    radius_tolerance: float
    name: str = "precision"

    def receive(self, counts: Counts) -> Certificate | None:
        """The certificate once the radius is known well enough, or no more draws are allowed.

        It looks after every slice at first and after every 32nd part of the draws later on: two bounds have to be
        inverted for a look, and any looks whatever are valid.
        """
        if counts.draws >= self.max_draws:
            return self.conclude(counts)
        apart = SLICE << max(0, (counts.draws // SLICE).bit_length() - 6)
        known = counts.draws % apart == 0 and self._uncertainty(counts) <= self.radius_tolerance
        return self.conclude(counts) if known else None

    def conclude(self, counts: Counts) -> Certificate:
        """The radius proven so far; the status speaks of the tolerance, and of a class that is certified."""
        bound = anytime_bound(self.terms, counts)
        known = bound is not None and self._uncertainty(counts) <= self.radius_tolerance
        status: Status = "certified" if known else "undecided"
        return certificate_of(self.name, self.terms, counts, bound, status, radius_tolerance=self.radius_tolerance)

    def _uncertainty(self, counts: Counts) -> float:
        """How far apart the largest and the least radius are that the bounds allow, rounded up."""
        bound = anytime_bound(self.terms, counts)
        least = 0.0 if bound is None else bound.radius(self.terms.sigma)
        most = max(0.0, binomial.quantile_above(most_probable_above(self.terms, counts)))
        # `sigma` is rounded down, by less than the last place that is added twice here.
        return math.nextafter(self.terms.sigma * math.nextafter(most * (1 + 2.0**-51), math.inf) - least, math.inf)

    def expected_remaining(self, counts: Counts) -> int:
        """Draws until the bounds are expected to be close enough, by the normal approximation at the leader's share."""
        share = (max(counts.votes) + 0.5) / (counts.draws + 1)
        spread = 2 * math.pi * share * (1 - share) * math.exp(binomial.quantile_below(share) ** 2)
        wide = 2 * math.log(1 / self.terms.alpha) + math.log(counts.draws + 2)
        wanted = spread * wide * (2 * self.terms.sigma / self.radius_tolerance) ** 2
        return int(min(self.max_draws - counts.draws, max(SLICE, wanted - counts.draws)))


@dataclass(frozen=True, slots=True)
class Fixed:
    """Clopper-Pearson at a number of draws fixed beforehand, on a stream of its own, with the class's share of alpha alone.

    For comparison with the literature. The class is chosen by the same draws, at level `alpha * m`. Cut short, it
    claims nothing: a bound for a number of draws that was not fixed beforehand is void.
    """

    terms: Terms
    max_draws: int
    name: str = "fixed"

    def receive(self, counts: Counts) -> Certificate | None:
        """The certificate at exactly the fixed number of draws."""
        return self.conclude(counts) if counts.draws >= self.max_draws else None

    def conclude(self, counts: Counts) -> Certificate:
        """The Clopper-Pearson certificate if all draws were counted, else an abstention."""
        bound = None
        if counts.draws == self.max_draws:
            hits = counts.votes[counts.leader()]
            level = self.terms.alpha * self.terms.split.of_class
            complement = binomial.clopper_pearson_chosen_complement(counts.draws, hits, level)
            bound = bound_of(self.terms, counts, complement)
        return certificate_of(self.name, self.terms, counts, bound, "certified" if bound else "undecided")

    def expected_remaining(self, counts: Counts) -> int:
        """All that is left."""
        return self.max_draws - counts.draws


def _divergence(share: float, needed: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(share) from Bernoulli(needed), in nats."""
    return share * math.log(share / needed) + (1 - share) * math.log((1 - share) / (1 - needed))
