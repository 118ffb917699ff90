"""What a runtime has to show before it serves: the golden outputs, and that a row's answer is its own.

A certificate speaks of one function of the input. A runtime whose result depends on a row's place in the batch or on its
mates computes another function for each batch, and nothing would be proven of any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from serving.runtimes.protocol import Runtime

_Run = Callable[[NDArray[np.int32]], tuple[NDArray[Any], ...]]


class ProofError(RuntimeError):
    """A runtime does not compute what its bundle declares."""


def prove(bundle: Bundle, runtime: Runtime, base_rows: int) -> None:
    """Raise `ProofError` unless the runtime reproduces the golden outputs, in every slot and among any mates."""
    golden, name = bundle.golden, f"{bundle.manifest.name}/{bundle.manifest.version}"
    tolerance = bundle.manifest.golden_tolerance
    votes, scores = _slots(golden.noisy_input, bundle.manifest.batch_rows, runtime.noisy, name)
    if not np.array_equal(votes, golden.votes):
        raise ProofError(
            f"{name}: {int(np.sum(votes != golden.votes))} golden votes differ under {runtime.description}"
        )
    _close(scores, golden.scores, tolerance, f"{name}: golden scores under {runtime.description}")
    (probabilities,) = _slots(golden.base_input, base_rows, lambda batch: (runtime.base(batch),), name)
    _close(
        probabilities, golden.base_probabilities, tolerance, f"{name}: golden probabilities under {runtime.description}"
    )


def _slots(inputs: NDArray[np.int32], rows: int, run: _Run, name: str) -> tuple[NDArray[Any], ...]:
    """Each input fills a batch alone, then stands in every slot among shifting mates: bit for bit the same answers."""
    alone = [run(np.repeat(row[None], rows, axis=0)) for row in inputs]
    for first in range(len(inputs)):
        order = (first + np.arange(rows)) % len(inputs)
        for part, mixed in enumerate(run(inputs[order])):
            own = np.stack([alone[row][part][0] for row in order])
            if not (np.array_equal(mixed, own) and np.all(alone[first][part] == alone[first][part][0])):
                raise ProofError(f"{name}: an answer depends on its place in the batch or on the rows beside it")
    return tuple(np.stack([each[part][0] for each in alone]) for part in range(len(alone[0])))


def _close(found: NDArray[np.float32], wanted: NDArray[np.float32], tolerance: float, what: str) -> None:
    scale = np.maximum(1.0, np.abs(wanted))
    worst = float(np.max(np.abs(found.astype(float) - wanted) / scale))
    if not worst <= tolerance:
        raise ProofError(f"{what} are off by {worst:.2g}, more than the bundle's {tolerance:g}")
