"""A foreign network inside the graph that is served: from grid integers to probabilities and a vote, its own numbers kept.

    lattice int32 -> values in the caller's units -> [colours turned, mean, deviation] -> network -> probabilities, vote

What the network itself gives as probabilities, or as numbers that are none, comes out as it is; a softmax is added to logits
alone. Its names get a prefix, so that none can meet one of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from export.build.grid import Grid
from export.build.sums import rewritten
from export.graphs.rows import follow
from export.inspection.inspect import Found

PREFIX = "network/"
_EXACT = 4_096
"""Up to so many coordinates the values are computed in double precision: the caller's float, to the last bit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrance:
    """What lies between the caller's values and the network: colours in the other order, then mean and deviation."""

    layout: Literal["CHW", "HWC", "features"]
    reverse: bool = False
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same as the graph does, for values [n, *shape]."""
        axis = 1 if self.layout == "CHW" else -1
        values = np.flip(values, axis) if self.reverse else values
        wide = [1] * values.ndim
        for numbers, rule in ((self.mean, np.subtract), (self.deviation, np.divide)):
            if numbers:
                wide[axis] = len(numbers)
                values = rule(values, np.reshape(numbers, wide))
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class Composed:
    """`graph` has the outputs probabilities and vote; `sums` names the nodes of the network that were rewritten.

    `logits` is the tensor [rows, labels] that is voted by.
    """

    graph: bytes
    logits: str
    sums: Sequence[str]


def composed(found: Found, grid: Grid, entrance: Entrance) -> Composed:
    """The graph that is served, of one network in both roles."""
    network = compose.add_prefix(found.model, PREFIX)
    graph = network.graph
    parts = _Parts()
    _enter(parts, found, grid, entrance)
    logits, names = _leave(parts, found)
    nodes = [*parts.before, *graph.node, *parts.after]
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("lattice", TensorProto.INT32, ["rows", *found.shape])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", names]),
            helper.make_tensor_value_info("vote", TensorProto.INT64, ["rows"]),
        ],
        initializer=[*graph.initializer, *parts.constants],
    )
    model: ModelProto = helper.make_model(
        made, opset_imports=network.opset_import, ir_version=network.ir_version, producer_name="certserve"
    )
    model, sums = rewritten(model, follow(model, found.shape, found.name).facts)
    onnx.checker.check_model(model)
    return Composed(graph=bytes(model.SerializeToString(deterministic=True)), logits=logits, sums=sums)


class _Parts:
    """Nodes before and after the network, and their constants."""

    def __init__(self) -> None:
        self.before: list[NodeProto] = []
        self.after: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, values: object, kind: type[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name


def _enter(parts: _Parts, found: Found, grid: Grid, entrance: Entrance) -> None:
    exact = int(np.prod(found.shape)) <= _EXACT
    kind, numbers = (TensorProto.DOUBLE, np.float64) if exact else (TensorProto.FLOAT, np.float32)
    name = "lattice"

    def then(operator: str, *more: str, **attributes: Any) -> None:
        nonlocal name
        output = f"entrance {len(parts.before)}"
        parts.before.append(helper.make_node(operator, [name, *more], [output], **attributes))
        name = output

    then("Cast", to=kind)
    if np.any(grid.step != 1):
        then("Mul", parts.constant("step", grid.step, numbers))
    if np.any(grid.low != 0):
        then("Add", parts.constant("low", grid.low, numbers))
    axis = 1 if entrance.layout == "CHW" else len(found.shape)
    if entrance.reverse:
        then("Gather", parts.constant("colours", range(found.shape[axis - 1])[::-1], np.int64), axis=axis)
    for label, operator, values in (("mean", "Sub", entrance.mean), ("deviation", "Div", entrance.deviation)):
        if values:
            wide = [1] * (len(found.shape) + 1)
            wide[axis] = len(values)
            then(operator, parts.constant(label, np.reshape(values, wide), numbers))
    kinds = {each.name: each.type.tensor_type.elem_type for each in found.model.graph.input}
    parts.before.append(helper.make_node("Cast", [name], [PREFIX + found.given.name], to=kinds[found.given.name]))


def _leave(parts: _Parts, found: Found) -> tuple[str, int]:
    """The outputs, from what the network gives and from what enters its last softmax or sigmoid; logits and labels."""
    size, kind = found.output.size or 0, found.output.kind
    given = _flat(parts, PREFIX + found.output.name, "given", size)
    inner = found.structure.before_last
    before = _flat(parts, PREFIX + inner, "inner", size) if inner else given
    logits = before if size > 1 else _two(parts, before, bool(inner) or kind == "logits")
    if kind == "logits":
        parts.after.append(helper.make_node("Softmax", [logits], ["probabilities"], axis=1))
    elif size == 1:
        one = parts.constant("one", [[1.0]], np.float32)
        parts.after.append(helper.make_node("Sub", [one, given], ["other"]))
        parts.after.append(helper.make_node("Concat", ["other", given], ["probabilities"], axis=1))
    else:
        parts.after.append(helper.make_node("Identity", [given], ["probabilities"]))
    _vote(parts, logits, found.output.labels)
    return logits, found.output.labels


def _flat(parts: _Parts, name: str, output: str, size: int) -> str:
    shape = parts.constant(f"shape of {output}", [-1, size], np.int64)
    parts.after.append(helper.make_node("Cast", [name], [f"{output} as float"], to=TensorProto.FLOAT))
    parts.after.append(helper.make_node("Reshape", [f"{output} as float", shape], [output]))
    return output


def _two(parts: _Parts, one: str, logit: bool) -> str:
    """Two columns from one: 0 and the logit, or what is left to 1 and the probability."""
    if logit:
        parts.after.append(helper.make_node("Sub", [one, one], ["nothing"]))
        parts.after.append(helper.make_node("Concat", ["nothing", one], ["logits"], axis=1))
    else:
        whole = parts.constant("whole", [[1.0]], np.float32)
        parts.after.append(helper.make_node("Sub", [whole, one], ["left"]))
        parts.after.append(helper.make_node("Concat", ["left", one], ["logits"], axis=1))
    return "logits"


def _vote(parts: _Parts, logits: str, labels: int) -> None:
    """The largest, or none (the number of labels) where one is not finite: such a number less itself is not a number."""
    ones = parts.constant("ones of labels", np.ones((labels, 1)), np.float32)
    none = parts.constant("none", [labels], np.int64)
    row = parts.constant("shape of a vote", [-1], np.int64)
    parts.after += [
        helper.make_node("ArgMax", [logits], ["largest"], axis=1, keepdims=0),
        helper.make_node("Sub", [logits, logits], ["zeros"]),
        helper.make_node("MatMul", ["zeros", ones], ["doubt"]),
        helper.make_node("Reshape", ["doubt", row], ["doubt of a row"]),
        helper.make_node("IsNaN", ["doubt of a row"], ["lost"]),
        helper.make_node("Where", ["lost", none, "largest"], ["vote"]),
    ]
