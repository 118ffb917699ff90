"""What an answer claims, as statements that a sample can contradict.

Each claim is turned into events whose probability it bounds: **if the claim holds at an input, at least one of its
events has probability at most `most` there.** A contradiction is proven where every event is shown to be more frequent.
The free choices in it (which rival class, which level between two classes) are made by the search's draws, before the
judge's are drawn, so that the judge tests a statement that was fixed beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from scipy.special import logit

from certify.smoothing.ball import parse
from certify.smoothing.law import HALF, Guarantee
from export.attack.sample import EventKind, Sample, VoteEvent

_PAD = 1e-12  # above the rounding of the few floating-point operations behind a `most`


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a search pushes: votes away from `label`, or the score up or down."""

    way: Literal["away", "up", "down"]
    label: int = -1


class Claim(Protocol):
    """One statement of an answer about every input within `radius`, in the caller's units."""

    @property
    def name(self) -> str:
        """What it is called in a report."""
        ...

    @property
    def radius(self) -> float:
        """0 for a statement about the input itself."""
        ...

    @property
    def aim(self) -> Aim | None:
        """The push that would make it false; None where there is nothing to search."""
        ...

    def danger(self, sample: Sample, distance: float) -> float:
        """How close the sample comes to a contradiction at that distance from the input; it only steers the search."""
        ...

    def events(self, sample: Sample, distance: float) -> tuple[VoteEvent, ...]:
        """The events to be judged, chosen by a sample of the search."""
        ...


@dataclass(frozen=True, slots=True)
class Keeps:
    """No class comes within `margin` of the label's probability: 0 for the certificate's label, (1-w)/w for the mixture.

    `h_y - h_i >= (1-w)/w` is what "keeps its label whatever the accurate network says" means, for a network that is sure
    of i. If `h_y - h_i >= margin` then for every c either `P(not y) <= 1 - c` or `P(i) <= c - margin`.
    """

    name: str
    radius: float
    label: int
    margin: float
    classes: int

    @property
    def aim(self) -> Aim:
        """Away from the label."""
        return Aim("away", self.label)

    def danger(self, sample: Sample, distance: float) -> float:
        """The margin less the lead of the label over its nearest rival."""
        return self.margin + sample.share(self._rival(sample)) - sample.share(self.label)

    def events(self, sample: Sample, distance: float) -> tuple[VoteEvent, ...]:
        """Too few votes for the label, and too many for the rival."""
        rival = self._rival(sample)
        level = (sample.share(self.label) + sample.share(rival) + self.margin) / 2
        level = min(max(level, self.margin), 1.0)
        return (
            VoteEvent("vote is not", self.label, 1 - level + _PAD),
            VoteEvent("vote is", rival, level - self.margin + _PAD),
        )

    def _rival(self, sample: Sample) -> int:
        votes = np.bincount(sample.votes, minlength=self.classes + 1)[: self.classes]
        votes[self.label] = -1
        return int(np.argmax(votes))


@dataclass(frozen=True, slots=True)
class VoteShare:
    """`P(label)` is not below what the law leaves of `p_a_lower` at every distance: what a true lower bound implies."""

    radius: float
    label: int
    p_a_lower: float
    law: Guarantee
    name: str = "p_a_lower"

    @property
    def aim(self) -> Aim:
        """Away from the label."""
        return Aim("away", self.label)

    def danger(self, sample: Sample, distance: float) -> float:
        """How far the label's share, in log-odds, lies below what was claimed."""
        share = (sample.share(self.label) * sample.draws + 0.5) / (sample.draws + 1)
        return float(logit(self._least(distance)) - logit(share))

    def events(self, sample: Sample, distance: float) -> tuple[VoteEvent, ...]:
        """Too few votes for the label."""
        return (VoteEvent("vote is not", self.label, 1 - self._least(distance) + _PAD),)

    def _least(self, distance: float) -> float:
        return self.law.least(self.p_a_lower, parse(self.law.parts, distance))


@dataclass(frozen=True, slots=True)
class NoClassAbove:
    """No class but `but` has a probability above `most` at the input itself: `p_b_upper`, and `refuted`."""

    name: str
    most: float
    classes: int
    but: int | None = None
    radius: float = 0.0

    @property
    def aim(self) -> None:
        """Nothing to search: it speaks of the input alone."""
        return None

    def danger(self, sample: Sample, distance: float) -> float:
        """How far the most frequent class exceeds the bound."""
        return sample.share(self._highest(sample)) - self.most

    def events(self, sample: Sample, distance: float) -> tuple[VoteEvent, ...]:
        """Too many votes for one class."""
        return (VoteEvent("vote is", self._highest(sample), self.most + _PAD),)

    def _highest(self, sample: Sample) -> int:
        votes = np.bincount(sample.votes, minlength=self.classes + 1)[: self.classes]
        if self.but is not None:
            votes[self.but] = -1
        return int(np.argmax(votes))


@dataclass(frozen=True, slots=True)
class NoLead:
    """No class leads every other, at the input itself, by what the ball of `target` needs: `refuted` where bounds are
    two-sided.

    If that holds, then for every class i and level a either `P(i) <= a`, or some other class has more than what lets one of
    probability a lead in the ball.
    """

    name: str
    target: float
    classes: int
    law: Guarantee
    radius: float = 0.0

    @property
    def aim(self) -> None:
        """Nothing to search: it speaks of the input alone."""
        return None

    def danger(self, sample: Sample, distance: float) -> float:
        """How far the second most frequent class lies below what would hold the first back."""
        shares = sorted(np.bincount(sample.votes, minlength=self.classes + 1)[: self.classes] / sample.draws)
        return float(self._behind(shares[-1]) - shares[-2])

    def events(self, sample: Sample, distance: float) -> tuple[VoteEvent, ...]:
        """Many votes for one class, and few for every other: the level lies between what the sample has of both."""
        votes = np.bincount(sample.votes, minlength=self.classes + 1)[: self.classes]
        first, second = (int(each) for each in np.argsort(-votes, kind="stable")[:2])
        ball = parse(self.law.parts, self.target)
        ahead = self.law.most(self.law.most(sample.share(second), ball), ball)
        level = min(max((sample.share(first) + ahead) / 2, 0.0), 1.0)
        behind = 1 - self._behind(level) + _PAD
        others = (VoteEvent("vote is not", each, behind) for each in range(self.classes) if each != first)
        return (VoteEvent("vote is", first, level + _PAD), *others)

    def _behind(self, share: float) -> float:
        """What every other class may have if one of this share leads in the ball."""
        ball = parse(self.law.parts, self.target)
        return self.law.least(self.law.least(share, ball), ball)


@dataclass(frozen=True, slots=True)
class Median:
    """The median score under noise lies on one side of `bound`: the event beyond it has probability at most one half."""

    name: str
    radius: float
    kind: EventKind
    bound: float

    @property
    def aim(self) -> Aim:
        """Across the bound."""
        return Aim("up" if self.kind == "score above" else "down")

    def danger(self, sample: Sample, distance: float) -> float:
        """How far the sample's median lies beyond the bound."""
        return (sample.median() - self.bound) * (1 if self.kind == "score above" else -1)

    def events(self, sample: Sample, distance: float) -> tuple[VoteEvent, ...]:
        """Too many scores beyond the bound."""
        return (VoteEvent(self.kind, self.bound, 0.5 + _PAD),)


@dataclass(frozen=True, slots=True)
class JointShare:
    """The joint label's probability is not below what the law leaves of `p_lower` at every distance: above one half within
    its radius. `label` is a class together with a score not above the threshold, or None for a score above it.
    """

    radius: float
    label: int | None
    threshold: float
    p_lower: float
    law: Guarantee
    name: str = "joint"

    @property
    def aim(self) -> Aim:
        """Away from the class, or down to the threshold."""
        return Aim("down") if self.label is None else Aim("away", self.label)

    def danger(self, sample: Sample, distance: float) -> float:
        """How far the share of the joint label lies below what was claimed."""
        (event,) = self.events(sample, distance)
        return event.hits(sample) / sample.draws - event.most

    def events(self, sample: Sample, distance: float) -> tuple[VoteEvent, ...]:
        """Too many passes without the joint label."""
        most = 1 - self.law.least(self.p_lower, parse(self.law.parts, distance)) + _PAD
        if self.label is None:
            return (VoteEvent("score up to", self.threshold, most),)
        return (VoteEvent("joint is not", self.label, most, self.threshold),)


MOST_CLAIMS = 9
"""No answer has more claims than this: the judge's level is shared among so many a picture."""


def issued(answer: Mapping[str, Any], labels: Sequence[str], law: Guarantee) -> list[Claim]:
    """Every claim of one `predictions[i]` of the friendly route that noise of this law can contradict."""
    found: list[Claim] = []
    if certificate := answer.get("certificate"):
        found += _of_certificate(certificate, labels, law)
    if (mixture := answer.get("mixture")) and mixture["radius"] > 0:
        weight = mixture["robust_weight"]
        margin = (1 - weight) / weight
        found.append(Keeps("mixture", mixture["radius"], labels.index(mixture["label"]), margin, len(labels)))
    if certified := (answer.get("ood") or {}).get("certified"):
        found += _of_score(certified, answer["ood"]["threshold"])
    if (joint := answer.get("joint")) and joint["verdict"] != "undetermined":
        label = None if joint["label"] is None else labels.index(joint["label"])
        found.append(JointShare(joint["radius"], label, joint["threshold"], joint["p_lower"], law))
    assert len(found) <= MOST_CLAIMS
    return found


def _of_certificate(certificate: Mapping[str, Any], labels: Sequence[str], law: Guarantee) -> list[Claim]:
    found: list[Claim] = []
    label = None if certificate["label"] is None else labels.index(certificate["label"])
    classes = len(labels)
    if label is not None:
        found.append(Keeps("certificate", certificate["radius"], label, 0.0, classes))
        found.append(VoteShare(certificate["radius"], label, certificate["p_a_lower"], law))
    if certificate["p_b_upper"] < 1:
        found.append(NoClassAbove("p_b_upper", certificate["p_b_upper"], classes, label))
    two_sided = bool(certificate.get("two_sided"))
    if certificate["status"] == "refuted":
        found.append(_too_near("refuted", certificate["target_radius"], classes, law, two_sided))
    if certificate["status"] == "certified" and (tolerance := certificate["radius_tolerance"]) is not None:
        farthest = math.nextafter(certificate["radius"] + tolerance, math.inf)
        found.append(_too_near("precision", farthest, classes, law, two_sided))
    return found


def _too_near(name: str, radius: float, classes: int, law: Guarantee, two_sided: bool) -> Claim:
    """That no class has at the input what it needs to keep its place within the radius."""
    if two_sided:
        return NoLead(name, radius, classes, law)
    return NoClassAbove(name, law.most(HALF, parse(law.parts, radius)), classes)


def _of_score(certified: Mapping[str, Any], threshold: float) -> list[Claim]:
    radius, found = certified["radius"], list[Claim]()
    if certified["score_lower"] is not None:
        found.append(Median("score_lower", radius, "score below", certified["score_lower"]))
    if certified["score_upper"] is not None:
        found.append(Median("score_upper", radius, "score above", certified["score_upper"]))
    if certified["verdict"] == "in_distribution":
        found.append(Median("in_distribution", radius, "score above", threshold))
    if certified["verdict"] == "out_of_distribution":
        found.append(Median("out_of_distribution", radius, "score up to", threshold))
    return found
