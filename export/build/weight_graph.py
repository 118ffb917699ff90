"""A base graph that gives the weight of the robust network as well, from the features of both networks at the clean input.

The certificate of a mixture needs one thing of this weight: that it lies in the declared range at every input. The last node
of the graph sees to it, whatever the network before it puts out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, compose, helper, numpy_helper, version_converter
from torch import Tensor, nn

from certify.mixture.mix import WeightRange
from export.build.layers import check_lattice, last_layer
from export.build.score_graph import ending
from export.graphs.rows import follow
from export.sources.onnx_file import opset_of
from export.sources.source import SourceError
from export.sources.torch_module import to_onnx

WEIGHT = "weight"
_MOST_FEATURES = 4_096
_OLDEST = 18
_ROBUST, _HEAD = "robust/", "weighing/"


class Weighing(nn.Module):
    """Features of both networks [n, a] and [n, b] to a number in 0 to 1 for each row: the weight's place in its range."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: NDArray[np.floating], deviation: NDArray[np.floating], width: int = 64) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32))
        self.body = nn.Sequential(nn.Linear(len(mean), width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 1))

    def forward(self, accurate: Tensor, robust: Tensor) -> Tensor:
        """Where nothing finite comes out, 0."""
        found = torch.sigmoid(self.body((torch.cat([accurate, robust], 1) - self.mean) / self.deviation))
        return torch.where(found.isnan(), 0.0, found).squeeze(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighable:
    """Both networks in one graph, `model`, which computes the features of each, `accurate` and `robust` [rows, size]."""

    model: ModelProto
    accurate: tuple[str, int]
    robust: tuple[str, int]


def weighable(base: bytes, noisy: bytes, shape: tuple[int, ...]) -> Weighable:
    """The base graph with what the noisy one computes of the same, clean input. Raises `SourceError`."""
    given = [onnx.load_from_string(each) for each in (base, noisy)]
    for each, what in zip(given, ("the base graph", "the noisy graph"), strict=True):
        check_lattice(each, what)
    opset = max(_OLDEST, *map(opset_of, given))
    first, second = (_in_opset(each, opset) for each in given)
    (largest,) = (node for node in second.graph.node if node.op_type == "ArgMax")
    accurate = _features(first, "probabilities", shape, "the base graph")
    robust = _features(second, largest.input[0], shape, "the noisy graph")
    leading = onnx.load_from_string(ending(second, {robust[0]: (TensorProto.FLOAT, ())}, check=False))
    part = compose.add_prefix(leading, _ROBUST, rename_inputs=False)
    graph = first.graph
    graph.node.extend(part.graph.node)
    graph.initializer.extend(part.graph.initializer)
    names: list[tuple[str, int]] = []
    for name, size in (accurate, (_ROBUST + robust[0], robust[1])):
        flat = f"{_HEAD}{len(names)}"
        graph.initializer.append(numpy_helper.from_array(np.array([-1, size], np.int64), f"{flat} shape"))
        graph.node.append(helper.make_node("Reshape", [name, f"{flat} shape"], [flat]))
        names.append((flat, size))
    return Weighable(model=first, accurate=names[0], robust=names[1])


def features(given: Weighable) -> bytes:
    """The graph from the lattice to both features."""
    return ending(given.model, {name: (TensorProto.FLOAT, (size,)) for name, size in (given.accurate, given.robust)})


def weighted(given: Weighable, head: Weighing, declared: WeightRange, labels: int) -> bytes:
    """The base graph that is served: probabilities, and a weight that cannot leave its range."""
    sizes = given.accurate[1], given.robust[1]
    examples = tuple(torch.zeros((2, size)) for size in sizes)
    names = ("accurate", "robust")
    part = to_onnx(head.eval(), (), ("place",), names=names, example=examples, opset=opset_of(given.model))
    made = compose.add_prefix(onnx.load_from_string(part), _HEAD)
    model = ModelProto()
    model.CopyFrom(given.model)
    graph = model.graph
    model.ir_version = max(model.ir_version, made.ir_version)
    for name, (own, _) in zip(names, (given.accurate, given.robust), strict=True):
        graph.node.append(helper.make_node("Identity", [own], [_HEAD + name]))
    graph.node.extend(made.graph.node)
    graph.initializer.extend(made.graph.initializer)
    least, most = inward(declared)
    constants = {"least": least, "most": most, "span": np.float32(most - least)}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(each), _HEAD + name) for name, each in constants.items()
    )
    graph.node.extend(
        [
            helper.make_node("Mul", [_HEAD + "place", _HEAD + "span"], [_HEAD + "above"]),
            helper.make_node("Add", [_HEAD + "above", _HEAD + "least"], [_HEAD + "free"]),
            helper.make_node("Clip", [_HEAD + "free", _HEAD + "least", _HEAD + "most"], [WEIGHT]),
        ]
    )
    outputs = {"probabilities": (TensorProto.FLOAT, (labels,)), WEIGHT: (TensorProto.FLOAT, ())}
    return ending(model, outputs)


def inward(declared: WeightRange) -> tuple[np.float32, np.float32]:
    """The range in float32, no wider than it is declared."""
    least, most = np.float32(declared.minimum), np.float32(declared.maximum)
    least = np.nextafter(least, np.float32(2)) if float(least) < declared.minimum else least
    most = np.nextafter(most, np.float32(0)) if float(most) > declared.maximum else most
    if least > most:
        raise SourceError(f"no float32 lies from {declared.minimum} to {declared.maximum}; declare a wider range")
    return least, most


def _in_opset(model: ModelProto, opset: int) -> ModelProto:
    if opset_of(model) == opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # of several kinds, by what has no converter
        text = " ".join(str(error).split())[:300]
        raise SourceError(f"a graph of this bundle cannot be brought to opset {opset} ({text})") from error


def _features(model: ModelProto, output: str, shape: tuple[int, ...], where: str) -> tuple[str, int]:
    """What enters the last layer before `output`, or what leaves it where that is wide; with its size."""
    layer = last_layer(model, output)
    facts = follow(model, shape, where).facts
    for name in () if layer is None else (layer.input[0], layer.output[0]):
        fact = facts.get(name)
        if fact is not None and fact.place is not None and fact.place.axis == 0 and fact.kind == TensorProto.FLOAT:
            size = math.prod(fact.shapes[0][1:])
            if size <= _MOST_FEATURES:
                return name, size
    raise SourceError(f"{where} has no layer whose numbers could tell a weight; keep the fixed one")
