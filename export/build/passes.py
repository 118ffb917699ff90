"""Noisy passes for fitting, calibration and evaluation: the served noise law, but streams keyed by the *row*.

A served stream is keyed by the input, so that asking again cannot buy luck. Calibration has to be keyed by the row
instead: equal rows under equal noise would be one observation counted twice, which breaks exchangeability.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.ood.verdict import lower_median
from certify.smoothing.keys import KEY_BYTES
from certify.smoothing.law import Law
from export.bundle.batches import NoisyRun
from export.progress import progress

BaseRun = Callable[[NDArray[np.int32]], NDArray[np.float32]]
"""lattice int32 [n, *shape] -> probabilities float32 [n, C]: the base graph in some runtime."""

BATCH = 128


@dataclass(frozen=True, eq=False, slots=True)
class Drawn:
    """What was drawn for each row: votes int64 [rows, draws] and scores float32 [rows, draws]."""

    votes: NDArray[np.int64]
    scores: NDArray[np.float32]

    def median_scores(self) -> NDArray[np.float64]:
        """The lower median of each row's scores: the score that is served."""
        return np.array([lower_median(row) for row in self.scores], dtype=np.float64)

    def counts(self, labels: int) -> NDArray[np.int64]:
        """Votes for each label, [rows, labels]; votes for none are left out."""
        return np.stack([(self.votes == label).sum(axis=1) for label in range(labels)], axis=1)


def row_key(purpose: str, row: int) -> bytes:
    """The key of one row's stream. No secret: nothing drawn from it is ever served."""
    return hashlib.sha256(f"{purpose}\0{row}".encode()).digest()[:KEY_BYTES]


def noisy_lattice(image: NDArray[np.integer], law: Law, key: bytes, start: int, stop: int) -> NDArray[np.int32]:
    """The perturbed inputs of the draws [start, stop) of one image, int32 [draws, *shape], never clipped."""
    return law.at(image).sample(key, start, stop)


def draw_rows(
    images: NDArray[np.integer],
    law: Law,
    run: NoisyRun,
    purpose: str,
    draws: int,
    *,
    first: int = 0,
    quiet: bool = False,
) -> Drawn:
    """The first `draws` noisy passes of each image [rows, *shape], row i on the stream of `row_key(purpose, first + i)`."""
    votes = np.empty((len(images), draws), dtype=np.int64)
    scores = np.empty((len(images), draws), dtype=np.float32)
    together = max(1, BATCH // draws)
    for start in progress(range(0, len(images), together), what=purpose, quiet=quiet):
        rows = range(start, min(start + together, len(images)))
        lattice = np.concatenate(
            [noisy_lattice(images[row], law, row_key(purpose, first + row), 0, draws) for row in rows]
        )
        parts = [run(lattice[at : at + BATCH]) for at in range(0, len(lattice), BATCH)]
        votes[rows.start : rows.stop] = np.concatenate([vote for vote, _ in parts]).reshape(len(rows), draws)
        scores[rows.start : rows.stop] = np.concatenate([score for _, score in parts]).reshape(len(rows), draws)
    return Drawn(votes, scores)
