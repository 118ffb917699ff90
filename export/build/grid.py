"""The grid of a bundle's inputs, from what samples are or what the user says, and sigma in its steps.

`value = low + step * integer`. Steps and sigma are put into doubles so that sigma in the caller's units is never above the
exact product, by which radii would come out short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

FINEST = 64
"""Steps of a grid that is made up, in one sigma: rounding to it moves a value by a hundredth of the noise."""
MOST_STEPS = 3_000
"""Steps in one sigma: the table of the noise has 32,767 entries at most, and reaches some nine sigma."""
_ON = 1e-4


class GridError(ValueError):
    """Samples and grid do not fit; one line says how to mend it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """`made_up`: no grid was seen in the samples, so that a client's values are moved onto it (`snap`)."""

    low: float
    step: float
    high: float
    sigma: float
    sigma_steps: float
    made_up: bool

    @property
    def top(self) -> int:
        """The largest integer."""
        return round((self.high - self.low) / self.step)

    def integers(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """The nearest points of the grid. Raises `GridError` for values beyond it."""
        steps = (values.astype(np.float64) - self.low) / self.step
        if not np.all((steps > -0.5) & (steps < self.top + 0.5)):
            raise GridError(
                f"samples reach from {values.min():g} to {values.max():g}, beyond the grid from {self.low:g} to"
                f" {self.high:g}; give --low and --high"
            )
        return np.rint(steps).astype(np.int32)

    def values(self, integers: NDArray[np.integer]) -> NDArray[np.float64]:
        """What the integers stand for."""
        return self.low + self.step * integers.astype(np.float64)


def declared(
    samples: NDArray[Any],
    sigma: float,
    *,
    low: float | None = None,
    step: float | None = None,
    high: float | None = None,
) -> Grid:
    """The grid of these samples [n, *shape], and `sigma` (in their units) in its steps. Raises `GridError`."""
    if not (math.isfinite(sigma) and sigma > 0):
        raise GridError(f"--sigma: expected a number above 0, in the units of the samples; got {sigma:g}")
    if not np.isfinite(samples.astype(np.float64)).all():
        raise GridError("samples hold what is not a finite number; leave these rows out")
    found = _seen(samples)
    made_up = found is None and step is None
    least, pace, most = found or _made_up(samples, sigma, step)
    least, pace = least if low is None else low, pace if step is None else step
    most = most if high is None else high
    steps = (most - least) / pace
    if not 1 <= steps < 2**24:
        raise GridError(
            f"from {least:g} to {most:g} there are {steps:.3g} steps of {pace:g}; expected 1 to {2**24:,}: give --low,"
            " --step and --high"
        )
    most = most if abs(steps - round(steps)) <= 1e-7 * steps else least + math.ceil(steps) * pace
    pace, sigma_steps = exact(sigma, pace)
    if sigma_steps > MOST_STEPS:
        raise GridError(
            f"sigma is {sigma_steps:.0f} steps of {pace:g}, and noise of at most {MOST_STEPS:,} is drawn exactly; give"
            f" --step {sigma / MOST_STEPS:.3g} or more"
        )
    return Grid(low=least, step=pace, high=most, sigma=sigma, sigma_steps=sigma_steps, made_up=made_up)


def _seen(samples: NDArray[Any]) -> tuple[float, float, float] | None:
    """Low, step and high of a grid on which the samples lie: bytes, bytes as 0 to 1, or whole numbers."""
    if samples.dtype == np.uint8:
        return 0.0, 1.0, 255.0
    values = samples.astype(np.float64)
    least, most = float(values.min()), float(values.max())
    whole = bool(np.all(np.abs(values - np.rint(values)) <= _ON))
    if whole and most - least > 1:
        picture = least >= 0 and 128 <= most <= 255
        return (0.0, 1.0, 255.0) if picture else (math.floor(least + 0.5), 1.0, math.floor(most + 0.5))
    bytes_of_one = values * 255
    if least >= 0 and most <= 1 and np.all(np.abs(bytes_of_one - np.rint(bytes_of_one)) <= 255 * _ON / 10):
        return 0.0, 1 / 255, 1.0
    return None


def _made_up(samples: NDArray[Any], sigma: float, step: float | None) -> tuple[float, float, float]:
    """A grid a tenth wider than the samples on both sides, fine beside the noise."""
    least, most = float(samples.min()), float(samples.max())
    pace = 2.0 ** round(math.log2(sigma / FINEST)) if step is None else step
    margin = max(0.1 * (most - least), pace)
    return math.floor((least - margin) / pace) * pace, pace, math.ceil((most + margin) / pace) * pace


def exact(sigma: float, step: float) -> tuple[float, float]:
    """Step and sigma in steps: doubles whose exact product is not below sigma, a hair beside those that are meant.

    With 1/255 itself, 63.75 steps would fall short of a sigma of .25 by a hair, and every radius with them.
    """
    steps = sigma / step
    steps = round(steps, 9) if abs(steps - round(steps, 9)) < 1e-12 * steps else steps
    for pace in (step, math.nextafter(step, math.inf)):
        if Fraction(steps) * Fraction(pace) >= Fraction(sigma):
            return pace, steps
    while Fraction(steps) * Fraction(step) < Fraction(sigma):
        steps = math.nextafter(steps, math.inf)
    return step, steps
