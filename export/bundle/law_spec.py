"""The law of smoothing that a bundle declares: a union, tagged by the law's name in `certify.smoothing.laws`.

Another law is another class here, with the same members, and a place in `LawSpec`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.ball import Euclidean
from certify.smoothing.gaussian import Gaussian
from certify.smoothing.law import Law
from certify.smoothing.laws import gaussian_on_grid
from export.bundle.input_spec import GridSpec
from export.bundle.schema import Positive, Strict


class GaussianSpec(Strict):
    """Rounded Gaussian noise: `sigma` in the units of the grid is `sigma_steps` grid steps, drawn by `stream`."""

    TENSORS: ClassVar[Mapping[str, type[np.generic]]] = {"tails": np.uint64}
    """What the file of its noise has to hold."""

    name: Literal["gaussian"]
    stream: Literal["noise-v1"]
    sigma: Positive
    sigma_steps: Positive

    def formulas(self, grid: GridSpec) -> Gaussian:
        """What bounds prove, but for the charge of the noise as it is drawn.

        Its sigma is never above the exact product of steps and step, which bounds every radius.
        """
        return _gaussian(self.sigma, self.sigma_steps, grid.length, grid.units, grid.norm)

    def drawn(self, tensors: Mapping[str, NDArray[Any]], grid: GridSpec) -> Law:
        """The law itself, with the table of its noise; raises `ValueError` for a table that is another's."""
        formulas = self.formulas(grid)
        return gaussian_on_grid(self.sigma_steps, tensors["tails"], formulas.sigma, formulas.norm)

    def check(self, grid: GridSpec) -> None:
        """Raise `ValueError` unless the law fits the grid."""
        if abs(self.sigma - self.sigma_steps * grid.length) > 2.0**-50 * self.sigma:
            step = "step" if grid.columns is None else "step_length"
            raise ValueError(f"law.sigma must be law.sigma_steps * input.grid.{step}, to double precision")


LawSpec = GaussianSpec


@functools.lru_cache(maxsize=256)
def _gaussian(declared: float, steps: float, step: float, units: str, norm: str) -> Gaussian:
    """Every request asks for it, and fractions take their time."""
    exact = Fraction(steps) * Fraction(step)
    sigma = declared if Fraction(declared) <= exact else math.nextafter(float(exact), 0.0)
    return Gaussian(sigma, norm=Euclidean(units, (step,), norm))
