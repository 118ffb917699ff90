"""What a bundle takes: the kind of its inputs, which says how files and integers are read, their shape and their grid."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from export.bundle.schema import Length, Name, Positive, Strict, Text

CHANNELS = {"L": 1, "RGB": 3, "BGR": 3}
"""How many numbers a pixel of each mode has."""
_FINEST = 2**24


class ImageKind(Strict):
    """Pictures. `layout` says where the channels of the shape stand, `mode` what they are: grey (L), or colours in order."""

    kind: Literal["image"]
    layout: Literal["CHW", "HWC"]
    mode: Literal["L", "RGB", "BGR"]

    def size_of(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Height, width and channels."""
        if self.layout == "HWC":
            return shape[0], shape[1], shape[2]
        return shape[1], shape[2], shape[0]


class FeaturesKind(Strict):
    """Numbers of any shape; the last axis of a vector are its columns."""

    kind: Literal["features"]


InputKind = Annotated[ImageKind | FeaturesKind, Field(discriminator="kind")]


class Grid(Strict):
    """The declared grid: `value = low + step * integer`, the integers being 0 to `top`. Radii are in these units."""

    low: float
    step: Positive
    high: float
    units: Text

    @property
    def top(self) -> int:
        """The largest grid integer."""
        return round((self.high - self.low) / self.step)

    @model_validator(mode="after")
    def _whole(self) -> Grid:
        steps = (self.high - self.low) / self.step
        if not 1 <= steps < _FINEST or abs(steps - round(steps)) > 1e-6 * steps:
            raise ValueError("high - low must be a whole number of steps, at least one")
        return self


class InputSpec(Strict):
    """The one input: its name on the wire, its kind, the shape of a row, and the grid on which its numbers lie."""

    name: Name
    kind: InputKind
    shape: Annotated[tuple[Length, ...], Field(min_length=1, max_length=4, strict=False)]
    grid: Grid

    @property
    def layout(self) -> Literal["CHW", "HWC", "features"]:
        """Where the channels of pictures stand; inputs of other kinds are plain features."""
        return self.kind.layout if isinstance(self.kind, ImageKind) else "features"

    @property
    def low(self) -> float:
        """The value of the integer 0."""
        return self.grid.low

    @property
    def step(self) -> float:
        """The distance of two values of the grid."""
        return self.grid.step

    @property
    def high(self) -> float:
        """The largest value."""
        return self.grid.high

    @property
    def units(self) -> str:
        """The units of values and radii, in words."""
        return self.grid.units

    @property
    def top(self) -> int:
        """The largest grid integer."""
        return self.grid.top

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return math.prod(self.shape)

    @model_validator(mode="after")
    def _of_its_kind(self) -> InputSpec:
        if isinstance(self.kind, ImageKind):
            if len(self.shape) != 3:
                raise ValueError(f"shape {self.shape} does not fit layout {self.kind.layout}")
            channels, wanted = self.kind.size_of(self.shape)[2], CHANNELS[self.kind.mode]
            if channels != wanted:
                raise ValueError(f"shape {self.shape} has {channels} channels, and mode {self.kind.mode} has {wanted}")
        return self
