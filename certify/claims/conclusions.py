"""What counts prove, whatever procedure made them end: bounds with the charge, and the certificate built from them."""

from __future__ import annotations

from certify.bounds import anytime
from certify.claims.certificate import Certificate, LowerBound, Status, Terms, certifying
from certify.claims.counts import Counts
from certify.smoothing.ball import Ball


def exceeds(terms: Terms, counts: Counts, needed: float) -> bool:
    """Whether the decided label's probability, as drawn, is proven to lie above `needed`, at any stop."""
    hits, level = counts.votes[terms.decision.label(counts)], terms.alpha * terms.split.of_class
    proves = anytime.chosen_exceeds if terms.decision.chosen else anytime.exceeds
    return needed < 1 and proves(counts.draws, hits, needed, level)


def falls_short(terms: Terms, counts: Counts, needed: float) -> bool:
    """Whether the decided label, and so every one that could be, is proven to have a probability below `needed`."""
    level = terms.alpha * terms.split.of_upper
    misses = counts.draws - counts.votes[terms.decision.label(counts)] - counts.lost
    return level > 0 and anytime.exceeds(counts.draws, misses, 1 - needed, level, terms.kappa_upper)


def anytime_bound(terms: Terms, counts: Counts, proven: float = 0.0) -> LowerBound | None:
    """The decided label's bound by its confidence sequence, or `proven` where that is larger."""
    if not counts.draws:
        return None
    hits, level = counts.votes[terms.decision.label(counts)], terms.alpha * terms.split.of_class
    if terms.decision.chosen:
        complement = anytime.chosen_lower_complement(counts.draws, hits, level)
    else:
        complement = anytime.upper(counts.draws, counts.draws - hits, level, anytime.KAPPA)
    return bound_of(terms, counts, min(complement, 1 - proven))


def bound_of(terms: Terms, counts: Counts, complement: float) -> LowerBound | None:
    """The label's bound where it certifies the decision; `complement` is of the noise as drawn, without the charge."""
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
    """The certificate of a procedure that has stopped; it abstains where the bounds contradict each other."""
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
        p_b_upper=others if bound is None else min(others, bound.complement),
        draws=counts.draws,
        lost=counts.lost,
        target=target,
        radius_tolerance=radius_tolerance,
        threshold=terms.decision.threshold,
    )


def most_probable_above(terms: Terms, counts: Counts) -> float:
    """A bound of the decided label's probability, and so of every class's that could be it: one fixed event."""
    level = terms.alpha * terms.split.of_upper
    if level <= 0 or not counts.draws:
        return 1.0
    hits = min(counts.draws, counts.votes[terms.decision.label(counts)] + counts.lost)
    highest = anytime.upper(counts.draws, hits, level, terms.kappa_upper)
    return min(1.0, terms.charged(highest))
