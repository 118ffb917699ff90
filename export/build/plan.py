"""What a bundle is made of: the samples and the data, and all that the user says."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from export.build.compose import Entrance
from export.build.grid import GridNumbers, one_or_each
from export.build.learn import Labelled, Tell
from export.inspection.inspect import Found
from export.options import ExportOptions
from export.sources.source import Source


def to_stderr(line: str) -> None:
    """Tell what was found, beside the output of a command."""
    print(line, file=sys.stderr)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a bundle is made of. `samples` [n, *shape] are in the caller's units, `options` what the user says beside them.

    `labelled` data, in the same units, are what a detector is learnt from. `tell` is told of what the data fall short of.
    `command` is what the user typed, `robust` the network that votes, where it is another.
    """

    name: str
    samples: NDArray[Any]
    sigma: float
    out: Path
    options: ExportOptions
    expected: NDArray[Any] | None = None
    entrance: Entrance
    labelled: Labelled | None = None
    tell: Tell = to_stderr
    command: str = ""
    robust: tuple[Source, Found] | None = None

    @property
    def low(self) -> GridNumbers:
        """The least value of the grid, or of each column."""
        return one_or_each(self.options.low)

    @property
    def step(self) -> GridNumbers:
        """The step of the grid, or of each column."""
        return one_or_each(self.options.step)

    @property
    def high(self) -> GridNumbers:
        """The largest value of the grid, or of each column."""
        return one_or_each(self.options.high)
