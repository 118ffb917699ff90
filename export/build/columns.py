"""A grid with a step for each column of feature vectors, whose columns measure different things.

The noise has the same number of steps in every column, and so the same share of every column's scale: it is isotropic once
each column is divided by its scale, and the radius is a distance in these units. From data, the scale of a column is its
range without the outermost hundredth on either side, cut into 65,535 steps; where its values lie on a coarser grid of their
own (whole numbers, tenths), a step is a whole part of that, so that no value has to be moved. With given steps the scales
are the steps themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.build.grid import Grid, GridError, GridNumbers, check_numbers, check_steps, exact

FOUND = "shares of each column's range, from its 1st to its 99th percentile"
GIVEN = "steps of each column"
_STEPS = 2**16 - 1
_LEAST_PARTS = 16
"""Of a column's own step: with fewer, the scale would be rounded by more than three hundredths."""
_FINEST = 2**23
"""Steps from end to end, at most: fewer than a grid may have, and a scale is larger where there are outliers far out."""
_CLOSE = 1e-6


def found_in(samples: NDArray[np.generic], sigma: float, *, low: GridNumbers = None, high: GridNumbers = None) -> Grid:
    """The grid of vectors [n, columns]; `sigma` in shares of each scale.

    On both sides it is wider by all that the values span, for rows that come later; `low` and `high` are the ends where they
    are given. Raises `GridError`.
    """
    check_numbers(samples, sigma)
    values = _vectors(samples)
    length, sigma_steps = exact(sigma, 1 / _STEPS)
    check_steps(sigma_steps, "give a smaller --sigma: it is a share of each column's range")
    least, most, count = values.min(axis=0), values.max(axis=0), values.shape[1]
    lows, steps, highs = np.empty(count), np.empty(count), np.empty(count)
    for column in range(count):
        scale = _scale(values[:, column])
        own = _own_step(values[:, column], scale)
        steps[column] = scale / _STEPS if own is None else own / round(_STEPS * own / scale)
        wide = np.ceil(max(scale, most[column] - least[column]) / steps[column])
        lows[column] = least[column] - wide * steps[column]
        highs[column] = most[column] + wide * steps[column]
    lows, highs = _ends(low, lows), _ends(high, highs)
    return _grid(lows, steps, highs, length, sigma, sigma_steps, FOUND)


def given(
    samples: NDArray[np.generic], sigma: float, step: tuple[float, ...], low: GridNumbers, high: GridNumbers
) -> Grid:
    """The grid with these steps, likewise wider where no ends are given. `sigma` is in steps.

    Raises `GridError`.
    """
    check_numbers(samples, sigma)
    values, steps = _vectors(samples), np.array(step)
    if steps.shape != values.shape[1:] or not np.all(steps > 0):
        raise GridError(f"--step: expected a number above 0 for each of {values.shape[1]} columns; got {len(step)}")
    check_steps(sigma, "give larger steps, and a smaller --sigma: it is in steps")
    wide = np.ceil((values.max(axis=0) - values.min(axis=0)) / steps) + 1
    lows, highs = values.min(axis=0) - wide * steps, values.max(axis=0) + wide * steps
    return _grid(_ends(low, lows), steps, _ends(high, highs), 1.0, sigma, sigma, GIVEN)


def _grid(
    lows: NDArray[np.float64],
    steps: NDArray[np.float64],
    highs: NDArray[np.float64],
    length: float,
    sigma: float,
    sigma_steps: float,
    units: str,
) -> Grid:
    tops = np.ceil((highs - lows) / steps - _CLOSE)
    wrong = ~((tops >= 1) & (tops < 2**24))
    if wrong.any():
        column = int(np.argmax(wrong))
        raise GridError(
            f"column {column}: from {lows[column]:g} to {highs[column]:g} there are {tops[column]:.3g} steps of"
            f" {steps[column]:g}; expected 1 to {2**24:,}: give --low, --step and --high for each column"
        )
    return Grid(
        low=lows,
        step=steps,
        high=lows + tops * steps,
        length=length,
        sigma=sigma,
        sigma_steps=sigma_steps,
        made_up=True,
        units=units,
    )


def _vectors(samples: NDArray[np.generic]) -> NDArray[np.float64]:
    if samples.ndim != 2:
        raise GridError(f"a step for each column is for vectors [rows, columns]; got the shape {list(samples.shape)}")
    return samples.astype(np.float64)


def _ends(said: GridNumbers, found: NDArray[np.float64]) -> NDArray[np.float64]:
    if said is None:
        return found
    if isinstance(said, tuple) and len(said) != len(found):
        raise GridError(f"--low, --high: expected one number, or one for each of {len(found)} columns; got {len(said)}")
    return np.broadcast_to(np.asarray(said, dtype=np.float64), found.shape).copy()


def _scale(column: NDArray[np.float64]) -> float:
    """The range that holds 98 of 100 values, else all; of a constant column its size, or 1."""
    low, high = np.percentile(column, (1, 99))
    whole = float(column.max() - column.min())
    least = 3 * whole * _STEPS / _FINEST
    return max(float(high - low), least) or whole or float(np.abs(column).max()) or 1.0


def _own_step(column: NDArray[np.float64], scale: float) -> float | None:
    """The largest step on which all values of a column lie, if it is not too fine to be one."""
    different = np.unique(column)
    if len(different) < 2:
        return None
    step = float(np.diff(different).min())
    steps = (different - different[0]) / step
    on = np.all(np.abs(steps - np.rint(steps)) <= _CLOSE * np.maximum(1, steps))
    return step if on and step * _STEPS / scale >= _LEAST_PARTS else None
