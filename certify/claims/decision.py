"""Which label a smoothed classifier gives, and which probability has to be bounded for it: from counts to one label.

Both are declared in the bundle, before any draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from certify.claims.counts import Counts
from certify.smoothing.law import HALF


class Decision(Protocol):
    """How a smoothed classifier decides."""

    @property
    def threshold(self) -> float:
        """What the label's probability has to exceed for the decision to stand."""
        ...

    @property
    def chosen(self) -> bool:
        """Whether the draws that bound the label choose it, so that a candidate value m is tested at level `alpha * m`."""
        ...

    def label(self, counts: Counts) -> int:
        """The label that these counts speak for."""
        ...


@dataclass(frozen=True, slots=True)
class Argmax:
    """The most probable label: it is the one that has more than one half."""

    threshold: float = HALF
    chosen: bool = True

    def label(self, counts: Counts) -> int:
        """The leader."""
        return counts.leader()


ARGMAX = Argmax()


@dataclass(frozen=True, slots=True)
class Flag:
    """One label, given wherever its probability exceeds a threshold, whatever the others have: a guard that flags."""

    index: int
    threshold: float
    chosen: bool = False

    def __post_init__(self) -> None:
        if self.index < 0 or not 0 < self.threshold < 1:
            raise ValueError(f"expected a label and a threshold between 0 and 1; got {self.index} and {self.threshold}")

    def label(self, counts: Counts) -> int:
        """The label itself."""
        return self.index
