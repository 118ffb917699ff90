"""What counts of votes prove, whichever procedure ended the draws: bounds of a probability, and the certificate built on
them.

The *decided label* is the one that the counts so far speak for (`Terms.decision`). A probability is *as drawn* where it
is that under the noise table that the draws are made from. The exact law of the theorem differs from it by no more than
the *charge*, in total variation; `Terms.charged` takes that off. Each statement holds with a share of `alpha` that the
bundle fixes.
"""

from __future__ import annotations

from certify.bounds import anytime, prior
from certify.claims import two_sided
from certify.claims.certificate import Certificate, LowerBound, Status, Terms, certifying
from certify.claims.counts import Counts
from certify.smoothing.ball import Ball


def exceeds(terms: Terms, counts: Counts, needed: float) -> bool:
    """Whether the decided label's probability, as drawn, is proven to lie above `needed`; valid whatever made the draws
    stop.
    """
    hits, level = counts.votes[terms.decision.label(counts)], terms.alpha * terms.split.of_class
    if needed >= 1:
        return False
    if not terms.decision.chosen:
        return anytime.exceeds(counts.draws, hits, needed, level)
    if terms.prior is None:
        return anytime.chosen_exceeds(counts.draws, hits, needed, level)
    return prior.chosen_exceeds(terms.prior, counts.draws, hits, level, 1 - needed)


def falls_short(terms: Terms, counts: Counts, needed: float) -> bool:
    """Whether the decided label's probability, as drawn, is proven to lie below `needed`, whatever made the draws stop.
    Any other label has fewer votes, so that its probability is proven to lie below it, too.
    """
    level = terms.of_one_upper
    misses = counts.draws - counts.votes[terms.decision.label(counts)] - counts.lost
    return level > 0 and anytime.exceeds(counts.draws, misses, 1 - needed, level, terms.kappa_upper)


def reaches(terms: Terms, counts: Counts, ball: Ball) -> bool:
    """Whether the decided label is proven to keep its place in the ball."""
    if terms.two_sided:
        return two_sided.reaches(terms, counts, ball)
    return exceeds(terms, counts, terms.needed(ball))


def refutes(terms: Terms, counts: Counts, ball: Ball) -> bool:
    """Whether the decided label, and so every other, is proven to have at the input less than the ball needs."""
    if terms.two_sided:
        return two_sided.refutes(terms, counts, ball)
    return falls_short(terms, counts, terms.needed(ball, side=-1))


def largest(terms: Terms, counts: Counts) -> Ball:
    """A ball at least as large as any that the exact probabilities at the input would prove of any label."""
    if terms.two_sided:
        return two_sided.largest(terms, counts)
    return terms.law.radius_above(most_probable_above(terms, counts), terms.decision.threshold)


def anytime_bound(terms: Terms, counts: Counts, proven: float = 0.0) -> LowerBound | None:
    """The decided label's lower bound, by its confidence sequence: valid whatever made the draws stop. A probability, as
    drawn, that a test has `proven` counts where it is larger. None without draws, or where the bound does not certify the
    decision.
    """
    if terms.two_sided:
        return two_sided.at_any_time(terms, counts)
    if not counts.draws:
        return None
    complement = terms.lower_complement(counts.draws, counts.votes[terms.decision.label(counts)])
    return bound_of(terms, counts, min(complement, 1 - proven))


def bound_of(terms: Terms, counts: Counts, complement: float) -> LowerBound | None:
    """The decided label's lower bound `1 - complement`, as drawn, less the charge; None where that does not exceed the
    threshold of the decision. It is handed over as its complement, which keeps its precision near 1.
    """
    level, charged = terms.alpha * terms.split.of_class, terms.charged(complement)
    label = terms.decision.label(counts)
    bound = LowerBound(class_index=label, complement=charged, draws=counts.draws, alpha=level)
    return certifying(bound, terms.decision.threshold)


def certificate_of(
    name: str,
    terms: Terms,
    counts: Counts,
    bound: LowerBound | None,
    status: Status,
    *,
    target: Ball | None = None,
    radius_tolerance: float | None = None,
) -> Certificate:
    """The certificate of the procedure called `name`, which has stopped with this `status`; without a `bound` it
    abstains.

    It abstains, too, where the upper bound of the most probable label lies below the lower bound of the decided one: they
    then contradict each other, which happens with probability `alpha` at most.
    """
    most = most_probable_above(terms, counts)
    if bound is not None and most < bound.value:
        # Bounds that contradict each other show that the event failed: never resolved towards a favourite.
        bound, status, most = None, "undecided", 1.0
    others = most if terms.decision.chosen else 1.0  # of one label alone: it says nothing of the others
    return Certificate(
        status=status,
        procedure=name,
        law=terms.law,
        bound=bound,
        p_b_upper=others if bound is None else min(others, bound.others),
        draws=counts.draws,
        lost=counts.lost,
        target=target,
        radius_tolerance=radius_tolerance,
        threshold=terms.decision.threshold,
        two_sided=terms.two_sided,
    )


def most_probable_above(terms: Terms, counts: Counts) -> float:
    """An upper bound of the decided label's probability, and so of the most probable label's, under the exact law; 1
    where the bundle gives the upper bound no share of alpha.

    It holds on one event, that of the truly most probable label, which does not depend on who leads: no union over
    labels.
    """
    hits = min(counts.draws, counts.votes[terms.decision.label(counts)] + counts.lost)
    return terms.upper(counts.draws, hits)
