"""A data set brought into the shape that a model takes, and the samples that its grid and the comparison are made from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.build.grid import GridNumbers
from export.data import Batch, DataError, Dataset

SAMPLES = 512
_ROWS = 256
_COLUMNS = 256
"""Of so many and fewer, the rows with the ends of each are kept."""


def shape_for(dataset: Dataset, layout: str | None, axes: Sequence[int | str | None] | None = None) -> tuple[int, ...]:
    """The shape of one input: that of the rows, as the `axes` of a model say, where they are known.

    Pictures, which are read as [height, width, channels], have their channels first where both fit, unless `layout` is HWC.
    """
    have = dataset.shape
    first = (have[2], have[0], have[1]) if dataset.pictures and layout != "HWC" else have
    for shape in (first, have) if layout != "CHW" else (first,):
        if axes is None or _fits(shape, axes):
            return shape
    fixed = tuple(axis for axis in axes or () if isinstance(axis, int))
    return fixed if axes is not None and len(fixed) == len(axes) else first


def arranged(dataset: Dataset, shape: tuple[int, ...], *, on_grid: bool) -> Dataset:
    """The same rows in this shape. Whole numbers are grid integers only if `on_grid`, else values like any others.

    Raises `DataError` where the rows do not have so many numbers in such an order.
    """
    have = dataset.shape
    turned = dataset.pictures and have != shape and (have[2], have[0], have[1]) == shape
    alike = [size for size in have if size != 1] == [size for size in shape if size != 1]
    flat = len(shape) == 1 and math.prod(have) == shape[0] and (not dataset.pictures or have[2] == 1)
    if not (turned or alike or flat):
        raise DataError(
            f"{dataset.source} holds inputs of shape {list(have)}; the model takes {list(shape)}: bring the data to this"
            f" shape{', or say --resize and --pictures' if dataset.pictures else ''}"
        )

    def read(places: range, rows: int) -> Iterator[Batch]:
        for batch in dataset.read(places, rows):
            inputs = batch.inputs.transpose(0, 3, 1, 2) if turned else batch.inputs
            yield Batch(np.ascontiguousarray(inputs).reshape(-1, *shape), batch.labels)

    units = dataset.units if on_grid else "values"
    return replace(dataset, shape=shape, units=units, pictures=False, read=read)


def samples(dataset: Dataset, low: GridNumbers, step: GridNumbers) -> NDArray[Any]:
    """Some hundred rows, evenly spaced, and those with the least and the largest number of vectors' each column, in the
    caller's units.
    """
    stride = max(1, len(dataset) // SAMPLES)
    kept: list[NDArray[Any]] = []
    ends = _Ends()
    for place, batch in enumerate(dataset.batches(_ROWS)):
        kept.append(batch.inputs[-place * _ROWS % stride :: stride])
        ends.see(batch.inputs)
    found = np.concatenate([*kept, *ends.rows])
    if dataset.units == "grid" and isinstance(step, float):
        return (0.0 if low is None else np.asarray(low)) + step * found.astype(np.float64)
    return found


class _Ends:
    """The rows that hold the least and the largest numbers so far: of vectors those of each column."""

    def __init__(self) -> None:
        self.rows: list[NDArray[Any]] = []

    def see(self, inputs: NDArray[Any]) -> None:
        together = np.concatenate([*self.rows, inputs])
        flat = together.reshape(len(together), -1)
        if together.ndim == 2 and flat.shape[1] <= _COLUMNS:
            places = np.concatenate([flat.argmin(axis=0), flat.argmax(axis=0)])
        else:
            places = np.array([flat.min(axis=1).argmin(), flat.max(axis=1).argmax()])
        self.rows = [together[np.unique(places)]]


def _fits(shape: tuple[int, ...], axes: Sequence[int | str | None]) -> bool:
    return len(shape) == len(axes) and all(
        not isinstance(axis, int) or axis == size for size, axis in zip(shape, axes, strict=True)
    )
