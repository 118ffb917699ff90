"""A virtual device that runs the half-space exactly, and what is true of its inputs."""

from __future__ import annotations

import numpy as np

from certify.claims.procedures import SLICE
from serving.engine.job import Job, SliceResult
from tests.half_space import CUT, THRESHOLD, probability_above, true_radius

FEW, MAX_DRAWS = 128, 1_024


class Device:
    """Draws of a key are made once, by the definition of the noise, and remembered."""

    def __init__(self, bundle) -> None:
        self._noise = bundle.law.table
        self._streams: dict[bytes, np.ndarray] = {}

    def column(self, key: bytes, lattice: np.ndarray, start: int, stop: int) -> np.ndarray:
        """The first coordinate of `X + Z`, which is all that the half-space looks at."""
        if key not in self._streams or self._streams[key].size < stop:
            made = FEW if stop <= FEW else MAX_DRAWS
            self._streams[key] = self._noise.sample(key, 0, made, lattice.size)[:, 0].astype(np.int64)
        return self._streams[key][start:stop] + int(lattice[0])

    def noisy(self, batch) -> tuple[np.ndarray, np.ndarray]:
        """Votes and scores of a batch."""
        parts = [self.column(each.key, each.law.lattice, each.start, each.stop) for each in batch.draws]
        first = np.concatenate(parts)
        return (first > CUT).astype(np.int64), first.astype(np.float32)

    def votes(self, key: bytes, lattice: np.ndarray, draws: int) -> tuple[int, int]:
        """How the first draws fall, counted once and without any of the server's code."""
        above = int(np.sum(self.column(key, lattice, 0, draws) > CUT))
        return draws - above, above

    def alone(self, bundle, task, row: int, draws: int, scored: bool = True):
        """The answer to one row from its first draws, counted in order with nothing else in the world.

        The first draws of every mode but `fixed` give the score, too; here they are lost unless it is `scored`.
        """
        job = Job(bundle, task, row)
        job.receive_base(base(task.rows[row]))
        if task.score_keys:
            first = self.column(task.score_keys[row], task.rows[row], 0, SLICE)
            job.receive(-SLICE, _voted(first) if scored else SliceResult(SLICE, None, None))
        for start in range(0, draws, SLICE):
            job.receive(start, _voted(self.column(task.keys[row], task.rows[row], start, min(start + SLICE, draws))))
        return job.answer()


def _voted(first: np.ndarray) -> SliceResult:
    return SliceResult(len(first), (first > CUT).astype(np.int64), first.astype(np.float32))


def base(lattice: np.ndarray) -> np.ndarray:
    """The base network's probabilities."""
    share = 1 / (1 + np.exp(0.05 * (CUT - float(lattice[0]))))
    return np.array([1 - share, share], dtype=np.float32)


def essence(prediction):
    """All that an answer claims."""
    return (prediction.certificate, prediction.ood, prediction.mixture, prediction.draws, prediction.class_index)


def some_claim_is_false(lattice: np.ndarray, prediction) -> bool:
    """Of the class, its radius and its bounds, the refutation, and the bounds and the verdict of the score."""
    return _certificate_is_false(lattice, prediction.certificate) or _score_is_false(int(lattice[0]), prediction.ood)


def _certificate_is_false(lattice: np.ndarray, found) -> bool:
    if found is None:
        return False
    label, radius = true_radius(lattice)
    above = probability_above(lattice)
    shares = (1 - above, above)
    false = found.status == "refuted" and radius >= found.target_radius
    if found.class_index is not None:
        false |= found.class_index != label or found.radius > radius
        false |= found.p_a_lower > shares[found.class_index] or found.p_b_upper < shares[1 - found.class_index]
    if found.status == "certified" and found.radius_tolerance:
        false |= radius > found.radius + found.radius_tolerance
    return bool(false)


def _score_is_false(first: int, found) -> bool:
    """The median of the score under noise is the first coordinate itself, moved by at most the radius."""
    if found is None or found.certified is None:
        return False
    claimed = found.certified
    low, high = first - claimed.radius, first + claimed.radius
    return (
        (claimed.score_lower is not None and claimed.score_lower > low + 0.5)
        or (claimed.score_upper is not None and claimed.score_upper < high - 0.5)
        or (claimed.verdict == "in_distribution" and high - 0.5 > THRESHOLD)
        or (claimed.verdict == "out_of_distribution" and low + 0.5 <= THRESHOLD)
    )
