"""Noisy passes at one input under keys of the falsifier's own, and what is counted in them.

A key is a hash of the seed, what it is for and where: it shares nothing with a server's, which comes from its secret.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.keys import KEY_BYTES
from certify.smoothing.law import Law
from export.build.passes import BATCH, noisy_lattice
from export.bundle.batches import NoisyRun

EventKind = Literal["vote is", "vote is not", "joint is not", "score above", "score below", "score up to"]


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """Votes int64 [n] and scores float64 [n] of n noisy passes; a NaN score counts as infinite, as it does in the server."""

    votes: NDArray[np.int64]
    scores: NDArray[np.float64]

    @property
    def draws(self) -> int:
        """How many passes these are."""
        return len(self.votes)

    def share(self, label: int) -> float:
        """The share of votes for a label."""
        return float(np.mean(self.votes == label))

    def median(self) -> float:
        """The median score."""
        return float(np.partition(self.scores, (self.draws - 1) // 2)[(self.draws - 1) // 2])


@dataclass(frozen=True, slots=True)
class VoteEvent:
    """What may be seen in one pass; a claim bounds its probability from above by `most`.

    "joint is not": another vote than `value`, or a score above `threshold`.
    """

    kind: EventKind
    value: float
    most: float
    threshold: float = math.inf

    def hits(self, sample: Sample) -> int:
        """In how many passes it was seen."""
        match self.kind:
            case "vote is":
                seen = sample.votes == self.value
            case "vote is not":
                seen = sample.votes != self.value
            case "joint is not":
                seen = (sample.votes != self.value) | (sample.scores > self.threshold)
            case "score above":
                seen = sample.scores > self.value
            case "score below":
                seen = sample.scores < self.value
            case "score up to":
                seen = sample.scores <= self.value
        return int(np.sum(seen))


def own_key(seed: int, *place: object) -> bytes:
    """The key of one stream of the falsifier."""
    text = "\0".join(["certserve attack", str(seed), *map(str, place)])
    return hashlib.sha256(text.encode()).digest()[:KEY_BYTES]


def passes(
    noisy: NoisyRun, law: Law, point: NDArray[np.integer], key: bytes, draws: int
) -> list[tuple[NDArray[np.int32], Sample]]:
    """`draws` passes in whole batches, as they are served: each batch's lattice rows with what they gave."""
    found = []
    for start in range(0, draws, BATCH):
        rows = noisy_lattice(point, law, key, start, start + BATCH)
        votes, scores = noisy(rows)
        kept = min(BATCH, draws - start)
        given = np.where(np.isnan(scores), np.inf, scores).astype(np.float64)
        found.append((rows[:kept], Sample(votes[:kept], given[:kept])))
    return found


def joined(samples: list[Sample]) -> Sample:
    """Several samples of one input as one."""
    return Sample(np.concatenate([each.votes for each in samples]), np.concatenate([each.scores for each in samples]))
