"""What is known of each value of a graph while its nodes are followed: its shape, and where the rows of the batch lie in it.

Everything is worked out for two sizes of the batch at once. What differs between them depends on the number of rows; no
name of a dimension has to be trusted, and no number in a graph can be the batch by coincidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

Shape = tuple[int, ...]
SIZES = (7, 11)
"""Prime, so that a shape cannot part the rows among two of its axes."""


class Mixes(Exception):
    """A node is refused; the text goes on after the node's name, and says how to mend it."""


@dataclass(frozen=True, slots=True)
class Place:
    """The axis whose index is `(outer * rows + row) * inner + rest`; heads of attention, say, may share it with the rows."""

    axis: int
    outer: int = 1
    inner: int = 1

    def on(self, axis: int) -> Place:
        """The same on another axis."""
        return Place(axis, self.outer, self.inner)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fact:
    """One value of the graph. `place` None: it is the same for every row.

    `values` are its small constants, at both sizes. `depends`: on the lattice. `jumps`: only by way of comparisons and the
    like, so that it moves in jumps. `raw`: each number is made of one number of the lattice.
    """

    kind: int
    shapes: tuple[Shape, Shape]
    place: Place | None = None
    values: tuple[NDArray[Any], NDArray[Any]] | None = None
    depends: bool = False
    jumps: bool = True
    raw: bool = False

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shapes[0])

    @property
    def counts_rows(self) -> bool:
        """Whether its numbers depend on the number of rows."""
        return self.values is not None and not np.array_equal(*self.values)

    @property
    def floating(self) -> bool:
        """Whether its numbers are floats of some precision."""
        return "FLOAT" in TensorProto.DataType.Name(self.kind) or self.kind == TensorProto.DOUBLE


def locate(place: Place, before: tuple[Shape, Shape], after: tuple[Shape, Shape]) -> Place:
    """Where the rows are once the numbers, in the same order, are given other shapes: their stride stays."""
    found = {_located(place, *sizes) for sizes in zip(before, after, SIZES, strict=True)}
    if len(found) != 1 or None in found:
        raise Mixes("parts the rows of the batch among several axes; keep the first axis as it is")
    return next(each for each in found if each is not None)


def _located(place: Place, before: Shape, after: Shape, rows: int) -> Place | None:
    stride = place.inner * math.prod(before[place.axis + 1 :])
    for axis, size in enumerate(after):
        below = math.prod(after[axis + 1 :])
        if below <= stride < stride * rows <= below * size and stride % below == 0:
            inner = stride // below
            return Place(axis, size // (inner * rows), inner) if size % (inner * rows) == 0 else None
    return None


def fits(place: Place | None, shapes: tuple[Shape, Shape]) -> bool:
    """Whether the number of rows is seen on that axis, and on no other."""
    if len(shapes[0]) != len(shapes[1]):
        return False
    changing = [axis for axis, (one, other) in enumerate(zip(*shapes, strict=True)) if one != other]
    if place is None:
        return not changing
    lengths = [place.outer * rows * place.inner for rows in SIZES]
    return changing == [place.axis] and [shape[place.axis] for shape in shapes] == lengths


@dataclass(frozen=True, eq=False)
class Call:
    """One node, with what is known of its inputs (None where one is left out) and the shapes of its outputs."""

    node: NodeProto
    version: int
    inputs: tuple[Fact | None, ...]
    shapes: tuple[tuple[Shape, Shape], ...]

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """By name; bytes are turned into text."""
        found = {each.name: helper.get_attribute_value(each) for each in self.node.attribute}
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}

    def operand(self, index: int) -> Fact | None:
        """The input in this place, if it is given."""
        return self.inputs[index] if index < len(self.inputs) else None

    def place(self, index: int = 0) -> Place | None:
        """Where the rows are in this input."""
        operand = self.operand(index)
        return None if operand is None else operand.place

    def rank(self, index: int = 0) -> int:
        """The number of axes of this input."""
        operand = self.operand(index)
        return 0 if operand is None else operand.rank

    def axis(self, default: int, index: int = 0) -> int:
        """The attribute `axis`, counted from the front of this input."""
        axis = int(self.attributes.get("axis", default))
        return axis + self.rank(index) if axis < 0 else axis

    def numbers(self, name: str, index: int) -> tuple[list[int], list[int]] | None:
        """A list of integers that older operators have as an attribute and newer ones as an input, at both sizes."""
        if name in self.attributes:
            given = self.attributes[name]
            fixed = [int(each) for each in (given if isinstance(given, list | tuple) else [given])]
            return fixed, fixed
        operand = self.operand(index)
        if operand is None:
            return None
        if operand.values is None:
            raise Mixes(f"computes its {name} from the input; make them constants")
        one, other = ([int(each) for each in np.ravel(values)] for values in operand.values)
        return one, other

    def constant(self, *indices: int) -> None:
        """Raise unless these inputs are the same for every row."""
        for index in indices:
            if self.place(index) is not None:
                raise Mixes(f"takes its input {self.node.input[index]!r} from the rows; make it a constant")


OnePlace = Callable[[Call], "Place | None"]
"""A rule that gives one place, for all outputs."""
Rule = Callable[[Call], "Place | tuple[Place | None, ...] | None"]
"""From a call whose inputs carry rows to the place of the rows in each output, or one place for all; raises `Mixes`."""
