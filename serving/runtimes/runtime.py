"""What the engine needs of whatever runs the graphs of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Runtime(Protocol):
    """Runs the two graphs of one bundle, in batches of fixed shapes. Safe to call from several threads.

    Results of a row depend on that row alone: not on its place in the batch, nor on the other rows.
    """

    @property
    def description(self) -> str:
        """Runtime, version and device kind, for the metadata."""
        ...

    def base(self, lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        """The accurate network's probabilities (rows, C) of grid inputs (rows, *shape) without noise."""
        ...

    def noisy(self, lattice: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Vote (rows,) and OOD score (rows,) of noisy grid inputs; vote C is "none", a NaN score is +inf.

        Scores are 0 where the graph gives none, which a bundle without a declared score may do.
        """
        ...

    @property
    def multiplications(self) -> float:
        """About how many one row takes, which says how large a proof may be."""
        ...

    @property
    def suspects(self) -> Sequence[str]:
        """Nodes, in words, that add up the numbers of a row, whose order a runtime may choose by slot."""
        ...

    def base_evidence(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """The probabilities and the floats that decide anything in the graph, (rows, ...) each; of what serves."""
        ...

    def noisy_evidence(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """Vote, score and the floats that decide anything in the graph, (rows, ...) each; of what serves."""
        ...
