"""Where a graph's last layer is, and what leads to it."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto, NodeProto, TensorProto

from export.sources.source import SourceError

LAYERS = ("Conv", "MatMul", "Gemm")


def check_lattice(model: ModelProto, what: str) -> None:
    """Raise `SourceError` for a graph that takes its lattice as another type than int32."""
    constants = {each.name for each in model.graph.initializer}
    for each in model.graph.input:
        if each.name not in constants and each.type.tensor_type.elem_type != TensorProto.INT32:
            kind = TensorProto.DataType.Name(each.type.tensor_type.elem_type).lower()
            raise SourceError(f"{what} takes its lattice as {kind}; export it for int32 first")


def makers(model: ModelProto) -> Mapping[str, NodeProto]:
    """The node that makes each value."""
    return {name: node for node in model.graph.node for name in node.output}


def last_layer(model: ModelProto, name: str) -> NodeProto | None:
    """The first layer with constant weights on the way back from the value `name`."""
    made, constants = makers(model), {each.name for each in model.graph.initializer}
    waiting, seen = [name], set()
    while waiting:
        node = made.get(waiting.pop(0))
        if node is None or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        if node.op_type in LAYERS and any(each in constants for each in node.input):
            return node
        waiting += [each for each in node.input if each]
    return None


def leading_to(model: ModelProto, name: str) -> set[str]:
    """The first outputs of all nodes that the value `name` is made by."""
    made = makers(model)
    waiting, seen = [name], set()
    while waiting:
        node = made.get(waiting.pop())
        if node is not None and node.output[0] not in seen:
            seen.add(node.output[0])
            waiting += list(node.input)
    return seen
