"""The joint label of one answer, "class and in distribution", beside the other claims about the same draws.

**joint**: with probability at least 1 - alpha over the server's noise key, most noisy copies of every grid input within
`radius` of the decoded input give one and the same joint label: a class together with a score not above the threshold,
or "out", a score above it whatever the class. It says nothing of correctness, of the base network's label, of the printed
score or of semantic novelty.

It has a share of alpha of its own and is a claim beside the certificate and the verdict: on the event on which all of them
hold they cannot contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from certify.claims.certificate import Certificate, LowerBound, Terms
from certify.claims.conclusions import most_probable_above
from certify.claims.counts import Counts
from certify.claims.joint import certify_joint
from certify.ood.verdict import Ood, Verdict
from certify.smoothing.ball import Ball
from certify.smoothing.law import Guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLabel:
    """What is proven of the joint vote over `classes` labels and "out"; it abstains where `bound` is None."""

    bound: LowerBound | None
    law: Guarantee
    classes: int
    threshold: float

    @property
    def verdict(self) -> Verdict:
        """`in_distribution` with a class, `out_of_distribution` with none, `undetermined` where it abstains."""
        if self.bound is None:
            return "undetermined"
        return "out_of_distribution" if self.bound.class_index == self.classes else "in_distribution"

    @property
    def class_index(self) -> int | None:
        """The class that is certified together with being in distribution, if one is."""
        return self.bound.class_index if self.bound and self.verdict == "in_distribution" else None

    @property
    def p_lower(self) -> float | None:
        """The lower bound of the joint label's probability at the input."""
        return None if self.bound is None else self.bound.value

    @property
    def ball(self) -> Ball | None:
        """The proven ball, rounded down; None where it abstains."""
        return None if self.bound is None else self.law.radius(self.bound.complement)

    @property
    def radius(self) -> float:
        """The size of the ball, in the caller's units; 0 where it abstains."""
        ball = self.ball
        return ball.size if ball else 0.0


def joint_label(counts: Counts, terms: Terms, threshold: float) -> JointLabel:
    """What the counts of the joint votes (`certify.claims.joint`) prove, whatever made the draws stop."""
    bound = certify_joint(counts, terms)
    return JointLabel(bound=bound, law=terms.law, classes=terms.classes, threshold=threshold)


def in_agreement(
    terms: Terms, counts: Counts, certificate: Certificate | None, ood: Ood | None, joint: JointLabel | None
) -> tuple[Certificate | None, Ood | None, JointLabel | None]:
    """The three as they are answered; `counts` are those of the classes.

    Claims that contradict each other show that the event failed, which has probability alpha at most. None is preferred
    then: each that the joint label contradicts abstains with it.
    """
    if joint is None or joint.bound is None:
        return certificate, ood, joint
    without = replace(joint, bound=None)
    said = ood.certified if ood else None
    against_verdict = said is not None and said.verdict not in ("undetermined", joint.verdict)
    against_class = certificate is not None and _another_class(terms, counts, certificate, joint)
    if ood and said and against_verdict:
        ood = replace(ood, certified=replace(said, verdict="undetermined"))
    if certificate and against_class:
        certificate = replace(certificate, status="undecided", bound=None, p_b_upper=1.0)
    return certificate, ood, without if against_verdict or against_class else joint


def _another_class(terms: Terms, counts: Counts, certificate: Certificate, joint: JointLabel) -> bool:
    """Whether a class is certified together with being in distribution that cannot be the most probable one."""
    if joint.class_index is None or joint.bound is None:
        return False
    other = certificate.class_index not in (None, joint.class_index)
    return other or joint.bound.value > most_probable_above(terms, counts)
