"""What the nodes of a foreign graph tell: the layer whose inputs are the features, whether it normalises, its operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

_BEHIND = {
    *("Softmax", "LogSoftmax", "Sigmoid", "Add", "Sub", "Mul", "Div", "Cast", "Identity", "Reshape", "Flatten"),
    *("Squeeze", "Unsqueeze", "Normalizer", "ZipMap", "Clip", "Concat"),
}
_LAST = {"Gemm": 1, "MatMul": 1, "Conv": 1, "LinearClassifier": None, "LinearRegressor": None}
_SCALING = {"Sub", "Div", "Mul", "Add", "BatchNormalization", "Scaler", "Normalizer", "InstanceNormalization"}
_PASSING = {"Cast", "Identity", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Concat", "Flatten"}
_ACTIVATIONS = {"Softmax", "Sigmoid"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """`features` is the tensor that enters the last layer, `layer` that layer's node; `before_last` what the final softmax
    or sigmoid takes. `normalisation`: the operators at the entrance that scale, in words. `operators` with their counts.
    """

    features: str | None
    layer: str | None
    before_last: str | None
    normalisation: str | None
    operators: Mapping[str, int]


def structure(model: ModelProto, given: str, output: str) -> Structure:
    """Of the part of the graph that leads to `output`."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = _constants(model)
    last = makers.get(output)
    layer = _last_layer(output, makers, constants)
    return Structure(
        features=layer.input[0] if layer is not None and layer.input[0] != given else None,
        layer=None if layer is None else f"{layer.name or layer.output[0]!r} ({layer.op_type})",
        before_last=last.input[0] if last is not None and last.op_type in _ACTIVATIONS else None,
        normalisation=_entrance(model, given, constants),
        operators=dict(
            Counter(
                f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
                for node in model.graph.node
            )
        ),
    )


def _constants(model: ModelProto) -> set[str]:
    """What does not depend on the input."""
    found = {each.name for each in model.graph.initializer} | {""}
    for node in model.graph.node:
        if found.issuperset(node.input):
            found.update(node.output)
    return found


def maker(model: ModelProto, output: str) -> str | None:
    """The operator that makes this output."""
    return next((node.op_type for node in model.graph.node if output in node.output), None)


def _last_layer(output: str, makers: Mapping[str, NodeProto], constants: set[str]) -> NodeProto | None:
    name = output
    while (node := makers.get(name)) is not None:
        if node.op_type in _LAST:
            return node if _weighs(node, constants) else None
        moving = [each for each in node.input if each and each not in constants]
        if node.op_type not in _BEHIND or len(set(moving)) != 1:
            return None
        name = moving[0]
    return None


def _weighs(node: NodeProto, constants: set[str]) -> bool:
    place = _LAST[node.op_type]
    return place is None or (len(node.input) > place and node.input[place] in constants)


def _entrance(model: ModelProto, given: str, constants: set[str]) -> str | None:
    found, name = [], given
    while True:
        users = [node for node in model.graph.node if name in node.input]
        if len(users) != 1 or users[0].op_type not in _SCALING | _PASSING:
            break
        node = users[0]
        if node.op_type in _SCALING:
            if any(each and each != name and each not in constants for each in node.input):
                break
            found.append(node.op_type)
        name = node.output[0]
    return ", ".join(found) or None
