"""What the engine needs of whatever runs the graphs of a bundle."""

from __future__ import annotations

from typing import Protocol

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
        """Vote (rows,) and OOD score (rows,) of noisy grid inputs; vote C is "none", a NaN score is +inf."""
        ...
