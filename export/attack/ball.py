"""The grid inputs inside an issued radius: distances in exact integers, so that no attack leaves its ball by rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.int64]
Tops = int | NDArray[np.int64]
"""The largest integer, or that of each column."""

_DOUBLINGS, _HALVINGS = 60, 40


@dataclass(frozen=True, eq=False, slots=True)
class GridBall:
    """Every grid input within a radius of `centre`: the sum of squared steps is at most `budget`, values are 0 to `top`."""

    centre: Point
    budget: int
    top: Tops

    @staticmethod
    def of(centre: NDArray[np.integer], radius: float, step: float, top: Tops) -> GridBall:
        """The ball of `radius` in the caller's units, both it and the grid's `step` taken as the doubles they are."""
        largest = int(np.max(top))
        if centre.size * largest**2 >= 2**62:
            raise ValueError(f"{centre.size} coordinates of 0 to {largest} are too many for exact distances in 64 bits")
        budget = math.floor(Fraction(radius) ** 2 / Fraction(step) ** 2)
        return GridBall(centre.astype(np.int64), min(budget, centre.size * largest**2), top)

    @property
    def reach(self) -> float:
        """The radius in steps, as a float to steer by; what is inside is decided by `budget` alone."""
        return math.sqrt(self.budget)

    def squared(self, point: NDArray[np.integer]) -> int:
        """The exact squared distance of a point from the centre, in steps."""
        difference = (point.astype(np.int64) - self.centre).ravel()
        return int(difference @ difference)

    def holds(self, point: NDArray[np.integer]) -> bool:
        """Whether a point is a grid input inside the radius."""
        return bool(np.all((point >= 0) & (point <= self.top))) and self.squared(point) <= self.budget

    def inward(self, target: NDArray[np.floating]) -> Point:
        """A grid input inside the ball near `target`: clipped, drawn in, rounded towards the centre, then filled.

        Filling moves the coordinates that lost most by rounding one step outwards, as long as the budget lasts.
        """
        wanted = np.clip(np.nan_to_num(target, posinf=float(np.max(self.top)), neginf=0.0), 0, self.top) - self.centre
        length = float(np.linalg.norm(wanted))
        if length > self.reach:
            wanted *= self.reach / length
        whole = np.trunc(wanted).astype(np.int64).ravel()
        while int(whole @ whole) > self.budget:  # the float scale was a hair too long
            largest = int(np.argmax(np.abs(whole)))
            whole[largest] -= int(np.sign(whole[largest]))
        _fill(whole, wanted.ravel(), self.budget)
        found: Point = self.centre + whole.reshape(self.centre.shape)
        return found

    def farthest(self, direction: NDArray[np.floating]) -> Point:
        """Where a walk from the centre along `direction` ends: at the radius, or where the grid's limits stop it."""
        steer = np.nan_to_num(direction.astype(np.float64), posinf=0.0, neginf=0.0)
        largest = float(np.max(np.abs(steer), initial=0.0))
        if not largest or not self.budget:
            return self.centre.copy()
        steer /= largest
        near, far = 0.0, 1.0
        for _ in range(_DOUBLINGS):
            if self._length(steer, far) >= self.reach or far > 2 * int(np.max(self.top)) * self.reach:
                break
            near, far = far, 2 * far
        for _ in range(_HALVINGS):
            middle = 0.5 * (near + far)
            near, far = (near, middle) if self._length(steer, middle) >= self.reach else (middle, far)
        return self.inward(self.centre + far * steer)

    def _length(self, steer: NDArray[np.float64], distance: float) -> float:
        return float(np.linalg.norm(np.clip(self.centre + distance * steer, 0, self.top) - self.centre))


def _fill(whole: NDArray[np.int64], wanted: NDArray[np.float64], budget: int) -> None:
    """Round up in `whole`, largest fractional part first, what the budget allows."""
    lost = np.abs(wanted) - np.abs(whole)
    order = np.argsort(-lost, kind="stable")
    order = order[lost[order] > 0]
    spent = np.cumsum(2 * np.abs(whole[order]) + 1)
    taken = order[spent <= budget - int(whole @ whole)]
    whole[taken] += np.sign(wanted[taken]).astype(np.int64)
