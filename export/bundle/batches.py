"""The shape of a batch is part of what is certified: the same graph may round otherwise in another shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certify.claims.confidence import labels_of
from certify.receipts.replay import NoisyRun

__all__ = ["NoisyRun", "in_batches", "without_grades"]


def in_batches(run: NoisyRun, rows: int) -> NoisyRun:
    """The same passes of any number of inputs, `rows` at a time and the last batch padded: the shape that is served."""

    def batched(lattice: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        short = -len(lattice) % rows
        padded = np.concatenate([lattice, np.zeros((short, *lattice.shape[1:]), dtype=np.int32)])
        parts = [run(padded[start : start + rows]) for start in range(0, len(padded), rows)]
        votes, scores = (np.concatenate(each)[: len(lattice)] for each in zip(*parts, strict=True))
        return votes, scores

    return batched


def without_grades(run: NoisyRun, labels: int) -> NoisyRun:
    """The same passes, whose votes are labels alone, also where the graph grades them; `labels` is none."""

    def plain(lattice: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        votes, scores = run(lattice)
        return labels_of(votes, labels), scores

    return plain
