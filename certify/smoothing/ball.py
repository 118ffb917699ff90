"""A ball: the inputs near one, as a value. It says what is measured, in which units, how far, and who is inside.

A ball may have several parts that hold together: so many words *and* so much of the pictures. Sizes are in the order of the
parts. Whoever is inside is decided by exact arithmetic, so that no attack leaves its ball by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Lattice = NDArray[np.integer[Any]]


class Part(Protocol):
    """What one part of a ball measures."""

    @property
    def norm(self) -> str:
        """Its name on the wire: "l2", "edits"."""
        ...

    @property
    def units(self) -> str:
        """The units of its sizes, in words."""
        ...

    @property
    def whole(self) -> bool:
        """Whether its sizes are whole numbers."""
        ...

    def within(self, centre: Lattice, other: Lattice, size: float) -> bool:
        """Whether `other` is no farther from `centre` than `size`. Exact."""
        ...


@dataclass(frozen=True, slots=True)
class Euclidean:
    """The l2 norm in the caller's units: `steps` are the sizes of one step of the grid, one for all columns or one each."""

    units: str = ""
    steps: tuple[float, ...] = (1.0,)
    norm: str = "l2"
    whole: bool = False

    def within(self, centre: Lattice, other: Lattice, size: float) -> bool:
        """In rational arithmetic, sizes and steps taken as the doubles they are."""
        moved = [int(each) for each in (other.astype(np.int64) - centre.astype(np.int64)).ravel()]
        if len(self.steps) == 1:
            return sum(each**2 for each in moved) * Fraction(self.steps[0]) ** 2 <= Fraction(size) ** 2
        squares = ((each * Fraction(step)) ** 2 for each, step in zip(moved, self.steps, strict=True))
        return sum(squares, Fraction(0)) <= Fraction(size) ** 2


@dataclass(frozen=True, slots=True)
class Ball:
    """Every input that is no farther than `sizes[i]` in part i, for all parts at once."""

    parts: tuple[Part, ...]
    sizes: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.parts) or not all(size >= 0 for size in self.sizes):
            raise ValueError(f"expected {len(self.parts)} sizes from 0, got {self.sizes}")

    @property
    def size(self) -> float:
        """The size of the first part, which is all where there is one part."""
        return self.sizes[0]

    @property
    def empty(self) -> bool:
        """Whether it holds its centre alone, as far as it says."""
        return not any(self.sizes)

    def __le__(self, other: Ball) -> bool:
        """Whether it is inside of another of the same centre: no part is larger. Balls of several parts may cross."""
        return self.parts == other.parts and all(a <= b for a, b in zip(self.sizes, other.sizes, strict=True))

    def contains(self, centre: Lattice, other: Lattice) -> bool:
        """Whether `other` lies in the ball around `centre`. Exact."""
        return all(part.within(centre, other, size) for part, size in zip(self.parts, self.sizes, strict=True))


def larger(one: Ball, other: Ball) -> Ball:
    """The larger of two balls that are proven both; the first where they cross."""
    return other if one <= other else one


def parse(parts: tuple[Part, ...], said: object) -> Ball:
    """The ball that a request asks for: a number where there is one part, else an object of numbers by norm.

    Raises `ValueError`, which says what was expected.
    """
    names = tuple(part.norm for part in parts)
    values = {names[0]: said} if len(parts) == 1 and not isinstance(said, Mapping) else said
    if not isinstance(values, Mapping) or set(values) != set(names):
        raise ValueError(f"expected an object of {', '.join(names)}, got {said!r}"[:200])
    sizes = []
    for part in parts:
        value = values[part.norm]
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
        if not number or (part.whole and value != int(value)):
            what = "a whole number" if part.whole else "a finite number"
            raise ValueError(f"expected {what} from 0 ({part.units}) for {part.norm}, got {value!r}"[:200])
        sizes.append(float(value))
    return Ball(parts, tuple(sizes))
