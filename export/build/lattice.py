"""From rows of a data set to inputs of a bundle: grid integers in the bundle's shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from export.bundle import ImageKind, InputSpec
from export.data import UNLABELLED, DataError, Dataset

LatticeRows = NDArray[np.int32]


def lattices(
    dataset: Dataset, spec: InputSpec, rows: int, start: int = 0
) -> Iterator[tuple[LatticeRows, NDArray[np.int64]]]:
    """The rows from `start` on as grid integers int32 [n, *spec.shape], with their labels, `rows` at a time.

    Grid integers stay what they are; values in the caller's units are moved to the nearest point of the grid, as a server
    does with `snap`. Raises `DataError` for another shape, and for a row outside of the grid's range.
    """
    order = _order(dataset, spec)
    for batch in dataset.batches(rows, start):
        steps = _steps(_in_mode(batch.inputs, dataset, spec), dataset, spec, start)
        yield (
            np.ascontiguousarray(steps.transpose(0, *(1 + axis for axis in order))).reshape(-1, *spec.shape),
            batch.labels,
        )
        start += len(batch)


def _in_mode(inputs: NDArray[np.generic], dataset: Dataset, spec: InputSpec) -> NDArray[np.generic]:
    """Pictures, whose colours are read as red, green and blue, in the bundle's order."""
    reverse = dataset.pictures and isinstance(spec.kind, ImageKind) and spec.kind.mode == "BGR"
    return inputs[..., ::-1] if reverse else inputs


def label_places(dataset: Dataset, labels: tuple[str, ...]) -> NDArray[np.int64]:
    """For each label of the data set the index that the bundle has for it: by name, or by number where it has none.

    Raises `DataError` for a label that the bundle does not know.
    """
    known: Mapping[str, int] = {name: index for index, name in enumerate(labels)}
    if all(name in known for name in dataset.names):
        return np.array([known[name] for name in dataset.names], dtype=np.int64)
    if dataset.numbered and len(dataset.names) <= len(labels):
        return np.arange(len(dataset.names))
    unknown = [name for name in dataset.names if name not in known] if not dataset.numbered else dataset.names[-1:]
    shown = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
    raise DataError(
        f"{dataset.source} has the label {unknown[0]!r}, which the model has not; it has {len(labels)}: {shown}. Labels"
        " are numbers from 0 or the names that --labels gives at export, in the network's own order"
    )


def with_places(labels: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of a data set as the bundle counts them; what has none keeps none."""
    return np.where(labels == UNLABELLED, UNLABELLED, places[labels]) if places.size else labels


def _order(dataset: Dataset, spec: InputSpec) -> tuple[int, ...]:
    """The axes of a row in the bundle's order."""
    have, want = dataset.shape, tuple(spec.shape)
    same = tuple(range(len(have)))
    to_chw = len(have) == 3 and spec.layout == "CHW" and (have[2], have[0], have[1]) == want
    if dataset.pictures and to_chw:
        return 2, 0, 1
    if have == want or (1 in want and have == tuple(size for size in want if size != 1)):
        return same  # a grey picture may come without its channel
    if to_chw:
        return 2, 0, 1
    if int(np.prod(have)) == spec.size and len(have) == 1:
        return same  # a table of pixels, in the order of the shape
    kind = "pictures [height, width, channels]" if dataset.pictures else "inputs"
    raise DataError(
        f"{dataset.source} holds {kind} of shape {list(have)}; the model takes {list(want)} ({spec.layout}): bring the data"
        " to this shape"
    )


def _steps(inputs: NDArray[np.generic], dataset: Dataset, spec: InputSpec, first: int) -> LatticeRows:
    if dataset.units == "grid" and spec.grid.columns is None:  # tables of whole numbers are values like any others
        steps = inputs.astype(np.int64) + spec.zero
        outside = (steps < 0) | (steps > spec.tops)
        kind, low, high = "grid integers", np.array(0.0 - spec.zero), (spec.tops - spec.zero).astype(np.float64)
    else:
        exact = (inputs.astype(np.float64) - spec.low) / spec.step
        outside = (exact < -spec.grid.slack) | (exact > spec.tops + spec.grid.slack)
        steps = np.clip(np.rint(exact), 0, spec.tops).astype(np.int64)
        kind, low, high = "values", spec.low, spec.low + spec.step * spec.tops
    if outside.any():
        place = tuple(int(each[0]) for each in np.nonzero(outside))
        least, most = (np.broadcast_to(each, spec.shape)[place[1:]] for each in (low, high))
        column = f", column {place[1]}" if spec.grid.columns else ""
        raise DataError(
            f"{dataset.source}, row {first + place[0]}{column}: {inputs[place]} is outside of what the model takes, {kind}"
            f" from {least:g} to {most:g}; leave the row out, or export the model with a wider grid"
        )
    return steps.astype(np.int32)
