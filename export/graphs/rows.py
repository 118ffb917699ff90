"""The rows of a batch, followed from the lattice through every node to the outputs: each has to stay by itself.

A node that could bring rows together, that draws at random, that keeps a state, or that is not known here is refused by
name. What is left computes a row's outputs from that row; whether the runtime does so with the same bits in every slot is
for `serving.models.proof`, to which `Rows.jumping` says where to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from export.graphs import elementwise, layout, products, refused, within
from export.graphs.facts import SIZES, Call, Fact, Mixes, Place, Rule, Shape, fits
from export.graphs.reading import LATTICE, GraphError, one_line

_RULES: dict[str, Rule] = elementwise.RULES | within.RULES | layout.RULES | products.RULES
_SMALL, _LARGE = 4096, 2**18
_SHAPING = {"Reshape": (1,), "Expand": (1,), "Tile": (1,), "Slice": (1, 2), "Resize": (2, 3), "ConstantOfShape": (0,)}
"""Inputs that may depend on the number of rows, since they shape the output."""
_INDICES = {
    **dict.fromkeys(("Gather", "GatherElements", "GatherND", "ScatterElements"), (1,)),
    **dict.fromkeys(("OneHot", "LabelEncoder", "CategoryMapper", "OneHotEncoder"), (0,)),
    "Equal": (0, 1),
}
_OF_ONE_SHAPE = ("Scaler", "Normalizer", "Imputer", "Binarizer")
"""Operators whose output has the shape of their input, though onnx does not say so."""
_JUMPS = {
    *("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "IsNaN", "IsInf", "Sign", "Floor"),
    *("Ceil", "Round", "Hardmax", "ArgMax", "ArgMin", "Binarizer"),
}
_JUMPS_AT = {"TopK": 1, "LinearClassifier": 0, "SVMClassifier": 0, "TreeEnsembleClassifier": 0}
"""The output that moves in jumps, of operators that have others."""
_DECIDING = _JUMPS | set(_JUMPS_AT) | {"Mod", "ThresholdedRelu", "Shrink", "QuantizeLinear"}


@dataclass
class Rows:
    """What was found of a whole graph.

    `jumping`: the floats that decide something (a comparison, an argmax, a rounding): if their bits are a row's own, so is
    whatever is decided. `suspects`: sums within a row, whose order a runtime may choose by slot. `multiplications`: of one
    row, about.
    """

    facts: dict[str, Fact]
    jumping: dict[str, Fact] = field(default_factory=dict)
    suspects: list[str] = field(default_factory=list)
    multiplications: float = 0.0


def follow(
    model: ModelProto, shape: Sequence[int], where: str, kind: int = TensorProto.INT32, entry: str = LATTICE
) -> Rows:
    """Follow the rows of `model`, whose lattice `entry` has this shape and type; `where` begins a `GraphError`."""
    lattice = Fact(
        kind=kind,
        shapes=((SIZES[0], *shape), (SIZES[1], *shape)),
        place=Place(0),
        depends=True,
        jumps=False,
        raw=True,
    )
    rows = Rows({each.name: _constant(each, where) for each in model.graph.initializer} | {entry: lattice})
    versions = {_domain(entry.domain): entry.version for entry in model.opset_import}
    for node in model.graph.node:
        try:
            _step(rows, node, versions)
        except Mixes as error:
            raise GraphError(f"{where} cannot be served: its node {named(node)} {error}") from error
        except (AssertionError, LookupError, TypeError, ValueError) as error:  # an attribute or input that it lacks
            raise GraphError(
                f"{where} cannot be served: its node {named(node)} is no valid one ({one_line(error)}); export it again"
            ) from error
    return rows


def named(node: NodeProto) -> str:
    """A node as messages call it."""
    return f"{node.name or next(iter(node.output), '')!r} ({node.op_type})"


def _constant(tensor: TensorProto, where: str) -> Fact:
    shape = tuple(tensor.dims)
    try:
        values = numpy_helper.to_array(tensor) if np.prod(shape) <= _SMALL else None
    except (TypeError, ValueError) as error:
        raise GraphError(
            f"{where} holds a tensor {tensor.name!r} that is damaged ({one_line(error)}); export it again"
        ) from error
    return Fact(kind=tensor.data_type, shapes=(shape, shape), values=None if values is None else (values, values))


def _step(rows: Rows, node: NodeProto, versions: dict[str, int]) -> None:
    refused.check(node)
    domain = _domain(node.domain)
    if domain not in versions or not onnx.defs.has(node.op_type, domain):
        raise Mixes("is not known to keep the rows of a batch apart; use ONNX's own operators")
    for name in node.input:
        if name and name not in rows.facts:
            raise Mixes(f"takes {name!r}, which is no plain tensor; export it with dense tensors alone")
    inputs = tuple(rows.facts[name] if name else None for name in node.input)
    _check_tokens(node, inputs)
    given = [fact for fact in inputs if fact is not None]
    if node.op_type in ("Shape", "Size"):
        rows.facts[node.output[0]] = _shape_of(node, given[0])
        return
    outputs = [_inferred(node, inputs, versions, size) for size in range(len(SIZES))]
    kinds, shapes = (
        [kind for kind, _ in outputs[0]],
        tuple(zip(*([s for _, s in each] for each in outputs), strict=True)),
    )
    call = Call(node, versions[domain], inputs, shapes)
    constants = _evaluated(call, kinds, versions) if all(fact.values is not None for fact in given) else None
    if constants is not None:
        rows.facts.update(zip(node.output, constants, strict=True))
        return
    places = _places(call)
    if not all(fits(place, sizes) for place, sizes in zip(places, shapes, strict=True)):
        raise Mixes("gives a shape in which the rows of the batch cannot be told apart; keep the first axis as it is")
    rows.facts.update(_outputs(call, kinds, places))
    if any(fact.depends for fact in given):
        _note(rows, call, places)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _check_tokens(node: NodeProto, inputs: tuple[Fact | None, ...]) -> None:
    for index in _INDICES.get(node.op_type, ()):
        if index < len(inputs) and (fact := inputs[index]) is not None and fact.raw:
            raise Mixes(
                "looks the inputs up as indices or tokens; Gaussian noise, the law of this bundle, is for quantities:"
                " serve a network whose inputs are quantities"
            )


def _shape_of(node: NodeProto, fact: Fact) -> Fact:
    attributes = {each.name: each.i for each in node.attribute}
    first, last = attributes.get("start", 0), attributes.get("end", fact.rank)
    found = [np.array(shape[first:last], np.int64) for shape in fact.shapes]
    if node.op_type == "Size":
        found = [np.array(each.prod()) for each in found]
    return Fact(kind=TensorProto.INT64, shapes=(found[0].shape, found[1].shape), values=(found[0], found[1]))


def _inferred(
    node: NodeProto, inputs: tuple[Fact | None, ...], versions: dict[str, int], size: int
) -> list[tuple[int, Shape]]:
    """Type and shape of each output (of one that is left out, nothing) at one size of the batch, as onnx tells them."""
    named_inputs = {name: fact for name, fact in zip(node.input, inputs, strict=True) if fact is not None}
    types = {name: helper.make_tensor_type_proto(fact.kind, fact.shapes[size]) for name, fact in named_inputs.items()}
    data = {
        name: numpy_helper.from_array(np.asarray(fact.values[size]))
        for name, fact in named_inputs.items()
        if fact.values is not None and fact.kind != TensorProto.STRING
    }
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    schema = onnx.defs.get_schema(node.op_type, versions[_domain(node.domain)], _domain(node.domain))
    try:
        found = shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=opsets)
    except Exception as error:  # of several kinds, by operator
        raise Mixes(f"does not fit what it is given at every size of the batch ({one_line(error)})") from error
    if node.op_type in products.FITTED:
        rows = next(iter(named_inputs.values())).shapes[size][0]
        told = zip(node.output, products.fitted_shapes(node, rows), strict=False)
        return [(found[name].tensor_type.elem_type, shape) for name, shape in told]
    if node.op_type in _OF_ONE_SHAPE and (operand := inputs[0]) is not None:
        return [(found[node.output[0]].tensor_type.elem_type or operand.kind, operand.shapes[size])]
    return [_told(found[name]) if name else (0, ()) for name in node.output]


def _told(kind: TypeProto) -> tuple[int, Shape]:
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        raise Mixes("gives a shape that depends on the numbers it is given; keep every axis but the first fixed")
    return tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim)


def _evaluated(call: Call, kinds: list[int], versions: dict[str, int]) -> list[Fact] | None:
    """The outputs of a node of small constants at both sizes; None where they are large or not computed here."""
    if any(np.prod(shape) > _LARGE for shapes in call.shapes for shape in shapes):
        return None
    found = []
    for size in range(len(SIZES)):
        given = {
            name: fact.values[size]
            for name, fact in zip(call.node.input, call.inputs, strict=True)
            if fact is not None and fact.values is not None
        }
        try:
            found.append(ReferenceEvaluator(call.node, opsets=versions).run(None, given))
        except Exception:  # an operator that the reference does not compute: its shape is known all the same
            return None
    return [_value(kind, np.asarray(one), np.asarray(other)) for kind, one, other in zip(kinds, *found, strict=True)]


def _value(kind: int, one: NDArray[Any], other: NDArray[Any]) -> Fact:
    shapes = (one.shape, other.shape)
    if one.shape == other.shape:
        return Fact(kind=kind, shapes=shapes, values=(one, other))
    place = layout.repeated(shapes)
    assert place is not None
    for each in (one, other):
        if np.any(each != each.take([0], place.axis)):
            raise Mixes("numbers the rows of the batch, so that a row's answer depends on its slot; leave it out")
    return Fact(kind=kind, shapes=shapes, place=place)


def _places(call: Call) -> list[Place | None]:
    kind = call.node.op_type
    for index, fact in enumerate(call.inputs):
        if fact is not None and fact.counts_rows and index not in _SHAPING.get(kind, ()):
            raise Mixes("computes with the number of rows in the batch; leave it out")
    carrying = any(fact is not None and fact.place is not None for fact in call.inputs)
    if not carrying and all(fits(None, sizes) for sizes in call.shapes):
        return [None] * len(call.shapes)
    if kind not in _RULES:
        raise Mixes("is not known to keep the rows of a batch apart; use other operators of ONNX")
    found = _RULES[kind](call)
    return list(found[: len(call.shapes)]) if isinstance(found, tuple) else [found] * len(call.shapes)


def _outputs(call: Call, kinds: list[int], places: list[Place | None]) -> dict[str, Fact]:
    given = [fact for fact in call.inputs if fact is not None]
    depends = any(fact.depends for fact in given)
    passed = call.node.op_type in elementwise.RULES or call.node.op_type in layout.RULES
    raw = passed and depends and all(fact.raw or not fact.depends for fact in given)
    return {
        name: Fact(
            kind=kinds[index],
            shapes=call.shapes[index],
            place=places[index],
            depends=depends,
            jumps=all(fact.jumps for fact in given) or _jumps(call, index, kinds[index]),
            raw=raw,
        )
        for index, name in enumerate(call.node.output)
        if name
    }


def _jumps(call: Call, output: int, kind: int) -> bool:
    if call.node.op_type in _JUMPS_AT:
        return output == _JUMPS_AT[call.node.op_type]
    return call.node.op_type in _JUMPS or _rounds(call, kind)


def _rounds(call: Call, kind: int) -> bool:
    operand = call.operand(0)
    integer = not Fact(kind=kind, shapes=((), ())).floating
    return call.node.op_type in ("Cast", "CastLike") and operand is not None and operand.floating and integer


def _note(rows: Rows, call: Call, places: list[Place | None]) -> None:
    rows.multiplications += products.multiplications(call)
    suspect = within.suspicion(call)
    rows.suspects += [suspect] if suspect else []
    node = call.node
    names = list(node.input) + list(node.output[1:] if node.op_type in products.FITTED else [])
    if node.op_type in _DECIDING or _rounds(call, rows.facts[node.output[0]].kind):
        for name in names:
            fact = rows.facts.get(name)
            if fact is not None and fact.floating and not fact.jumps and fact.place is not None:
                rows.jumping[name] = fact
