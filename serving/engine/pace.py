"""How fast an engine has been of late: by this requests are let in, and batches go together."""

from __future__ import annotations

import math
from dataclasses import dataclass

_MEMORY_S = 2.0  # of work, in the rate of the device: many batches, so that one that had to wait does not count for all
_KNOWN_S = 0.25  # of work, before which that rate is not known
_TURN_S, _MOST_BATCHES = 0.02, 6  # of a worker's turn, for whose end waits what is finished, cancelled or new
_COMPOSING_S = 0.0003  # for the answer of a row, before it is known


@dataclass(slots=True, eq=False)
class _Rate:
    """How many passes a worker makes in a second of work, of late."""

    made: float = 0.0
    seconds: float = 0.0

    def note(self, passes: int, seconds: float) -> None:
        """Some passes were made in so much time."""
        kept = math.exp(-seconds / _MEMORY_S)
        self.made, self.seconds = kept * self.made + passes, kept * self.seconds + seconds

    def per_second(self) -> float:
        """The rate; infinite while it is not known."""
        return self.made / self.seconds if self.seconds > _KNOWN_S else math.inf


class Pace:
    """What so many `workers` have done, and how long it took."""

    def __init__(self, workers: int) -> None:
        self.composing_s = _COMPOSING_S
        """For the answer of a row."""
        self._workers = workers
        self._drawn, self._predicted = _Rate(), _Rate()
        self._batch_s: dict[str, float] = {}

    def predicted(self, rows: int, seconds: float) -> None:
        """Some base predictions took so long."""
        self._predicted.note(rows, seconds)

    def drawn(self, draws: int, seconds: float) -> None:
        """A worker took so long for some draws."""
        self._drawn.note(draws, seconds)

    def ran(self, model: str, batches: int, seconds: float) -> None:
        """So many batches of a model went together, and nothing failed."""
        self._batch_s[model] = seconds / batches

    def composed(self, rows: int, seconds: float) -> None:
        """The answers of some rows were composed in so much time."""
        self.composing_s += (seconds / rows - self.composing_s) / 4

    def per_second(self) -> tuple[float, float]:
        """The draws, and the base predictions, that are made in a second; infinite while that is not known."""
        return self._workers * self._drawn.per_second(), self._predicted.per_second()

    def together(self, model: str, wanted: int) -> int:
        """As many batches as fit into a turn, where there are as many for every worker: their models come back to back, and
        Python's own work, slow after each for want of what the model drove from the caches, comes once.
        """
        batch_s = max(self._batch_s.get(model, math.inf), _TURN_S / _MOST_BATCHES)
        return max(1, min(int(_TURN_S / batch_s), wanted // self._workers))
