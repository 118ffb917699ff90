"""What counts prove, whatever procedure made them end: bounds with the charge, and the certificate built from them."""

from __future__ import annotations

from certify.bounds import anytime
from certify.claims.certificate import Certificate, Counts, LowerBound, Status, Terms, certifying


def anytime_bound(terms: Terms, counts: Counts, proven: float = 0.0) -> LowerBound | None:
    """The leader's bound by its confidence sequence, or `proven` where that is larger."""
    if not counts.draws:
        return None
    hits = counts.votes[counts.leader()]
    level = terms.alpha * terms.split.of_class
    complement = min(anytime.chosen_lower_complement(counts.draws, hits, level), 1 - proven)
    return bound_of(terms, counts, complement)


def bound_of(terms: Terms, counts: Counts, complement: float) -> LowerBound | None:
    """The leader's bound where it certifies a class; `complement` is of the noise as drawn, without the charge."""
    level, charged = terms.alpha * terms.split.of_class, terms.charged(complement)
    return certifying(LowerBound(class_index=counts.leader(), complement=charged, draws=counts.draws, alpha=level))


def certificate_of(
    name: str,
    terms: Terms,
    counts: Counts,
    bound: LowerBound | None,
    status: Status,
    *,
    target_radius: float | None = None,
    radius_tolerance: float | None = None,
) -> Certificate:
    """The certificate of a procedure that has stopped; it abstains where the bounds contradict each other."""
    others = most_probable_above(terms, counts)
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
        target_radius=target_radius,
        radius_tolerance=radius_tolerance,
    )


def most_probable_above(terms: Terms, counts: Counts) -> float:
    """A bound of every class probability, from the upper share: the largest class is one fixed event."""
    level = terms.alpha * terms.split.of_upper
    if level <= 0 or not counts.draws:
        return 1.0
    hits = min(counts.draws, max(counts.votes) + counts.lost)
    highest = anytime.upper(counts.draws, hits, level, terms.kappa_upper)
    return min(1.0, terms.charged(highest))
