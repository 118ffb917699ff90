"""Sums within a row, rewritten as products with ones: ONNX Runtime adds up in an order that depends on the row's slot.

It does so in ReduceSum and ReduceMean over lengths that are no multiple of 4 (a mean over 3x5x5 gives four bit patterns in
32 slots), and in InstanceNormalization. A product keeps its order wherever a row stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from export.graphs.facts import Fact, Place

_MEANS = ("ReduceMean", "ReduceSum")


def rewritten(model: ModelProto, facts: Mapping[str, Fact]) -> tuple[ModelProto, list[str]]:
    """The graph with such sums as products, and the names of the nodes that were; `facts` are those of the walk over it."""
    copy = ModelProto()
    copy.CopyFrom(model)
    shapes = _shapes(facts)
    constants = {each.name: numpy_helper.to_array(each) for each in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    nodes, done = [], []
    for place, node in enumerate(copy.graph.node):
        made = None
        if node.op_type in _MEANS and node.input[0] in shapes:
            made = _sum(copy, node, f"sum {place}", *shapes[node.input[0]], constants)
        elif node.op_type == "InstanceNormalization" and node.input[0] in shapes:
            made = _normalised(copy, node, f"norm {place}", *shapes[node.input[0]])
        nodes += [node] if made is None else made
        done += [] if made is None else [f"{node.op_type} {node.name or node.output[0]!r}"]
    if not done:
        return model, []
    kept = [_copied(node) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy, done


def _copied(node: NodeProto) -> NodeProto:
    other = NodeProto()
    other.CopyFrom(node)
    return other


def _shapes(facts: Mapping[str, Fact]) -> dict[str, tuple[int, list[int | None]]]:
    """Type and sizes of what has the rows on its first axis; the rows are None."""
    return {name: (fact.kind, [None, *fact.shapes[0][1:]]) for name, fact in facts.items() if fact.place == Place(0)}


def _axes(node: NodeProto, constants: dict[str, np.ndarray], rank: int) -> list[int] | None:
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if "axes" in attributes:
        given = list(attributes["axes"])
    elif len(node.input) > 1 and node.input[1] in constants:
        given = np.ravel(constants[node.input[1]]).tolist()
    else:
        return None
    return sorted(axis % rank for axis in given)


def _sum(
    model: ModelProto,
    node: NodeProto,
    name: str,
    kind: int,
    sizes: Sequence[int | None],
    constants: dict[str, np.ndarray],
) -> list[NodeProto] | None:
    axes = _axes(node, constants, len(sizes))
    if not axes or 0 in axes or any(size is None for size in sizes[1:]):
        return None
    length = math.prod(sizes[axis] or 1 for axis in axes)
    if length % 4 == 0 or length == 1:
        return None
    kept = [axis for axis in range(len(sizes)) if axis not in axes]
    keep = next((each.i for each in node.attribute if each.name == "keepdims"), 1)
    after = [1 if axis in axes else sizes[axis] or -1 for axis in range(len(sizes)) if keep or axis not in axes]
    nodes = [
        helper.make_node("Transpose", [node.input[0]], [f"{name} moved"], perm=[*kept, *axes]),
        _reshaped(model, f"{name} moved", f"{name} flat", [-1, *(sizes[axis] or 1 for axis in kept[1:]), length]),
        _times_ones(model, f"{name} flat", f"{name} added", length, kind),
    ]
    total = f"{name} added"
    if node.op_type == "ReduceMean":
        nodes.append(helper.make_node("Div", [total, _number(model, f"{name} length", length, kind)], [f"{name} mean"]))
        total = f"{name} mean"
    return [*nodes, _reshaped(model, total, node.output[0], [-1, *(size for size in after[1:])])]


def _normalised(
    model: ModelProto, node: NodeProto, name: str, kind: int, sizes: Sequence[int | None]
) -> list[NodeProto] | None:
    if len(sizes) < 3 or any(size is None for size in sizes[1:]):
        return None
    channels, length = sizes[1] or 1, math.prod(size or 1 for size in sizes[2:])
    if length % 4 == 0:
        return None
    epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), 1e-5)
    count = _number(model, f"{name} length", length, kind)
    tall = [channels, 1]
    return [
        _reshaped(model, node.input[0], f"{name} flat", [-1, channels, length]),
        _times_ones(model, f"{name} flat", f"{name} added", length, kind),
        helper.make_node("Div", [f"{name} added", count], [f"{name} mean"]),
        helper.make_node("Sub", [f"{name} flat", f"{name} mean"], [f"{name} centred"]),
        helper.make_node("Mul", [f"{name} centred", f"{name} centred"], [f"{name} squares"]),
        _times_ones(model, f"{name} squares", f"{name} squared", length, kind),
        helper.make_node("Div", [f"{name} squared", count], [f"{name} variance"]),
        helper.make_node("Add", [f"{name} variance", _number(model, f"{name} least", epsilon, kind)], [f"{name} safe"]),
        helper.make_node("Sqrt", [f"{name} safe"], [f"{name} deviation"]),
        helper.make_node("Div", [f"{name} centred", f"{name} deviation"], [f"{name} scaled"]),
        _reshaped(model, node.input[1], f"{name} weight", tall),
        _reshaped(model, node.input[2], f"{name} bias", tall),
        helper.make_node("Mul", [f"{name} scaled", f"{name} weight"], [f"{name} weighed"]),
        helper.make_node("Add", [f"{name} weighed", f"{name} bias"], [f"{name} moved"]),
        _reshaped(model, f"{name} moved", node.output[0], [-1, channels, *(size or 1 for size in sizes[2:])]),
    ]


def _reshaped(model: ModelProto, given: str, output: str, shape: Sequence[int]) -> NodeProto:
    place = f"shape of {output}"
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), place))
    return helper.make_node("Reshape", [given, place], [output])


def _times_ones(model: ModelProto, given: str, output: str, length: int, kind: int) -> NodeProto:
    place = f"ones of {output}"
    ones = np.ones((length, 1), helper.tensor_dtype_to_np_dtype(kind))
    model.graph.initializer.append(numpy_helper.from_array(ones, place))
    return helper.make_node("MatMul", [given, place], [output])


def _number(model: ModelProto, name: str, value: float, kind: int) -> str:
    number = np.array(value, helper.tensor_dtype_to_np_dtype(kind))
    model.graph.initializer.append(numpy_helper.from_array(number, name))
    return name
