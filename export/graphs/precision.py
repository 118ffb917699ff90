"""In which precision a graph computes, from its nodes and weights: what `export` declares of it, and loading compares."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from export.bundle import Bundle, GraphPrecision
from export.bundle.files import BASE
from export.graphs.reading import GraphError

_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_HALVES: dict[int, GraphPrecision] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


def precision_of(model: ModelProto) -> GraphPrecision:
    """int8 where anything is quantised, a half where any weight or conversion is to one, else float32."""
    nodes = list(_nodes(model.graph))
    if any(node.op_type in _QUANTISED for node in nodes):
        return "int8"
    constants = [
        each.t for node in nodes if node.op_type == "Constant" for each in node.attribute if each.name == "value"
    ]
    kinds = {tensor.data_type for tensor in [*model.graph.initializer, *constants] if len(tensor.dims) > 1}
    kinds |= {each.i for node in nodes if node.op_type == "Cast" for each in node.attribute if each.name == "to"}
    return next((name for kind, name in _HALVES.items() if kind in kinds), "float32")


def check_precision(bundle: Bundle, file: str, model: ModelProto, where: str) -> None:
    """Raise `GraphError` where the graph in `file` computes in another precision than the bundle declares of it."""
    declared, found = bundle.manifest.graphs, precision_of(model)
    both = {declared.base.precision, declared.noisy.precision}
    one = declared.base.precision if file == BASE else declared.noisy.precision
    said = both if bundle.base == bundle.noisy else {one}
    if said != {found}:
        raise GraphError(
            f"{where} computes in {found}, and the manifest declares {' and '.join(sorted(said))}: export it again"
        )


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for each in node.attribute:
            if each.HasField("g"):
                yield from _nodes(each.g)
