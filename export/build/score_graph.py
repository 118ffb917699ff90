"""The noisy graph of a foreign network with the head of a score, and the graph that gives what scores are fitted from.

Features are the tensor that enters the network's last layer: of a linear model its own inputs. Where no last layer is
found, or the tensor is too wide to be whitened, they are the numbers that are voted by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, compose, helper, numpy_helper, version_converter

from certify.ood.scores import Scorer
from export.build.compose import PREFIX, Composed
from export.graphs.facts import Place
from export.graphs.rows import follow
from export.inspection.inspect import Found
from export.inspection.structure import structure
from export.sources.onnx_file import opset_of
from export.sources.source import SourceError

_OPSET = 18
"""What heads are written in. Older networks are brought up to it, and for newer ones heads are."""
_MOST_FEATURES = 4_096
_PREFIX = "score/"
FEATURES, LOGITS, SCORE = _PREFIX + "features", _PREFIX + "logits", _PREFIX + "score"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scorable:
    """`model` is the served graph that computes FEATURES [rows, size] and LOGITS [rows, labels] as well, beside its outputs.

    `taken` is the network's own name for the features, None where its logits stand for them.
    """

    model: ModelProto
    size: int
    labels: int
    taken: str | None


def current(found: Found) -> Found:
    """The same network in an opset that heads can be added to. Raises `SourceError`."""
    if opset_of(found.model) >= _OPSET:
        return found
    try:
        model = version_converter.convert_version(found.model, _OPSET)
    except Exception as error:  # of several kinds, by what has no converter
        text = " ".join(str(error).split())[:300]
        raise SourceError(
            f"{found.name} cannot be brought to opset {_OPSET}, in which scores are written ({text}); export it in"
            f" opset {_OPSET}, or give --samples for certificates only"
        ) from error
    return replace(found, model=model, structure=structure(model, found.given.name, found.output.name))


def scorable(made: Composed, found: Found) -> Scorable:
    """The served graph of this network with what scores are made of."""
    model = onnx.load_from_string(made.graph)
    facts = follow(model, found.shape, found.name).facts
    inner = found.structure.features or (found.given.name if found.structure.layer else None)
    fact = facts.get(PREFIX + inner) if inner else None
    fits = fact is not None and fact.place == Place(0) and math.prod(fact.shapes[0][1:]) <= _MOST_FEATURES
    taken, size = (inner, math.prod(fact.shapes[0][1:])) if fits and fact else (None, found.output.labels)
    name = made.logits if taken is None else PREFIX + taken
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, size], np.int64), f"shape of {FEATURES}"))
    model.graph.node.extend(
        [
            helper.make_node("Cast", [name], [f"{FEATURES} as float"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", [f"{FEATURES} as float", f"shape of {FEATURES}"], [FEATURES]),
            helper.make_node("Identity", [made.logits], [LOGITS]),
        ]
    )
    return Scorable(model=model, size=size, labels=found.output.labels, taken=taken)


def fitted_from(given: Scorable) -> bytes:
    """The graph from the lattice to FEATURES and LOGITS."""
    outputs = {FEATURES: (TensorProto.FLOAT, (given.size,)), LOGITS: (TensorProto.FLOAT, (given.labels,))}
    return ending(given.model, outputs)


def check_installed() -> None:
    """Raise `ModuleNotFoundError` where heads cannot be written: before the walks over the data, and not behind them."""
    for name in ("torch", "onnxscript"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def noisy(given: Scorable, name: str, scorer: Scorer) -> bytes:
    """The graph of a noisy pass, vote and score, with the head of a fitted score."""
    # Heads alone are written in torch: a model is inspected, and exported with certificates only, without it.
    import torch

    from export.build.score_heads import head
    from export.sources.torch_module import to_onnx

    opset = opset_of(given.model)
    examples = torch.zeros((2, given.size)), torch.zeros((2, given.labels))
    data = to_onnx(head(name, scorer), (), ("score",), names=("features", "logits"), example=examples, opset=_OPSET)
    part = onnx.load_from_string(data)
    part = part if opset == _OPSET else version_converter.convert_version(part, opset)
    part = compose.add_prefix(part, _PREFIX)
    model = ModelProto()
    model.CopyFrom(given.model)
    model.ir_version = max(model.ir_version, part.ir_version)
    model.graph.node.extend([*part.graph.node, helper.make_node("Identity", [SCORE], ["score"])])
    model.graph.initializer.extend(part.graph.initializer)
    return ending(model, {"vote": (TensorProto.INT64, ()), "score": (TensorProto.FLOAT, ())})


def base(made: Composed) -> bytes:
    """The graph of a clean pass: probabilities alone."""
    model = onnx.load_from_string(made.graph)
    labels = next(each for each in model.graph.output if each.name == "probabilities").type.tensor_type.shape.dim[1]
    return ending(model, {"probabilities": (TensorProto.FLOAT, (labels.dim_value,))})


def votes(made: Composed) -> bytes:
    """The graph of a noisy pass without a score: votes alone."""
    return ending(onnx.load_from_string(made.graph), {"vote": (TensorProto.INT64, ())})


def ending(model: ModelProto, outputs: Mapping[str, tuple[int, Sequence[int]]], *, check: bool = True) -> bytes:
    """The part of the graph that leads to these outputs: of each its type, and the shape of a row."""
    kept = ModelProto()
    kept.CopyFrom(model)
    graph = kept.graph
    needed, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed.update(node.input)
            needed.update(name for inner in _subgraphs(node) for name in inner)
    del graph.node[:], graph.output[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(each for each in model.graph.initializer if each.name in needed)
    graph.output.extend(
        helper.make_tensor_value_info(name, kind, ["rows", *sizes]) for name, (kind, sizes) in outputs.items()
    )
    if check:
        onnx.checker.check_model(kept)
    return bytes(kept.SerializeToString(deterministic=True))


def _subgraphs(node: onnx.NodeProto) -> list[list[str]]:
    """What the graphs inside of a node name, at any depth."""
    graphs = [graph for attribute in node.attribute for graph in [attribute.g, *attribute.graphs]]
    return [
        [*inner.input, *(name for deeper in _subgraphs(inner) for name in deeper)]
        for graph in graphs
        for inner in graph.node
    ]
