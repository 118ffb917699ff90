"""A noisy graph whose layers multiply in 8 bits, by scales that are fixed beforehand: its head stays in floats.

Scales that a graph takes from what it is given ("dynamic" ones) would couple the rows of a batch. Here they are constants,
and the graph holds integer operators themselves (QLinearConv, QLinearMatMul), not pairs of rounding and its reverse that a
runtime may or may not join: what it computes does not hang on that.

Integer sums are exact in any order, but kernels differ: without VNNI an x86 processor adds two products of a byte and a
signed byte in 16 bits, which overflow. With weights of 7 bits they do not: 2 * 255 * 64 < 2^15. So every processor gives
the same integers.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from export.build.layers import LAYERS, check_lattice, last_layer, leading_to
from export.sources.source import SourceError

_FOLLOWING = ("Relu", "Clip", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
"""What integers pass through as they are."""
_INTEGER = {"QLinearConv", "QLinearMatMul"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """The graph, and how many layers of it multiply integers."""

    graph: bytes
    layers: int


def quantised(graph: bytes, batches: Iterable[NDArray[np.int32]]) -> Quantised:
    """The graph of a noisy pass in 8 bits; scales come from the ranges on `batches` of noisy inputs.

    Raises `SourceError` where no layer stands before the head.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = _split(_named(onnx.load_from_string(graph)))
    check_lattice(model, "the noisy graph")
    body = _body(model)
    if not any(node.op_type in ("Conv", "MatMul") for node in body):
        raise SourceError(
            "no layer with constant weights stands before the last one, which stays in floats: there is nothing to quantise"
        )

    class RangeReader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[np.int32]] = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"lattice": batch}

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.onnx"
        logging.disable(logging.WARNING)  # it advises to preprocess
        try:
            quantize_static(
                model,
                made,
                RangeReader(),
                quant_format=QuantFormat.QOperator,
                op_types_to_quantize=["Conv", "MatMul", *_FOLLOWING],
                nodes_to_quantize=[node.name for node in body],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(logging.NOTSET)
        found = onnx.load(made)
    return _plain(found)


def _named(model: ModelProto) -> ModelProto:
    """Every node under a name of its own."""
    for place, node in enumerate(model.graph.node):
        node.name = f"{place} {node.op_type}"
    return model


def _split(model: ModelProto) -> ModelProto:
    """Gemm with constant weights as a product and a sum: there is an integer operator for products alone."""
    weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        plain = given.get("alpha", 1.0) == 1.0 and given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)
        if node.op_type != "Gemm" or not plain or node.input[1] not in weights:
            nodes.append(node)
            continue
        weight = weights[node.input[1]]
        name = f"{node.name} weight"
        turned = np.ascontiguousarray(weight.T) if given.get("transB", 0) else weight
        model.graph.initializer.append(numpy_helper.from_array(turned, name))
        biased = len(node.input) > 2 and bool(node.input[2])
        product = f"{node.name} product" if biased else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [product], name=f"{node.name} product"))
        if biased:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name} sum"))
    kept = [NodeProto.FromString(each.SerializeToString()) for each in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return _used(model)


def _used(model: ModelProto) -> ModelProto:
    """Without constants that nothing takes."""
    used = {name for node in model.graph.node for name in node.input}
    constants = [each for each in model.graph.initializer if each.name in used]
    kept = [numpy_helper.from_array(numpy_helper.to_array(each), each.name) for each in constants]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _body(model: ModelProto) -> Sequence[NodeProto]:
    """The nodes before the last layer that can be integers: layers with constant weights, and what follows them."""
    constants = {each.name for each in model.graph.initializer}
    (largest,) = (node for node in model.graph.node if node.op_type == "ArgMax")
    head = last_layer(model, largest.input[0])
    if head is None:
        return []
    before = leading_to(model, head.input[0])
    found = []
    for node in model.graph.node:
        if node.output[0] not in before:
            continue
        weighs = node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in constants
        if weighs or node.op_type in _FOLLOWING:
            found.append(node)
    return found


def _plain(model: ModelProto) -> Quantised:
    """Without what does not compute. Raises `SourceError` for operators that are not ONNX's own."""
    foreign = sorted({node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise SourceError(f"quantised, it would need {', '.join(foreign)}, which are ONNX Runtime's own operators")
    own = [each for each in model.opset_import if each.domain in ("", "ai.onnx")]
    del model.opset_import[:], model.metadata_props[:], model.graph.value_info[:]
    model.opset_import.extend(own[:1])
    model.producer_name, model.producer_version, model.doc_string, model.graph.name = "certserve", "", "", "graph"
    _used(model)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)
    layers = sum(node.op_type in _INTEGER for node in model.graph.node)
    return Quantised(graph=bytes(model.SerializeToString(deterministic=True)), layers=layers)
