"""Arrays that are in memory already, as a data set: inputs in the caller's units, and their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.data.dataset import Batch, DataError, Dataset, picked


def of_arrays(inputs: NDArray[Any], labels: Sequence[Any] | NDArray[Any], source: str, *, named: bool) -> Dataset:
    """Inputs [n, ...] of numbers with n labels. `named`: labels are names, numbers too; else whole numbers are indices."""
    values = np.asarray(labels)
    if inputs.ndim < 2 or not len(inputs) or inputs.dtype.kind not in "iuf":
        raise DataError(f"{source}: expected numbers [rows, ...], got {inputs.dtype} of shape {list(inputs.shape)}")
    if values.shape != inputs.shape[:1] or values.dtype.kind not in "iubUOf":
        raise DataError(f"{source}: expected {len(inputs)} labels, one a row; got {values.dtype} {list(values.shape)}")
    numbered = not named and values.dtype.kind in "iu"
    if numbered and values.min() < 0:
        raise DataError(f"{source}: the label {values.min()} is below 0; expected indices from 0")
    if numbered:
        names, places = tuple(map(str, range(int(values.max()) + 1))), values.astype(np.int64)
    else:
        found, places = np.unique(values, return_inverse=True)
        names, places = tuple(str(each) for each in found), places.astype(np.int64)

    def chunks(rows: int) -> Iterator[Batch]:
        for start in range(0, len(inputs), rows):
            yield Batch(inputs[start : start + rows], places[start : start + rows])

    return Dataset(
        source=source,
        shape=inputs.shape[1:],
        units="values",
        names=names,
        numbered=numbered,
        places=range(len(inputs)),
        files=(),
        read=lambda wanted, rows: picked(chunks(rows), 0, wanted),
        part=hashlib.sha256(np.ascontiguousarray(inputs).tobytes() + places.tobytes()).hexdigest(),
    )
