"""Numbers as rows of integers on the grid that a bundle declares, and how far each row was moved to get there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import InputSpec
from serving.errors import InvalidInput
from serving.inputs.file_rows import FileRows
from serving.messages import InputNote


def on_grid(
    inputs: NDArray[np.generic], spec: InputSpec, max_rows: int, snap: bool
) -> tuple[tuple[NDArray[np.int32], ...], list[InputNote | None]]:
    """Each row of `inputs` (rows, *shape) as int32 of the grid, and how far it was moved onto it, if it was.

    Integers are of the grid already, those of sound signed samples. Floats are in the caller's units, and only with `snap`
    may they lie off the grid by more than what a float of 32 bits may be off. Raises `InvalidInput`, naming the first row
    that is wrong.
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
    if isinstance(inputs, FileRows):
        said = inputs.treated or ((),) * len(inputs)
        notes = [InputNote(snapped=False, snap_distance=0.0, treated=each) if each else None for each in said]
        return np.asarray(inputs), notes
    if np.issubdtype(inputs.dtype, np.integer):
        if not _holds_nothing_else(inputs.dtype, spec):
            what = f"grid integers of '{spec.name}' (steps of {_shown(spec.step)} {spec.units})"
            _in_range(inputs, np.array(-spec.zero), spec.tops - spec.zero, "signed samples" if spec.zero else what)
        return inputs.astype(np.int32) + np.int32(spec.zero), [None] * len(inputs)
    values = inputs.astype(np.float64)
    _refuse_rows(~np.isfinite(values), f"values of '{spec.name}' must be finite numbers")
    steps, slack = (values - spec.low) / spec.step, spec.grid.slack
    what = f"values of '{spec.name}' in {spec.units}" if spec.grid.columns is None else f"values of '{spec.name}'"
    _in_range(steps, -slack, spec.tops + slack, what, spec.low, np.asarray(spec.grid.high))
    grid = np.clip(np.rint(steps), 0, spec.tops)
    off = (np.abs(steps - grid) > slack).reshape(len(grid), -1).any(axis=1)
    if not snap:
        places = f"{_shown(spec.low)} + k * {_shown(spec.step)}"
        _refuse_rows(off, f"values of '{spec.name}' must lie on the grid {places}; or say snap=true")
    distances = np.sqrt(np.sum((steps - grid).reshape(len(grid), -1) ** 2, axis=1)) * spec.length
    notes = [
        InputNote(snapped=bool(far), snap_distance=float(moved)) if moved else None
        for far, moved in zip(off, distances, strict=True)
    ]
    return grid.astype(np.int32), notes


def _holds_nothing_else(datatype: np.dtype[Any], spec: InputSpec) -> bool:
    """Whether every integer of a type is one of the grid, as those of a byte are of 8-bit pixels."""
    if spec.grid.columns is not None:
        return False
    ends = np.iinfo(datatype)
    return ends.min >= -spec.zero and ends.max <= spec.top - spec.zero


def _shown(numbers: NDArray[np.float64]) -> str:
    """One number, or the first of those of each column."""
    if not numbers.ndim:
        return f"{float(numbers):.6g}"
    return "[" + ", ".join(f"{each:.6g}" for each in numbers[:4]) + (", ...]" if len(numbers) > 4 else "]")


def _in_range(
    values: NDArray[np.generic],
    low: NDArray[Any],
    high: NDArray[Any],
    what: str,
    said_low: NDArray[Any] | None = None,
    said_high: NDArray[Any] | None = None,
) -> None:
    bad = (values < low) | (values > high)
    rows = bad.reshape(len(bad), -1).any(axis=1)
    if not rows.any():
        return
    place = tuple(int(each[0]) for each in np.nonzero(bad))
    ends = (low if said_low is None else said_low, high if said_high is None else said_high)
    least, most = (np.broadcast_to(end, values.shape[1:])[place[1:]].item() for end in ends)
    column = f", column {place[1]}" if np.ndim(ends[1]) else ""
    raise InvalidInput(f"row {place[0]}{column}: {what} must lie in {least} to {most}")


def _refuse_rows(bad: NDArray[np.bool_], message: str) -> None:
    rows = bad.reshape(len(bad), -1).any(axis=1)
    if rows.any():
        raise InvalidInput(f"row {int(np.argmax(rows))}: {message}")
