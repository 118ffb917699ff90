"""Numbers as rows of integers on the grid that a bundle declares, and how far each row was moved to get there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.bundle import InputSpec
from serving.errors import InvalidInput
from serving.messages import InputNote

ON_GRID = 1e-3
"""Values this close to a grid point, in steps, are moved onto it without `snap`; the answer says by how much."""


def on_grid(
    inputs: NDArray[np.generic], spec: InputSpec, max_rows: int, snap: bool
) -> tuple[tuple[NDArray[np.int32], ...], list[InputNote | None]]:
    """Each row of `inputs` (rows, *shape) as int32 of the grid, and how far it was moved onto it, if it was.

    Integers are of the grid already; floats are in the caller's units, and only with `snap` may they lie off the grid.
    Raises `InvalidInput`, naming the first row that is wrong.
    """
    found, notes = _moved(_shaped(inputs, spec, max_rows), spec, snap)
    return tuple(found), notes


def _shaped(inputs: NDArray[np.generic], spec: InputSpec, max_rows: int) -> NDArray[np.generic]:
    expected = f"[n, {', '.join(map(str, spec.shape))}]"
    if inputs.dtype.kind not in "iuf":
        raise InvalidInput(f"input '{spec.name}': expected integers or floating-point numbers, got {inputs.dtype}")
    if inputs.shape[1:] != tuple(spec.shape):
        raise InvalidInput(f"input '{spec.name}': expected shape {expected}, got {list(inputs.shape)}")
    if not 1 <= len(inputs) <= max_rows:
        raise InvalidInput(f"input '{spec.name}': expected 1 to {max_rows} rows, got {len(inputs)}; split the request")
    return inputs


def _moved(
    inputs: NDArray[np.generic], spec: InputSpec, snap: bool
) -> tuple[NDArray[np.int32], list[InputNote | None]]:
    if np.issubdtype(inputs.dtype, np.integer):
        _in_range(inputs, 0, spec.top, f"grid integers of '{spec.name}' (steps of {spec.step:.6g} {spec.units})")
        return inputs.astype(np.int32), [None] * len(inputs)
    values = inputs.astype(np.float64)
    _refuse_rows(~np.isfinite(values), f"values of '{spec.name}' must be finite numbers")
    slack = ON_GRID * spec.step
    _in_range(
        values, spec.low - slack, spec.high + slack, f"values of '{spec.name}' in {spec.units}", spec.low, spec.high
    )
    steps = (values - spec.low) / spec.step
    grid = np.clip(np.rint(steps), 0, spec.top)
    off = np.abs(steps - grid).reshape(len(grid), -1).max(axis=1) > ON_GRID
    if not snap:
        _refuse_rows(
            off, f"values of '{spec.name}' must lie on the grid {spec.low} + k * {spec.step:.6g}; or say snap=true"
        )
    distances = np.sqrt(np.sum((steps - grid).reshape(len(grid), -1) ** 2, axis=1)) * spec.step
    notes = [
        InputNote(snapped=bool(far), snap_distance=float(moved)) if moved else None
        for far, moved in zip(off, distances, strict=True)
    ]
    return grid.astype(np.int32), notes


def _in_range(
    values: NDArray[np.generic],
    low: float,
    high: float,
    what: str,
    said_low: float | None = None,
    said: float | None = None,
) -> None:
    bad = (values < low) | (values > high)  # type: ignore[operator]
    _refuse_rows(bad, f"{what} must lie in {low if said_low is None else said_low} to {high if said is None else said}")


def _refuse_rows(bad: NDArray[np.bool_], message: str) -> None:
    rows = bad.reshape(len(bad), -1).any(axis=1)
    if rows.any():
        raise InvalidInput(f"row {int(np.argmax(rows))}: {message}")
