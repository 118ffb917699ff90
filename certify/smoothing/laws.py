"""Every law that is served, by the name that bundles, answers and receipts give it. A new one is one line more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.ball import Euclidean
from certify.smoothing.gaussian import NAME as GAUSSIAN
from certify.smoothing.gaussian import gaussian_of
from certify.smoothing.lattice_gaussian import LARGEST_TABLE, LatticeGaussian, RoundedGaussian
from certify.smoothing.law import Guarantee

Rebuild = Callable[[Mapping[str, float | str], float], Guarantee]
"""From a law's parameters and its charge to its formulas; a `ValueError` says what of them was expected."""

__all__ = ["GAUSSIAN", "LARGEST_TABLE", "LAWS", "LatticeGaussian", "RoundedGaussian", "gaussian_on_grid", "rebuilt"]

LAWS: dict[str, Rebuild] = {GAUSSIAN: gaussian_of}


def rebuilt(name: str, parameters: Mapping[str, float | str], charge: float) -> Guarantee:
    """The guarantee that these parameters describe. Raises `ValueError`."""
    if name not in LAWS:
        raise ValueError(f"law: expected one of {', '.join(LAWS)}, got {name[:80]!r}")
    return LAWS[name](parameters, charge)


def gaussian_on_grid(
    sigma_steps: float, tails: NDArray[np.uint64], sigma: float | None = None, norm: Euclidean | None = None
) -> LatticeGaussian:
    """The law of rounded Gaussian noise of `sigma_steps` steps of the grid, with its exact table; `sigma` is that in the
    units of `norm`, rounded down. Raises `ValueError` for a table that is not what it is declared to be.
    """
    table = RoundedGaussian(sigma_steps, tails)
    return LatticeGaussian(table, sigma_steps if sigma is None else sigma, norm or Euclidean("steps"))
