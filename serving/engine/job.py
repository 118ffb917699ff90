"""One row of a task while the engine works on it: counts draws in index order until its procedure is done.

No clock, thread or device: what arrives is handed in, in whatever order, and the answer is a pure function of the draws
counted. A slice without a result is counted against every claim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.bounds.prior import margin
from certify.claims.certificate import Certificate, Terms
from certify.claims.counts import Counts
from certify.claims.procedures import SLICE, run, split_of
from certify.mixture.mix import mix
from certify.ood.joint_label import in_agreement
from certify.ood.verdict import ScoreCounts, tally, verdict
from certify.smoothing.law import Guarantee
from export.bundle import Bundle
from serving.engine.fair import Party
from serving.engine.joint_tally import joint_tally
from serving.engine.record import Counted, mixture_weight, receipt
from serving.engine.vote_tally import VoteTally, is_confident
from serving.messages import Prediction, Task
from serving.security.signing import Notary

ENOUGH = 256
"""Under overload nobody is given fewer draws than these, in which most inputs are decided."""


@dataclass(frozen=True, slots=True, eq=False)
class SliceResult:
    """Votes and scores of the draws of one slice, no score NaN; both None if it was lost."""

    rows: int
    votes: NDArray[np.integer[Any]] | None
    scores: NDArray[np.float32] | None


class Job:
    """The engine's state of one row: `lattice` int32 (*shape), what was counted and what is still to come.

    Its draws have the places from `first` on: those from 0 on are counted as votes, by their index in the stream of its key;
    those below 0, which only `fixed` has, are the first of the stream that gives the score. With a `notary` its answer
    carries a signed receipt. Given the job of another row of the task, it shares its terms with that where they are equal.
    """

    def __init__(
        self, bundle: Bundle, task: Task, row: int, notary: Notary | None = None, beside: Job | None = None
    ) -> None:
        self.bundle = bundle
        self.request_id, self.trace_id = task.request_id, task.trace_id
        self.party = Party(task.asker, task.weight)
        self._task, self._row, self._notary = task, row, notary
        self.lattice = task.rows[row]
        self.first = first_place(bundle, task)
        self._parts = task.parts
        self.law = bundle.law.at(self.lattice)
        guarantee = self.law.guarantee
        known = beside._terms if beside else None
        self._terms: Terms = known if known and known.law == guarantee else _terms(bundle, task, guarantee)
        self._procedure = run(task.procedure, self._terms, task.max_draws)
        self._foresees = bundle.prior is not None and self._procedure is not None and task.procedure.anytime
        self._base: NDArray[np.float32] | None = None
        self._weight: float | None = None  # of the robust network, where the base graph gives it
        self._waiting: dict[int, SliceResult] = {}
        self._votes = VoteTally(self._terms.classes, bundle.manifest.thresholds)
        self._confident = is_confident(bundle, task, self._terms)
        self._joint = joint_tally(bundle, task, self._terms)
        self._scores: list[NDArray[np.float32]] = []  # NaN marks a lost draw
        self._next, self._lost = self.first, 0
        self._known: Counts | None = None
        self._certificate: Certificate | None = None
        self._granted: int | None = None

    @property
    def max_draws(self) -> int:
        """How many draws this job may be given: none but those of the OOD score where `certify` is off."""
        if self._procedure:
            return self._procedure.max_draws
        wanted = self.bundle.detector if "ood" in self._parts else None
        return wanted.score_draws if wanted else 0

    @property
    def least_draws(self) -> int:
        """What overload has to leave of `max_draws`: all of a number fixed beforehand, and of the score's."""
        cut = self._procedure and self._task.procedure.anytime
        return min(self.max_draws, ENOUGH) if cut else self.max_draws - self.first

    def shorten(self, draws: int) -> None:
        """Allow no more than `draws` draws, in whole slices, but `least_draws`; an answer that this ends says so."""
        allowed = max(self.least_draws, draws // SLICE * SLICE)
        if self._procedure and self._task.procedure.anytime and allowed < self._procedure.max_draws:
            self._granted = allowed
            self._procedure = self._procedure.shortened(allowed)

    @property
    def has_base(self) -> bool:
        """Whether the base prediction is there, so that a cut gives an answer."""
        return self._base is not None

    @property
    def drawing(self) -> bool:
        """Whether more draws are needed."""
        return self._next < self.max_draws and self._certificate is None

    @property
    def _draws(self) -> int:
        """How many draws were counted as votes."""
        return max(0, self._next)

    def source(self, place: int) -> tuple[bytes, int]:
        """The key of the stream that the draw at a place is of, and its index there."""
        return source(self._task, self._row, self.first, place)

    @property
    def done(self) -> bool:
        """Whether the answer is complete."""
        return self.has_base and not self.drawing

    def forecast(self) -> tuple[int, int]:
        """The draws still needed, beside those that wait for others before them, and how many of them to make before the
        next look: all, but until the first slice is counted as few as are enough where that is of one class.
        """
        if not self.drawing:
            return 0, 0
        expected = wanted = self.max_draws
        if self._procedure:
            expected = wanted = self._draws + self._procedure.expected_remaining(self._counts())
            if not self._draws:
                seen = Counts(draws=SLICE, votes=(SLICE, *[0] * (self._terms.classes - 1)), lost=0)
                wanted = SLICE + self._procedure.expected_remaining(seen)
        ahead = self._next + sum(result.rows for result in self._waiting.values())
        return max(0, expected - ahead), max(0, wanted - ahead)

    def receive_base(self, probabilities: NDArray[np.float32]) -> None:
        """The accurate network's answer on the input without noise; then, if it is learnt, the weight of the mixture."""
        labels = len(self.bundle.manifest.labels)
        self._base = probabilities[:labels]
        self._weight = float(probabilities[labels]) if len(probabilities) > labels else None
        if self.bundle.prior and self._procedure and self._foresees:
            self._terms = replace(self._terms, prior=self.bundle.prior.of(margin(self._base), 0.0))
            self._procedure = self._procedure.under(self._terms)
        self._count_what_waits()

    def receive(self, start: int, result: SliceResult) -> None:
        """Results of the draws from `start` on; they are counted once all before them are, and looked at slice by slice.

        Where the bundle foresees votes, none is looked at before the base prediction is there: what is counted at a stop
        must not depend on which of them came first.
        """
        self._waiting[start] = result
        self._count_what_waits()

    def _count_what_waits(self) -> None:
        while self.drawing and self._next in self._waiting and (self.has_base or not self._foresees):
            self._count(self._waiting.pop(self._next))
            if self._procedure:
                self._certificate = self._procedure.receive(self._counts())

    def _count(self, result: SliceResult) -> None:
        if result.votes is not None and len(result.votes) != result.rows * self.law.ballots:
            raise ValueError(
                f"expected {self.law.ballots} votes a draw, got {len(result.votes)} of {result.rows} draws"
            )
        if self._task.procedure.anytime or self._next < 0:
            missing = np.full(result.rows, np.nan, dtype=np.float32)
            self._scores.append(missing if result.scores is None else result.scores)
        if self._next >= 0:
            if result.votes is None:
                self._lost += result.rows
            else:
                self._votes.add(result.votes)
            if self._joint and result.votes is not None and result.scores is not None:
                self._joint.add(result.votes, result.scores)
        self._next += result.rows

    def _counts(self) -> Counts:
        if self._known is None or self._known.draws != self._draws:
            self._known = Counts(draws=self._draws, votes=self._votes.votes, lost=self._lost)
        return self._known

    def answer(self, receipt: bool = True) -> Prediction:
        """The answer from what was counted so far: complete, or the best that is proven; with its receipt, if one is asked
        for and `receipt`.
        """
        if self._base is None:
            raise ValueError("there is no answer before the base prediction")
        counted = self._counted()
        certificate, weight = counted.certificate, mixture_weight(self.bundle, self._task)
        mixture = None
        if certificate and weight is not None:
            declared = self.bundle.manifest.mixture.declared if self.bundle.manifest.mixture else None
            own = weight if self._weight is None else self._weight
            mixture = mix(certificate, counted.counts, self._base, own, declared)
        return Prediction(
            class_index=int(self._base.argmax()),
            probabilities=self._base,
            certificate=certificate if "certificate" in self._parts else None,
            ood=counted.ood,
            mixture=mixture,
            joint=counted.joint,
            confidence=counted.confidence,
            alpha=self._terms.alpha,
            alpha_split=self._terms.split,
            draws=self._draws,
            lost_draws=self._lost,
            granted_draws=None if self._granted is None or self._draws < self._granted else self._granted,
            receipt=self._receipt(counted) if receipt else None,
        )

    def _counted(self) -> Counted:
        counts, scores, certificate = self._counts(), self._score_counts(), self._certificate
        if certificate is None and self._procedure:
            certificate = self._procedure.conclude(counts)
        ood = None
        if scores is not None and self.bundle.detector:
            ood = verdict(scores, self._terms, self.bundle.detector.terms, certify=self._task.procedure.anytime)
        joint = None if self._joint is None else self._joint.label(self._terms, counts)
        certificate, ood, joint = in_agreement(self._terms, counts, certificate, ood, joint)
        confident = certificate if self._confident else None
        return Counted(
            counts=counts,
            scores=scores,
            procedure=self._procedure,
            max_draws=self.max_draws,
            certificate=certificate,
            ood=ood,
            joint_votes=None if self._joint is None else self._joint.votes,
            joint=joint,
            reached=self._votes.reached(counts) if confident else None,
            confidence=self._votes.confidence(self._terms, counts, confident) if confident else None,
        )

    def _score_counts(self) -> ScoreCounts | None:
        own = bool(self._task.score_keys)
        if self.bundle.detector is None or "ood" not in self._parts or own == self._task.procedure.anytime:
            return None
        scores = np.concatenate([np.zeros(0), *self._scores])
        detector = self.bundle.detector
        return tally(scores, self._terms, detector if self._task.procedure.anytime else replace(detector, alarm=None))

    def _receipt(self, counted: Counted) -> str | None:
        if self._notary is None:
            return None
        made = receipt(self.bundle, self._notary.runtime, self._task, self._row, self._terms, counted)
        return self._notary.signer.sign(made).to_text()


def first_place(bundle: Bundle, task: Task) -> int:
    """The place of the first draw of a row: below 0 where the score is of a stream of its own."""
    return -bundle.detector.score_draws if bundle.detector and task.score_keys else 0


def source(task: Task, row: int, first: int, place: int) -> tuple[bytes, int]:
    """The key of the stream that the draw at a place is of, and its index there; `first` is that of `first_place`."""
    return (task.keys[row], place) if place >= 0 else (task.score_keys[row], place - first)


def _terms(bundle: Bundle, task: Task, guarantee: Guarantee) -> Terms:
    spec = bundle.manifest
    return Terms(
        law=guarantee,
        alpha=task.alpha,
        split=split_of(task.procedure, spec.alpha_split, len(spec.fixed_draws)),
        classes=len(spec.labels),
        two_sided=task.procedure.anytime and spec.two_sided,
    )
