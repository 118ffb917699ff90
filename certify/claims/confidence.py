"""Confidence: how sure of the certified class the network is under noise, on average, at every input of the certified ball.

Each draw votes for a class, with a number of its own that the network gives that class there: `v_c`, such as a softmax. A
bundle declares thresholds `t_1 < ... < t_J`, and a vote has a *grade*: how many of them that number exceeds. A number below
0 is no probability, and counts as 0: so with `t_0 = 0`

    E v_c >= sum_j (t_j - t_(j-1)) P(voted c, grade >= j)

The sum is the lower one: a step counts only where its upper end is exceeded. Nothing else is asked of the numbers, not even
that those of a row sum to one; that only makes them worth the name. What is not finite votes for none, and counts as 0.

**Why the class may be chosen by the same draws.** Each probability is that of an event of one draw, and has an anytime lower
bound and the law's shift, as a vote has. A draw votes once, so at one threshold the events of different classes exclude each
other: their probabilities sum to at most one, and `anytime.chosen_lower_complement` bounds them all at once. So a threshold
costs one level, whatever the number of classes, and all have equal parts of `AlphaSplit.of_confidence`. The event covers
every class, threshold and number of draws, so the certificate's class and ball, which the same draws chose, may be taken.

**confidence**: with probability at least 1 - alpha over the server's noise key, the mean of the number that the network
gives the certified class under noise is at least `lower` at every grid input of the certificate's ball, and at least
`lower_at_input` at the input itself. It is not the probability of being right, nor calibrated, and says nothing of
a prediction without noise.

On its way from the graph to the counts a vote and its grade are one integer, `label + (classes + 1) * grade`, where the
label `classes` is none. Where nothing is graded that is the label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.bounds import anytime
from certify.claims.certificate import Certificate, Terms
from certify.smoothing.ball import Ball
from certify.smoothing.law import Guarantee

MOST_THRESHOLDS = 16
"""More of them cost more alpha than they gain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """Lower bounds of the mean confidence in the certified class, in its ball and at the input; none where it abstains."""

    law: Guarantee
    class_index: int | None
    ball: Ball | None
    lower: float | None
    lower_at_input: float | None

    @property
    def radius(self) -> float:
        """The size of the ball, in the caller's units; 0 where it abstains."""
        return self.ball.size if self.ball else 0.0


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Raise `ValueError` unless they rise between 0 and 1 and are numbers that a network's floats can be compared with."""
    rising = all(one < other for one, other in pairwise((0.0, *thresholds, 1.0)))
    if not (1 <= len(thresholds) <= MOST_THRESHOLDS and rising):
        raise ValueError(
            f"expected 1 to {MOST_THRESHOLDS} thresholds that rise between 0 and 1; got {list(thresholds)[:20]}"
        )
    if any(float(np.float32(each)) != each for each in thresholds):
        raise ValueError(f"thresholds must be single floats, as the graph compares them; got {list(thresholds)}")


def last_vote(classes: int, thresholds: int) -> int:
    """The largest integer that a vote and its grade are: none of the highest grade, which no graph gives."""
    return (classes + 1) * (thresholds + 1) - 1


def labels_of(votes: NDArray[np.integer[Any]], classes: int) -> NDArray[np.int64]:
    """The labels of votes, without their grades; `classes` is none."""
    # They may come in as few bytes as hold them, of which `classes + 1` may be more than there are.
    return votes.astype(np.int64) % (classes + 1)


def grades_of(votes: NDArray[np.integer[Any]], classes: int) -> NDArray[np.int64]:
    """The grades of votes: how many thresholds each exceeds."""
    return votes.astype(np.int64) // (classes + 1)


def counted(votes: NDArray[np.integer[Any]], classes: int, thresholds: int) -> NDArray[np.int64]:
    """How many of some votes have each grade and label, [thresholds + 1, classes + 1], of which the last label is none."""
    found = np.bincount(votes, minlength=last_vote(classes, thresholds) + 1)
    return found.reshape(thresholds + 1, classes + 1)


def reached(table: NDArray[np.int64], label: int) -> tuple[int, ...]:
    """How many votes of a label exceed each threshold, from a table of `counted`."""
    of_grade = table[:, label]
    return tuple(int(each) for each in np.cumsum(of_grade[::-1])[::-1][1:])


def confidence(certificate: Certificate, hits: Sequence[int], thresholds: Sequence[float], terms: Terms) -> Confidence:
    """What `hits`, the votes for the certified class that exceed each threshold, prove; whatever made the draws stop.

    It abstains where the certificate does.
    """
    ball, level = certificate.ball, terms.alpha * terms.split.of_confidence / len(thresholds)
    if ball is None or level <= 0:
        return Confidence(law=terms.law, class_index=None, ball=None, lower=None, lower_at_input=None)
    known = {each: anytime.chosen_lower_complement(certificate.draws, each, level) for each in set(hits)}
    misses = [known[each] for each in hits]
    return Confidence(
        law=terms.law,
        class_index=certificate.class_index,
        ball=ball,
        lower=lower_sum(thresholds, [mean_in(terms, each, ball) for each in misses]),
        lower_at_input=lower_sum(
            thresholds, [max(0.0, math.nextafter(1 - terms.charged(each), 0.0)) for each in misses]
        ),
    )


def mean_in(terms: Terms, complement: float, ball: Ball) -> float:
    """How low the mean of something between 0 and 1 gets in the ball, of which `1 - complement` is a bound at the input, as
    drawn. Rounded down.
    """
    charged = terms.charged(complement)
    return terms.law.least(1 - charged, ball, complement=charged) if charged < 1 else 0.0


def lower_sum(thresholds: Sequence[float], proven: Sequence[float]) -> float:
    """`sum_j (t_j - t_(j-1)) proven_j`, rounded down."""
    total = 0.0
    for (below, threshold), each in zip(pairwise((0.0, *thresholds)), proven, strict=True):
        step = math.nextafter(math.nextafter(threshold - below, 0.0) * each, 0.0)
        total = math.nextafter(total + step, 0.0)
    return total
