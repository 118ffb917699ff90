"""Library offering: the two-sided certificate, the class against the best of the others, where misses spread over classes.

    R = sigma/2 (Phi^-1(p_A) - Phi^-1(p_B)),   p_B >= every p_c, c != A        (Cohen et al. 2019, theorem 1)
    p_B = min(max_{c != A} U_c, 1 - p_A),      radius only if p_A > p_B

`p_A` is tested at level `alpha_A m`, so A may be chosen by the same draws; every `U_c` is at plain level `alpha_B`, without
a factor for the number of classes. The total is `alpha_A + 2 alpha_B`: where the lower bounds hold and A is the most
probable class, only the upper bound of the second class can fail to make p_B false; where A is another, only that of
the first, and each of these is one fixed class. `AlphaSplit.of_class` is alpha_A, half of `AlphaSplit.of_upper` is alpha_B:
declared beforehand, as is the use of this certificate in place of the one-sided one, for the better of two is neither.

**certificate, two-sided**: with probability at least 1 - alpha_A - 2 alpha_B the smoothed classifier gives `class_index`
at every input within `radius`, though `p_A` may be below one half. Votes for "none" are a class that can win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from certify.bounds import anytime, binomial
from certify.claims.certificate import Terms
from certify.claims.counts import Counts
from certify.smoothing.ball import Ball
from certify.smoothing.law import Guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSidedBound:
    """`P(class) >= 1 - complement > p_b >= P(c)` for every other c, at the input; both rounded up, with the charge."""

    class_index: int
    complement: float
    p_b: float
    draws: int

    def ball(self, law: Guarantee) -> Ball:
        """The ball in which the class leads, rounded down."""
        return law.lead(self.complement, self.p_b, 0.0)


def at_any_time(terms: Terms, counts: Counts) -> TwoSidedBound | None:
    """The bound of the leader that holds at every number of draws at once; None where it does not lead for certain."""
    return _bound(terms, counts, anytime.chosen_lower_complement, _upper)


def at_fixed_draws(terms: Terms, counts: Counts) -> TwoSidedBound | None:
    """The bound of the leader by Clopper-Pearson, for a number of draws that was fixed before any draw was seen."""
    return _bound(terms, counts, binomial.clopper_pearson_chosen_complement, binomial.clopper_pearson_upper)


def _upper(draws: int, hits: int, alpha: float) -> float:
    """The rival may be rare, and is not the class that falls short by little: so not the prior for that one."""
    return anytime.upper(draws, hits, alpha, anytime.KAPPA)


_OfHits = Callable[[int, int, float], float]


def _bound(terms: Terms, counts: Counts, lower_complement: _OfHits, upper: _OfHits) -> TwoSidedBound | None:
    if not counts.draws:
        return None
    leader, draws = counts.leader(), counts.draws
    complement = lower_complement(draws, counts.votes[leader], terms.alpha * terms.split.of_class)
    others = 1.0
    if terms.split.of_upper > 0:  # the upper bound rises with the hits, so the rival's is the largest
        others = upper(draws, _rival(counts), terms.alpha * terms.split.of_upper / 2)
    p_b = terms.charged(min(others, complement))
    bound = TwoSidedBound(class_index=leader, complement=terms.charged(complement), p_b=p_b, draws=draws)
    return None if bound.ball(terms.law).empty else bound


def _rival(counts: Counts) -> int:
    """The most hits that any class but the leader may have: "none" is one of them, and a lost draw counts for each."""
    others = [votes for c, votes in enumerate(counts.votes) if c != counts.leader()]
    none = counts.draws - sum(counts.votes) - counts.lost
    return max(none, *others) + counts.lost
