"""Products with weights, attention, recurrent layers and the fitted models of scikit-learn; and how much they multiply."""

from __future__ import annotations

import math

from onnx import NodeProto

from export.graphs.facts import SIZES, Call, Mixes, OnePlace, Place, Rule

_TOGETHER = "multiplies rows of the batch with each other; contract another axis"


def _mat_mul(call: Call, left: int = 0, right: int = 1) -> Place | None:
    """Numpy's: the last axis of the left against the last but one of the right, whatever is before them side by side."""
    found, rank = set(), max(call.rank(left), call.rank(right))
    for index, contracted, other in ((left, -1, right), (right, -2, left)):
        place, own = call.place(index), call.rank(index)
        if place is None:
            continue
        if own == 1 or place.axis == own + contracted:
            raise Mixes(_TOGETHER)
        gone = index == right and call.rank(other) == 1 and place.axis == own - 1  # a vector on the left leaves no axis
        found.add(place.on(place.axis + rank - own - gone))
    if len(found) > 1:
        raise Mixes(_TOGETHER)
    return next(iter(found), None)


def _integer_mat_mul(call: Call) -> Place | None:
    _static(call, 2, 3)
    return _mat_mul(call)


def _quantised_mat_mul(call: Call) -> Place | None:
    _static(call, 1, 2, 4, 5, 6, 7)
    return _mat_mul(call, 0, 3)


def _static(call: Call, *indices: int) -> None:
    if any(call.place(index) is not None for index in indices):
        raise Mixes("quantises with a scale that is computed from the rows of the batch; use static quantisation")


def _gemm(call: Call) -> Place | None:
    found = set()
    for index, name, own in ((0, "transA", 0), (1, "transB", 1)):
        place = call.place(index)
        if place is None:
            continue
        if (place.axis != own) != bool(call.attributes.get(name, 0)):
            raise Mixes(_TOGETHER)
        found.add(place.on(own))
    added = call.place(2)
    if added is not None:
        found.add(added.on(added.axis + 2 - call.rank(2)))
    if len(found) != 1:
        raise Mixes(_TOGETHER)
    return found.pop()


def _first(*rows: int) -> OnePlace:
    """Only these inputs carry rows, all on the first axis, as do the outputs."""

    def rule(call: Call) -> Place | None:
        call.constant(*(index for index in range(len(call.inputs)) if index not in rows))
        places = {operand.place for index in rows if (operand := call.operand(index)) is not None}
        place = places.pop()
        if places or place is None or place.axis != 0:
            raise Mixes("joins rows of the batch; keep them on the first axis of its input")
        return place

    return rule


def _attention(call: Call) -> Place | None:
    if len([name for name in call.node.output if name]) > 1:
        raise Mixes("keeps a state; export it without past keys and values")
    return _first(0, 1, 2)(call)


def _recurrent(call: Call) -> tuple[Place | None, ...]:
    """X [steps, rows, size] gives Y [steps, directions, rows, size] and states [directions, rows, size]; or rows first."""
    rows_first = bool(call.attributes.get("layout", 0))
    call.constant(1, 2, 3, 4, 7)
    rows = Place(0 if rows_first else 1)
    if any(call.place(index) not in (None, rows) for index in (0, 5, 6)):
        raise Mixes("goes from row to row of the batch; give it the rows on its axis of the batch")
    return (rows, rows, rows) if rows_first else (Place(2), rows, rows)


def _einsum(call: Call) -> Place | None:
    terms, _, result = str(call.attributes["equation"]).replace(" ", "").partition("->")
    found = set()
    for index, term in enumerate(terms.split(",")):
        place = call.place(index)
        if place is not None:
            if "." in term:
                raise Mixes("names its axes by an ellipsis; name each of them")
            found.add((term[place.axis], place.on(0)))
    letter = next(iter(found))[0]
    constant = [term for index, term in enumerate(terms.split(",")) if call.place(index) is None]
    if len(found) != 1 or result.count(letter) != 1 or any(letter in term for term in constant):
        raise Mixes(_TOGETHER)
    return next(iter(found))[1].on(result.index(letter))


def multiplications(call: Call) -> float:
    """Of one row, about; 0 for what is no product. The output carries rows."""
    kind, attributes = call.node.op_type, call.attributes
    numbers = math.prod(call.shapes[0][0]) / SIZES[0]
    if kind in _WEIGHTS and (weight := call.operand(_WEIGHTS[kind])) is not None:
        return numbers * math.prod(weight.shapes[0][1:])
    if kind == "ConvTranspose" and (taken := call.operand(0)) is not None and (weight := call.operand(1)) is not None:
        return math.prod(taken.shapes[0]) / SIZES[0] * math.prod(weight.shapes[0][1:])
    if kind in _CONTRACTING and (left := call.operand(0)) is not None:
        return numbers * left.shapes[0][0 if attributes.get("transA", 0) else -1]
    return 0.0


def fitted_shapes(node: NodeProto, rows: int) -> list[tuple[int, ...]]:
    """The shapes that onnx does not tell of: a label and the scores of each row, or the numbers of a regression."""
    given = {each.name: each for each in node.attribute}
    if node.op_type.endswith("Classifier"):
        labels = max(
            len(each.ints) + len(each.strings) for name, each in given.items() if name.startswith("classlabels")
        )
        return [(rows,), (rows, labels)]
    return [(rows, max((given[name].i for name in ("n_targets", "targets") if name in given), default=1))]


_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_CONTRACTING = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")
FITTED = (
    *("LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor", "TreeEnsemble"),
    *("TreeEnsembleClassifier", "TreeEnsembleRegressor"),
)
RULES: dict[str, Rule] = {
    "MatMul": _mat_mul,
    "MatMulInteger": _integer_mat_mul,
    "QLinearMatMul": _quantised_mat_mul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    **dict.fromkeys(("Conv", "ConvInteger", "ConvTranspose", "QLinearConv", *FITTED), _first(0)),
    "Attention": _attention,
    "RotaryEmbedding": _first(0),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
}
