"""A virtual device that knows what a false claim needs: it fails, or is late with, whatever goes against it."""

from __future__ import annotations

import math

import numpy as np

from serving.engine.workload import BaseBatch
from tests.half_space import SIGMA
from tests.simulation.replica import Replica

MAX_DRAWS = 1_280
WISHES = ("for", "against", "up", "down")
"""What it wants of the draws of an input: votes for its most probable class or against it, or scores of one side."""
TOLERANCES = (math.inf, math.inf, 1.5, 0.0)
"""Standard errors by which a batch may go against the wish: two honest devices, one that is choosy, one that is greedy."""


class Noise:
    """The first coordinates of `X + Z`, made once for each key, and what the device wishes of them."""

    def __init__(self, oracle, wish_of) -> None:
        self._oracle, self._wish_of = oracle, wish_of
        self._streams: dict[bytes, np.ndarray] = {}

    def noisy(self, batch) -> tuple[np.ndarray, np.ndarray]:
        """Votes and scores of a batch; without a head the score is 0."""
        first = np.concatenate([self._moved(each) + int(each.law.lattice[0]) for each in batch.draws])
        scores = first if self._oracle.bundle.detector else np.zeros(len(first))
        return self._oracle.passes(first), scores.astype(np.float32)

    def agreement(self, batch) -> float:
        """How far the noise of a batch goes towards the wishes, in standard errors."""
        every = np.concatenate([self._wished(self._moved(each), each.law.lattice) for each in batch.draws])
        return float(every.sum() / math.sqrt(len(every)))

    def _moved(self, draws) -> np.ndarray:
        if draws.key not in self._streams:
            spec, noise = self._oracle.bundle.manifest.input, self._oracle.bundle.law.table
            self._streams[draws.key] = noise.sample(draws.key, 0, MAX_DRAWS, spec.size)[:, 0].astype(int)
        return self._streams[draws.key][draws.start : draws.stop]

    def _wished(self, moved: np.ndarray, lattice: np.ndarray) -> np.ndarray:
        """Of each draw how much it is what is wished, of mean 0 and variance 1."""
        first, wish = int(lattice[0]), self._wish_of(lattice)
        if wish in ("up", "down"):
            found = moved / SIGMA
        else:
            shares = self._oracle.shares(first)
            most = max(shares)
            found = (self._oracle.votes(first + moved) == shares.index(most)) - most
            found = found / math.sqrt(most * (1 - most))
        return -found if wish in ("down", "against") else found


class LosingReplica(Replica):
    """Of the batches that go against the wish most fail, and again when they are drawn anew: their slices are lost.

    The others come late, after many that were asked for after them, or after the deadline.
    """

    def __init__(self, bundles, noise: Noise, tolerance: float, broken) -> None:
        super().__init__(bundles, noise, {}, broken, lambda _: None, lambda model, wanted: 1)
        self._noise, self._tolerance = noise, tolerance
        self._classes = len(bundles[0].manifest.labels)
        self._disliked = 0

    def _base(self, lattice) -> np.ndarray:
        """Of no matter to any claim: it is sure of the first class."""
        return np.eye(1, self._classes, dtype=np.float32)[0]

    def _fate(self, batch) -> tuple[str, int]:
        if isinstance(batch, BaseBatch) or self._noise.agreement(batch) >= -self._tolerance:
            return "well", 1
        self._disliked += 1
        return ("slow", 12) if self._disliked % 8 == 0 else ("fail", 1)
