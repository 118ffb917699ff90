"""The votes of one row with their grades, see `certify.claims.confidence`: counted together, parted when read. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.claims.certificate import Certificate, Terms
from certify.claims.confidence import Confidence, confidence, counted, reached
from certify.claims.counts import Counts
from certify.claims.procedures import Off
from export.bundle import Bundle
from serving.messages import Task


class VoteTally:
    """How many draws of a row voted for each class, and with which grade. What was lost is not counted here."""

    def __init__(self, classes: int, thresholds: tuple[float, ...]) -> None:
        self._thresholds = thresholds
        self._counts = np.zeros((len(thresholds) + 1, classes + 1), dtype=np.int64)

    def add(self, votes: NDArray[np.integer[Any]]) -> None:
        """Count the votes of some draws."""
        self._counts += counted(votes, self._counts.shape[1] - 1, len(self._thresholds))

    @property
    def votes(self) -> tuple[int, ...]:
        """The counts of the classes so far."""
        of_labels = self._counts.sum(axis=0) if self._thresholds else self._counts[0]  # read at each look
        return tuple(of_labels[:-1].tolist())

    def reached(self, counts: Counts) -> tuple[int, ...]:
        """How many votes of the leader of these counts exceed each threshold."""
        return reached(self._counts, counts.leader())

    def confidence(self, terms: Terms, counts: Counts, certificate: Certificate) -> Confidence:
        """What is proven of the confidence in the certified class, which is the leader of the same draws."""
        return confidence(certificate, self.reached(counts), self._thresholds, terms)


def is_confident(bundle: Bundle, task: Task, terms: Terms) -> bool:
    """Whether the bundle claims confidence, the task asks for it, and its procedure draws votes that may be looked at as
    often as one likes.
    """
    claimed = bool(bundle.manifest.thresholds) and terms.split.of_confidence > 0
    return claimed and "confidence" in task.parts and not isinstance(task.procedure, Off)
