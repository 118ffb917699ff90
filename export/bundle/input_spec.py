"""What a bundle takes: the kind of its inputs, which says how files and integers are read, their shape and their grid."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag, model_validator

from certify.smoothing.gaussian import SCALED
from export.bundle.picture_spec import ImageKind
from export.bundle.schema import Length, Name, Positive, Strict, Text

SILENCE = 2**15
"""The grid integer of silence, which signed samples call 0."""
_FINEST = 2**24
_ON_GRID, _MOST_SLACK = 1e-3, 0.25


class FeaturesKind(Strict):
    """Numbers of any shape; the last axis of a vector are its columns."""

    kind: Literal["features"]


class WaveformKind(Strict):
    """Sound of one channel, 16 bits a sample and `rate` samples a second. Integers on the wires are the signed samples."""

    kind: Literal["waveform"]
    rate: Annotated[int, Field(ge=1, le=2**24)]


InputKind = Annotated[ImageKind | FeaturesKind | WaveformKind, Field(discriminator="kind")]


def _tag(value: object) -> str:
    return "columns" if isinstance(value, list | tuple) else "number"


def _either(each: object) -> object:
    several = Annotated[tuple[each, ...], Field(min_length=1, strict=False)]  # type: ignore[valid-type]
    return Annotated[Annotated[each, Tag("number")] | Annotated[several, Tag("columns")], Discriminator(_tag)]


if TYPE_CHECKING:
    Numbers = float | tuple[float, ...]
    Steps = Numbers
else:
    Numbers, Steps = _either(float), _either(Positive)


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    """Nobody may change what is kept: every request asks for it."""
    array.setflags(write=False)
    return array


@functools.lru_cache(maxsize=256)
def _array(numbers: Numbers) -> NDArray[np.float64]:
    return _fixed(np.array(numbers, dtype=np.float64))


def _steps(low: Numbers, step: Numbers, high: Numbers) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray((_array(high) - _array(low)) / _array(step))


@functools.lru_cache(maxsize=256)
def _tops(low: Numbers, step: Numbers, high: Numbers) -> NDArray[np.int64]:
    return _fixed(np.rint(_steps(low, step, high)).astype(np.int64))


@functools.lru_cache(maxsize=256)
def _top(low: Numbers, step: Numbers, high: Numbers) -> int:
    return int(_tops(low, step, high).max())


@functools.lru_cache(maxsize=256)
def _slack(low: Numbers, step: Numbers, high: Numbers) -> NDArray[np.float64]:
    largest = np.maximum(np.abs(_array(low)), np.abs(_array(high)))
    return _fixed(np.array(np.clip(2.0**-23 * largest / _array(step), _ON_GRID, _MOST_SLACK)))


class GridSpec(Strict):
    """The declared grid: `value = low + step * integer`, the integers being 0 to `top`.

    With one step for all, radii and sigma are in the caller's units, those of the values. With a step for each column (then
    low and high may be lists, too) a distance counts every column in units of its own scale: one step of any column is
    `step_length`, so that the scale of a column is its step / `step_length`; `units` says what that is.
    """

    low: Numbers
    step: Steps
    high: Numbers
    units: Text
    step_length: Positive | None = None

    @property
    def columns(self) -> int | None:
        """How many columns have a step of their own; None where there is one for all."""
        return len(self.step) if isinstance(self.step, tuple) else None

    @property
    def length(self) -> float:
        """What one step is in the units of radii and sigma."""
        if self.step_length is not None:
            return self.step_length
        assert isinstance(self.step, float)  # by `_whole`
        return self.step

    @property
    def norm(self) -> str:
        """The name of the distance: l2 in the caller's units, or in those of each column's scale."""
        return "l2" if self.columns is None else SCALED

    @property
    def tops(self) -> NDArray[np.int64]:
        """The largest grid integers, one for all or one for each column."""
        return _tops(self.low, self.step, self.high)

    @property
    def slack(self) -> NDArray[np.float64]:
        """How far from a point of the grid, in steps, a value may lie and still be meant for it.

        A thousandth, or what a float of 32 bits may be off at that size, where that is more.
        """
        return _slack(self.low, self.step, self.high)

    @model_validator(mode="after")
    def _whole(self) -> GridSpec:
        lengths = {len(each) for each in (self.low, self.step, self.high) if isinstance(each, tuple)}
        if lengths and (self.columns is None or len(lengths) > 1):
            raise ValueError(
                "low, step and high must have one number for all, or one for each column: step, if any has"
            )
        if (self.columns is None) != (self.step_length is None):
            raise ValueError("step_length goes with a step for each column, and each needs the other")
        steps = _steps(self.low, self.step, self.high)
        if not (np.all((steps >= 1) & (steps < _FINEST)) and np.all(np.abs(steps - np.rint(steps)) <= 1e-6 * steps)):
            raise ValueError("high - low must be a whole number of steps, at least one")
        return self


class InputSpec(Strict):
    """The one input: its name on the wire, its kind, the shape of a row, and the grid on which its numbers lie."""

    name: Name
    kind: InputKind
    shape: Annotated[tuple[Length, ...], Field(min_length=1, max_length=4, strict=False)]
    grid: GridSpec

    @property
    def layout(self) -> Literal["CHW", "HWC", "features"]:
        """Where the channels of pictures stand; inputs of other kinds are plain features."""
        return self.kind.layout if isinstance(self.kind, ImageKind) else "features"

    @property
    def low(self) -> NDArray[np.float64]:
        """The values of the integer 0: one for all, or one for each column."""
        return _array(self.grid.low)

    @property
    def step(self) -> NDArray[np.float64]:
        """The distances of two values of the grid, likewise."""
        return _array(self.grid.step)

    @property
    def length(self) -> float:
        """What one step is in the units of radii and sigma."""
        return self.grid.length

    @property
    def line(self) -> tuple[float, float, float]:
        """Low, step and high of the grid in the units of radii: where columns have steps of their own, counted from 0."""
        if self.grid.columns is not None:
            return 0.0, self.length, self.length * self.top
        return float(self.low), self.length, float(_array(self.grid.high))

    @property
    def units(self) -> str:
        """The units of radii and sigma, in words; of values as well, where one step is for all."""
        return self.grid.units

    @property
    def tops(self) -> NDArray[np.int64]:
        """The largest grid integers: one for all, or one for each column."""
        return self.grid.tops

    @property
    def top(self) -> int:
        """The largest grid integer of any column."""
        return _top(self.grid.low, self.grid.step, self.grid.high)

    @property
    def zero(self) -> int:
        """The grid integer for which the wires say 0: the middle of signed samples, 0 of all else."""
        return SILENCE if isinstance(self.kind, WaveformKind) else 0

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return math.prod(self.shape)

    @model_validator(mode="after")
    def _of_its_kind(self) -> InputSpec:
        if self.grid.columns is not None and self.shape != (self.grid.columns,):
            raise ValueError(f"grid has steps for {self.grid.columns} columns, and a row has the shape {self.shape}")
        if isinstance(self.kind, ImageKind):
            self.kind.check(self.shape)
        if isinstance(self.kind, WaveformKind) and (self.top != 2 * SILENCE - 1 or self.size != self.shape[-1]):
            raise ValueError(f"a waveform is one channel of 16 bits; got {self.shape} of 0 to {self.top}")
        return self
