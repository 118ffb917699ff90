"""The joint labels of one row, counted beside its votes where the bundle declares them: see `certify.claims.joint`. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.claims.certificate import Terms
from certify.claims.confidence import labels_of
from certify.claims.counts import Counts
from certify.claims.joint import joint_votes
from certify.claims.procedures import Off
from certify.ood.joint_label import JointLabel, joint_label
from export.bundle import Bundle
from serving.messages import Task


class JointTally:
    """How many draws of a row gave each joint label, "out" the last. What was lost is not counted here."""

    def __init__(self, classes: int, threshold: float) -> None:
        self._threshold = threshold
        self._votes = np.zeros(classes + 1, dtype=np.int64)

    def add(self, votes: NDArray[np.integer[Any]], scores: NDArray[np.float32]) -> None:
        """Count the votes and scores of some draws."""
        classes = self._votes.size - 1
        self._votes += joint_votes(labels_of(votes, classes), scores, self._threshold, classes)

    @property
    def votes(self) -> tuple[int, ...]:
        """The counts so far."""
        return tuple(self._votes.tolist())

    def label(self, terms: Terms, of_classes: Counts) -> JointLabel:
        """What is proven of the joint label; `of_classes` are the counts of the same draws."""
        counts = Counts(draws=of_classes.draws, votes=self.votes, lost=of_classes.lost)
        return joint_label(counts, terms, self._threshold)


def joint_tally(bundle: Bundle, task: Task, terms: Terms) -> JointTally | None:
    """A tally where the bundle declares joint labels, the task asks for them, and its procedure draws votes that may be
    looked at as often as one likes.
    """
    detector = bundle.detector
    wanted = "joint" in task.parts and not isinstance(task.procedure, Off)
    if detector is None or terms.split.of_joint <= 0 or not wanted:
        return None
    return JointTally(terms.classes, detector.threshold)
