"""When to stop drawing and what is then proven: `target`, `best` and `fixed`.

A procedure is a pure function of counts. `receive` looks at a prefix of the stream and either asks for more draws
(None) or concludes; `conclude` says what these counts prove, whatever made the draws end. The anytime procedures stay
valid under every stop (target, deadline, cancel, overload); `fixed` claims something at its own number of draws only.
Every statement of the anytime procedures is true on the one event of `AlphaSplit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from certify import anytime, bounds
from certify.certificate import Certificate, Counts, LowerBound, Status, Terms, certifying

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
        bound = _anytime_bound(self.terms, counts)
        return _certificate(self.name, self.terms, counts, bound, "certified" if bound else "undecided")

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
        bound = _anytime_bound(self.terms, counts, self.terms.needed(self.target_radius) if reached else 0.0)
        return _certificate(self.name, self.terms, counts, bound, status, self.target_radius)

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
        return level > 0 and anytime.exceeds(counts.draws, misses, 1 - needed, level)

    def expected_remaining(self, counts: Counts) -> int:
        """Draws until the evidence is expected to decide, from the leader's share so far."""
        needed = min(self.terms.needed(self.target_radius), 1 - 1e-9)
        share = (max(counts.votes) + 0.5) / (counts.draws + 1) if counts.draws else needed
        rate = _divergence(share, needed) if counts.draws else 0.05
        wanted = (math.log(counts.draws + 2) - math.log(self.terms.alpha)) / max(rate, 1e-9)
        return int(min(self.max_draws - counts.draws, max(SLICE, wanted - counts.draws)))


@dataclass(frozen=True, slots=True)
class Fixed:
    """Clopper-Pearson at a number of draws fixed beforehand, on a stream of its own, alpha whole on the class.

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
            complement = bounds.clopper_pearson_chosen_complement(counts.draws, hits, level)
            bound = _bound(self.terms, counts, complement + self.terms.charge)
        return _certificate(self.name, self.terms, counts, bound, "certified" if bound else "undecided")

    def expected_remaining(self, counts: Counts) -> int:
        """All that is left."""
        return self.max_draws - counts.draws


def _anytime_bound(terms: Terms, counts: Counts, proven: float = 0.0) -> LowerBound | None:
    """The leader's bound by its confidence sequence, or `proven` where that is larger."""
    if not counts.draws:
        return None
    hits = counts.votes[counts.leader()]
    level = terms.alpha * terms.split.of_class
    complement = min(anytime.chosen_lower_complement(counts.draws, hits, level), 1 - proven)
    return _bound(terms, counts, complement + terms.charge)


def _bound(terms: Terms, counts: Counts, complement: float) -> LowerBound | None:
    level = terms.alpha * terms.split.of_class
    upward = min(1.0, math.nextafter(complement, math.inf))
    return certifying(LowerBound(class_index=counts.leader(), complement=upward, draws=counts.draws, alpha=level))


def _certificate(
    name: str, terms: Terms, counts: Counts, bound: LowerBound | None, status: Status, target: float | None = None
) -> Certificate:
    others = _upper(terms, counts)
    if bound is not None and others < bound.value:
        # Bounds that contradict each other show that the event failed: never resolved towards a favourite.
        bound, status, others = None, "undecided", 1.0
    return Certificate(
        status=status,
        procedure=name,
        sigma=terms.sigma,
        bound=bound,
        p_b_upper=others if bound is None else min(others, bound.complement),
        draws=counts.draws,
        lost=counts.lost,
        target_radius=target,
    )


def _upper(terms: Terms, counts: Counts) -> float:
    """A bound of every class probability, from the upper share: the largest class is one fixed event."""
    level = terms.alpha * terms.split.of_upper
    if level <= 0 or not counts.draws:
        return 1.0
    highest = anytime.upper(counts.draws, min(counts.draws, max(counts.votes) + counts.lost), level)
    return min(1.0, math.nextafter(highest + terms.charge, math.inf))


def _divergence(share: float, needed: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(share) from Bernoulli(needed), in nats."""
    return share * math.log(share / needed) + (1 - share) * math.log((1 - share) / (1 - needed))
