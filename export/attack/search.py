"""The search for a counterexample inside one ball: it may use any draws of its own, as the judge draws again.

    Stein     the noise itself gives the gradient of a vote share: `grad P(vote = c) = E[1(vote = c) Z] / sigma^2`; the
              same passes that count votes point away from the label, or up or down the score. No network is opened.
    ascent    projected gradient steps on the expectation over noise of the network's own loss, where one is given
    pictures  towards the nearest pictures of other classes and their means
    random    a few directions, uniform on the sphere
    squares   from the best so far, patches of one value are pushed and kept where that brings it closer

Every candidate is put onto the grid inside the ball by exact arithmetic (`ball`). Candidates are compared under common
noise; what is judged is the best of them for each claim.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.law import Law
from export.attack.ball import GridBall, Point
from export.attack.claims import Aim, Claim
from export.attack.sample import Sample, joined, own_key, passes
from export.build.passes import BATCH
from export.bundle.batches import NoisyRun

Direction = NDArray[np.float64]
Ascent = Callable[[NDArray[np.int32], Aim], Direction]
"""Noisy lattice rows [n, *shape] and an aim to the gradient at their common centre, [*shape]."""

_STEPS = 8
_ASCENT_ROWS = 64


@dataclass(eq=False, slots=True)
class Purse:
    """The passes one search may still make, and when it has to end."""

    noisy: NoisyRun
    law: Law
    seed: int
    place: tuple[object, ...]
    left: int
    deadline: float
    spent: int = 0
    _streams: int = field(default=0)

    def empty(self) -> bool:
        """Whether not even one more batch is allowed."""
        return self.left < BATCH or time.monotonic() > self.deadline

    def fresh(self, point: NDArray[np.integer], draws: int) -> list[tuple[NDArray[np.int32], Sample]]:
        """Passes on a stream that was not used before."""
        self._streams += 1
        return self._run(point, ("fresh", self._streams), draws)

    def common(self, point: NDArray[np.integer], draws: int) -> Sample:
        """Passes on the stream by which candidates are compared."""
        return joined([sample for _, sample in self._run(point, ("common",), draws)])

    def noisy_rows(self, point: NDArray[np.integer], rows: int) -> NDArray[np.int32]:
        """Lattice rows for a gradient, which costs about three passes a row."""
        self._streams += 1
        self.left, self.spent = self.left - 3 * rows, self.spent + 3 * rows
        return self.law.at(point).sample(own_key(self.seed, *self.place, "rows", self._streams), 0, rows)

    def _run(
        self, point: NDArray[np.integer], stream: tuple[object, ...], draws: int
    ) -> list[tuple[NDArray[np.int32], Sample]]:
        self.left, self.spent = self.left - draws, self.spent + draws
        return passes(self.noisy, self.law, point, own_key(self.seed, *self.place, *stream), draws)


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A grid input inside the ball and the passes by which it was compared."""

    point: Point
    sample: Sample


def search(
    ball: GridBall,
    step: float,
    claims: Sequence[Claim],
    aim: Aim,
    towards: Sequence[Direction],
    purse: Purse,
    ascent: Ascent | None,
) -> list[Candidate]:
    """For each claim the candidate that comes closest to contradicting it; the claims share the ball and the aim."""
    hunt = _Hunt(ball, step, claims, aim, purse)
    hunt.consider(ball.centre)
    if ascent is not None:
        hunt.climb(ascent)
    hunt.follow_noise()
    generator = np.random.default_rng(int.from_bytes(own_key(purse.seed, *purse.place, "moves"), "little"))
    for direction in (*towards, *(generator.standard_normal(ball.centre.shape) for _ in range(2))):
        hunt.consider(ball.farthest(direction))
    hunt.push_squares(generator)
    return hunt.best


class _Hunt:
    """One search under way."""

    def __init__(self, ball: GridBall, step: float, claims: Sequence[Claim], aim: Aim, purse: Purse) -> None:
        self.ball, self.step, self.claims, self.aim, self.purse = ball, step, claims, aim, purse
        self.unit = max(BATCH, purse.left // 20 // BATCH * BATCH)
        self.best: list[Candidate] = []
        self._dangers: list[float] = []

    def consider(self, point: Point) -> bool:
        """Compare a candidate; whether it is the best yet for the first claim."""
        if self.best and self.purse.empty():
            return False
        found = Candidate(point, self.purse.common(point, self.unit))
        distance = self.ball.squared(point) ** 0.5 * self.step
        dangers = [claim.danger(found.sample, distance) for claim in self.claims]
        if not self.best:
            self.best, self._dangers = [found] * len(dangers), dangers
            return True
        better = [new > old for new, old in zip(dangers, self._dangers, strict=True)]
        for place, improved in enumerate(better):
            if improved:
                self.best[place], self._dangers[place] = found, dangers[place]
        return better[0]

    def follow_noise(self) -> None:
        """Walk to the ball's edge along the Stein direction, look again from there, and average what was seen."""
        total: Direction = np.zeros(self.ball.centre.shape)
        point = self.ball.centre
        for _ in range(4):
            if self.purse.empty():
                return
            total = total + stein(self.purse.fresh(point, 3 * self.unit), point, self.aim)
            point = self.ball.farthest(total)
            self.consider(point)

    def climb(self, ascent: Ascent) -> None:
        """Projected gradient steps with fresh noise at each (expectation over transformation)."""
        point, stride = self.ball.centre, 2.5 * self.ball.reach / _STEPS
        for _ in range(_STEPS):
            if self.purse.empty():
                return
            slope = ascent(self.purse.noisy_rows(point, _ASCENT_ROWS), self.aim)
            point = self.ball.inward(point + stride * slope / max(float(np.linalg.norm(slope)), 1e-30))
        self.consider(point)
        self.consider(self.ball.farthest((point - self.ball.centre).astype(np.float64)))

    def push_squares(self, generator: np.random.Generator) -> None:
        """Random patches of the last two axes, pushed up or down; the ball draws the whole in again."""
        shape = self.ball.centre.shape
        height = self.ball.reach / 4
        for _ in range(200):
            if self.purse.empty():
                return
            moved = self.best[0].point.astype(np.float64)
            sides = [slice(None)] * len(shape)
            for axis in range(max(0, len(shape) - 2), len(shape)):
                length = int(generator.integers(1, max(2, shape[axis] // 4 + 1)))
                first = int(generator.integers(0, shape[axis] - length + 1))
                sides[axis] = slice(first, first + length)
            moved[tuple(sides)] += generator.choice((-1, 1)) * height / max(1.0, moved[tuple(sides)].size ** 0.5)
            self.consider(self.ball.inward(moved))


def stein(parts: Sequence[tuple[NDArray[np.int32], Sample]], point: Point, aim: Aim) -> Direction:
    """The estimated gradient of what `aim` raises, of length one: the covariance of the noise with being hit."""
    middle = parts[0][1].median()
    total, mean, weight, rows = np.zeros(point.size), np.zeros(point.size), 0.0, 0
    for lattice, sample in parts:
        noise = (lattice - point).reshape(len(lattice), -1).astype(np.float64)
        match aim.way:
            case "away":
                hit = sample.votes != aim.label
            case "up":
                hit = sample.scores > middle
            case "down":
                hit = sample.scores < middle
        total, mean = total + hit.astype(float) @ noise, mean + noise.sum(axis=0)
        weight, rows = weight + float(np.sum(hit)), rows + len(noise)
    slope = total - weight / rows * mean
    return (slope / max(float(np.linalg.norm(slope)), 1e-30)).reshape(point.shape)
