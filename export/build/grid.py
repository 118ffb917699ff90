"""The grid of a bundle's inputs, from what samples are or what the user says, and sigma in its steps.

`value = low + step * integer`. Steps and sigma are put into doubles so that sigma in the caller's units is never above the
exact product, by which radii would come out short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.laws import LARGEST_TABLE

FINEST = 64
"""Steps of a grid that is made up, in one sigma: rounding to it moves a value by a hundredth of the noise."""
MOST_STEPS = LARGEST_TABLE // 10
"""Steps in one sigma: the table of the noise reaches some nine sigma."""
LEAST_STEPS = 0.06
"""Steps in one sigma: with less, noise is 0 but for some draws in 10^17, and no table holds it."""
_ON = 1e-4
_FINE = 2**16 - 1
_SIGNED = 2**15

Numbers = NDArray[np.float64]
GridNumbers = float | tuple[float, ...] | None
"""What the user says of a grid: one number, one for each column, or nothing."""


class GridError(ValueError):
    """Samples and grid do not fit; one line says how to mend it."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Grid:
    """`low`, `step` and `high` are 0-d arrays, or have a number for each column; one step is `length` in sigma's units.

    `made_up`: no grid was seen in the samples, so that a client's values are moved onto it (`snap`). `units` are those of
    `length`, in words, where the grid itself says them.
    """

    low: Numbers
    step: Numbers
    high: Numbers
    length: float
    sigma: float
    sigma_steps: float
    made_up: bool
    units: str = ""

    @property
    def tops(self) -> NDArray[np.int64]:
        """The largest integers."""
        return np.rint((self.high - self.low) / self.step).astype(np.int64)

    def integers(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """The nearest points of the grid. Raises `GridError` for values beyond it."""
        steps = (values.astype(np.float64) - self.low) / self.step
        outside = ~((steps > -0.5) & (steps < self.tops + 0.5))
        if outside.any():
            place = tuple(int(each[0]) for each in np.nonzero(outside))
            low, high = (np.broadcast_to(each, values.shape[1:])[place[1:]] for each in (self.low, self.high))
            raise GridError(
                f"samples reach from {values.min():g} to {values.max():g}, and {values[place]:g} is beyond the grid from"
                f" {low:g} to {high:g}; give --low and --high"
            )
        return np.rint(steps).astype(np.int32)

    def values(self, integers: NDArray[np.integer]) -> NDArray[np.float64]:
        """What the integers stand for."""
        return np.asarray(self.low + self.step * integers.astype(np.float64))


def declared(
    samples: NDArray[Any],
    sigma: float,
    *,
    low: float | None = None,
    step: float | None = None,
    high: float | None = None,
) -> Grid:
    """The grid of these samples [n, *shape], and `sigma` (in their units) in its steps. Raises `GridError`."""
    check_numbers(samples, sigma)
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
    check_steps(sigma_steps, f"give --step {sigma / MOST_STEPS:.3g} or more")
    return Grid(
        low=np.array(least),
        step=np.array(pace),
        high=np.array(most),
        length=pace,
        sigma=sigma,
        sigma_steps=sigma_steps,
        made_up=made_up,
    )


def check_numbers(samples: NDArray[Any], sigma: float) -> None:
    """Raise `GridError` for a sigma that is none, and for samples that are no finite numbers."""
    if not (math.isfinite(sigma) and sigma > 0):
        raise GridError(f"--sigma: expected a number above 0, in the units of the samples; got {sigma:g}")
    check_finite(samples)


def check_finite(samples: NDArray[Any]) -> None:
    """Raise `GridError` for samples that are no finite numbers."""
    bad = ~np.isfinite(samples.astype(np.float64)).reshape(len(samples), -1).all(axis=1)
    if bad.any():
        raise GridError(
            f"samples hold what is not a finite number, in {np.sum(bad):,} rows, the first of them {np.argmax(bad)}; leave"
            " these rows out"
        )


def check_steps(sigma_steps: float, mend: str) -> None:
    """Raise `GridError` where the noise would need a larger table than is drawn from."""
    if sigma_steps > MOST_STEPS:
        raise GridError(
            f"sigma is {sigma_steps:.0f} steps of the grid, and noise of at most {MOST_STEPS:,} is drawn, by a table of"
            f" {LARGEST_TABLE:,} entries; {mend}"
        )


def check_moves(grid: Grid) -> Grid:
    """The same grid. Raises `GridError` where the noise of this sigma would never move a number by a step."""
    if grid.sigma_steps < LEAST_STEPS:
        raise GridError(
            f"--sigma: {grid.sigma:g} is {grid.sigma_steps:.3g} steps of the grid; noise so small moves nothing; expected"
            f" {LEAST_STEPS} steps or more: sigma is in the units of the samples, and --step gives a finer grid"
        )
    return grid


def one_or_each(numbers: Sequence[float] | float | None) -> GridNumbers:
    """What a flag says: one number, or one for each column."""
    if numbers is None or isinstance(numbers, float | int):
        return numbers
    return float(numbers[0]) if len(numbers) == 1 else tuple(map(float, numbers))


def _seen(samples: NDArray[Any]) -> tuple[float, float, float] | None:
    """Low, step and high of a grid on which the samples lie: bytes, 16-bit numbers, these as 0 to 1 or -1 to 1, or whole
    numbers.
    """
    if samples.dtype == np.uint8:
        return 0.0, 1.0, 255.0
    if samples.dtype == np.int16:
        return float(-_SIGNED), 1.0, float(_SIGNED - 1)
    values = samples.astype(np.float64)
    least, most = float(values.min()), float(values.max())
    if 1 < most - least < 2**24 and _lie_on(values, 1.0):
        picture = least >= 0 and 128 <= most <= 255
        return (0.0, 1.0, 255.0) if picture else (math.floor(least + 0.5), 1.0, math.floor(most + 0.5))
    for top, off in ((255, 255 * _ON / 10), (_FINE, _ON)):
        if least >= 0 and 1 / top <= most <= 1 and _lie_on(values, 1 / top, off):
            return 0.0, 1 / top, 1.0
    if -1 <= least < 0 and most < 1 and _lie_on(values, 1 / _SIGNED):
        return -1.0, 1 / _SIGNED, 1 - 1 / _SIGNED
    return None


def _lie_on(values: NDArray[np.float64], step: float, off: float = _ON) -> bool:
    """Whether all are whole numbers of steps, as far as floats of 32 bits can tell."""
    steps = values / step
    far = np.abs(steps - np.rint(steps))
    off = max(off, 2.0**-23 * float(np.abs(steps).max(initial=0)))
    return not far.any() or (off < 0.1 and bool(np.all(far <= off)))


def _made_up(samples: NDArray[Any], sigma: float, step: float | None) -> tuple[float, float, float]:
    """A grid a tenth wider than the samples on both sides, fine beside the noise."""
    least, most = float(samples.min()), float(samples.max())
    pace = 2.0 ** round(math.log2(sigma / FINEST)) if step is None else step
    margin = max(0.1 * (most - least), pace)
    low, high = (math.floor((least - margin) / pace), math.ceil((most + margin) / pace))
    return low * pace, pace, high * pace


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
