"""The two-sided certificate, the class against the best of the others: it reaches farther where misses spread over classes.

    R = sigma/2 (Phi^-1(p_A) - Phi^-1(p_B)),   p_B >= every p_c, c != A        (Cohen et al. 2019, theorem 1)
    p_B = min(max_{c != A} U_c, 1 - p_A),      radius only if p_A > p_B

`p_A` is tested at level `alpha_A m`, so A may be chosen by the same draws; every `U_c` is at plain level `alpha_B`, without
a factor for the number of classes. The total is `alpha_A + 2 alpha_B`: where the lower bounds hold and A is the most
probable class, only the upper bound of the second class can fail to make p_B false; where A is another, only that of
the first, and each of these is one fixed class. `AlphaSplit.of_class` is alpha_A, half of `AlphaSplit.of_upper` is alpha_B:
declared beforehand, as is the use of this certificate in place of the one-sided one, for the better of two is neither.

On the same event no class leads any other by more than `U` of the leader and `L` of the second allow: `U` is at least that
of the most probable class, and two classes have `L` or more. So a target is refuted, and a radius known from above.

**certificate, two-sided**: with probability at least 1 - alpha_A - 2 alpha_B the smoothed classifier gives `class_index`
at every input within `radius`, though `p_A` may be below one half. Votes for "none" are a class that can win.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from certify.bounds import binomial
from certify.claims.certificate import LowerBound, Terms
from certify.claims.counts import Counts
from certify.smoothing.ball import Ball
from certify.smoothing.law import HALF, Guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSidedBound(LowerBound):
    """`P(class) >= 1 - complement > p_b >= P(c)` for every other c, at the input; both rounded up, with the charge."""

    p_b: float

    @property
    def others(self) -> float:
        """See `LowerBound.others`."""
        return self.p_b

    def ball(self, law: Guarantee, threshold: float = HALF) -> Ball:
        """The ball in which the class leads, rounded down."""
        return law.lead(self.complement, self.p_b, 0.0)


def at_any_time(terms: Terms, counts: Counts) -> TwoSidedBound | None:
    """The bound of the leader that holds at every number of draws at once; None where it does not lead for certain."""
    if not counts.draws:
        return None
    complement = terms.lower_complement(counts.draws, counts.votes[counts.leader()])
    return _bound(terms, counts, complement, terms.upper(counts.draws, _rival(counts)))


def at_fixed_draws(terms: Terms, counts: Counts) -> TwoSidedBound | None:
    """The bound of the leader by Clopper-Pearson, for a number of draws that was fixed before any draw was seen."""
    if not counts.draws:
        return None
    hits, level = counts.votes[counts.leader()], terms.alpha * terms.split.of_class
    complement, others = binomial.clopper_pearson_chosen_complement(counts.draws, hits, level), 1.0
    if terms.of_one_upper > 0:
        others = terms.charged(binomial.clopper_pearson_upper(counts.draws, _rival(counts), terms.of_one_upper))
    return _bound(terms, counts, complement, others)


def reaches(terms: Terms, counts: Counts, ball: Ball) -> bool:
    """Whether the leader is proven to lead in the ball; valid whatever made the draws stop."""
    bound = at_any_time(terms, counts)
    return bound is not None and ball <= bound.ball(terms.law)


def refutes(terms: Terms, counts: Counts, ball: Ball) -> bool:
    """Whether the most probable class is proven to lead the second, at the input, by less than the ball needs."""
    return not ball <= largest(terms, counts)


def largest(terms: Terms, counts: Counts) -> Ball:
    """A ball at least as large as that in which the most probable class leads the second, by their exact probabilities."""
    if not counts.draws:
        return terms.law.lead_above(1.0, 0.0)
    first, second = heapq.nlargest(2, counts.votes)
    least = 1 - terms.charged(terms.lower_complement(counts.draws, second))
    most = terms.upper(counts.draws, min(counts.draws, first + counts.lost))
    return terms.law.lead_above(most, max(0.0, math.nextafter(least, 0.0)))


def _bound(terms: Terms, counts: Counts, complement: float, others: float) -> TwoSidedBound | None:
    charged = terms.charged(complement)
    bound = TwoSidedBound(
        class_index=counts.leader(),
        complement=charged,
        p_b=min(others, charged),
        draws=counts.draws,
        alpha=terms.alpha * terms.split.of_class,
    )
    return None if bound.ball(terms.law).empty else bound


def _rival(counts: Counts) -> int:
    """The most hits that any class but the leader may have: "none" is one of them, and a lost draw counts for each."""
    others = [votes for c, votes in enumerate(counts.votes) if c != counts.leader()]
    none = counts.draws - sum(counts.votes) - counts.lost
    return max(none, *others) + counts.lost
