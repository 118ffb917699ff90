"""In which precision a graph computes, from its nodes and weights: what `export` declares of it."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from export.bundle import GraphPrecision

_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_HALVES: dict[int, GraphPrecision] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


def precision_of(model: ModelProto) -> GraphPrecision:
    """int8 where anything is quantised, a half where any weight or conversion is to one, else float32."""
    nodes = list(_nodes(model.graph))
    if any(node.op_type in _QUANTISED for node in nodes):
        return "int8"
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    kinds |= {each.i for node in nodes if node.op_type == "Cast" for each in node.attribute if each.name == "to"}
    return next((name for kind, name in _HALVES.items() if kind in kinds), "float32")


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for each in node.attribute:
            if each.HasField("g"):
                yield from _nodes(each.g)
