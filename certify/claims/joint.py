"""One certificate for "class y and in distribution": the vote over the labels and one more, "out".

Each draw votes "out" if its score exceeds the threshold that the bundle fixes, else for its class. The labels exclude
each other, so the confidence sequence of `certify.bounds.anytime` bounds them all at level `alpha * m`. Beside the class
certificate this is a second partition of the same draws, whose bounds may fail where those of the classes hold: it has
its own share of alpha, `of_joint`, declared in the bundle.

**joint**: with probability at least 1 - alpha over the server's noise key, the smoothed joint vote of this bundle gives
the same label, a class together with a score at most the threshold, or "out", for every grid input within the radius.

`implied` needs no share: where the bounds of class A and of "in distribution" hold, `P(A and in) >= L_A + L_in - 1`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from certify.bounds import anytime
from certify.claims.certificate import LowerBound, Terms, certifying
from certify.claims.counts import Counts


def joint_counts(votes: NDArray[np.integer], scores: NDArray[np.floating], threshold: float, classes: int) -> Counts:
    """Count the joint votes of the first draws, see `joint_votes`."""
    counted = joint_votes(votes, scores, threshold, classes)
    return Counts(draws=scores.size, votes=tuple(counted.tolist()), lost=int(np.isnan(scores).sum()))


def joint_votes(
    votes: NDArray[np.integer], scores: NDArray[np.floating], threshold: float, classes: int
) -> NDArray[np.int64]:
    """How often some draws gave each of `classes + 1` labels, of which "out" is the last; parts of a stream add up.

    A vote of `classes` stands for none; a NaN score is a lost draw, whatever its vote. What scored above the threshold is
    "out" even where its logits were not finite.
    """
    # Votes may come as bytes, which have no number beyond 255 labels, and a threshold may lie between single floats.
    labels, above = votes.astype(np.int64), scores.astype(np.float64) > threshold
    joint = np.where(above, classes, np.where(labels < classes, labels, classes + 1))
    return np.bincount(joint[~np.isnan(scores)], minlength=classes + 2)[: classes + 1]


def certify_joint(counts: Counts, terms: Terms) -> LowerBound | None:
    """The bound of the leading joint label, at every number of draws; None where it certifies nothing.

    `class_index` is `terms.classes` for "out". See `Guarantee.radius` for its ball.
    """
    if len(counts.votes) != terms.classes + 1:
        raise ValueError(f"expected votes for {terms.classes} classes and 'out', got {len(counts.votes)} labels")
    level = terms.alpha * terms.split.of_joint
    if level <= 0 or not counts.draws:
        return None
    leader = counts.leader()
    complement = terms.charged(anytime.chosen_lower_complement(counts.draws, counts.votes[leader], level))
    return certifying(LowerBound(class_index=leader, complement=complement, draws=counts.draws, alpha=level))


def implied(of_class: LowerBound | None, at_most: int, terms: Terms) -> LowerBound | None:
    """The joint bound that class and threshold shares prove together, `L_A + L_in - 1`; `at_most` draws scored within.

    On the event of `AlphaSplit`, at every number of draws; without a share of its own. None where it certifies nothing:
    the two claims then still hold side by side, within the smaller of their radii.
    """
    level = terms.alpha * terms.split.of_threshold
    if of_class is None or level <= 0:
        return None
    outside = terms.charged(anytime.chosen_lower_complement(of_class.draws, at_most, level))
    both = math.nextafter(of_class.complement + outside, math.inf)
    levels = of_class.alpha + level
    bound = LowerBound(class_index=of_class.class_index, complement=both, draws=of_class.draws, alpha=levels)
    return certifying(bound)
