"""Operators that join the numbers along some axes: harmless within a row, refused along the batch."""

from __future__ import annotations

from export.graphs.facts import Call, Mixes, OnePlace, Place, Rule

_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
_SUMMING = {*_REDUCTIONS, "GlobalAveragePool", "GlobalLpPool", "AveragePool", "LpPool"} - {"ReduceMax", "ReduceMin"}


def _apart(place: Place | None, axes: range | list[int], what: str) -> None:
    if place is not None and place.axis in axes:
        raise Mixes(f"{what} over the rows of the batch; keep it to the other axes")


def _removed(place: Place, axes: list[int], keep: bool) -> Place:
    return place if keep else place.on(place.axis - sum(axis < place.axis for axis in axes))


def reduced(call: Call) -> list[int]:
    """The axes that a reduction joins, counted from the front."""
    given = call.numbers("axes", 1)
    if given is None or not given[0]:
        return [] if call.attributes.get("noop_with_empty_axes", 0) else list(range(call.rank()))
    return [axis % call.rank() for axis in given[0]]


def _reduction(call: Call) -> Place | None:
    call.constant(1)
    axes, place = reduced(call), call.place()
    _apart(place, axes, "reduces")
    return None if place is None else _removed(place, axes, bool(call.attributes.get("keepdims", 1)))


def _arg(call: Call) -> Place | None:
    axis, place = call.axis(0), call.place()
    _apart(place, [axis], "compares")
    return None if place is None else _removed(place, [axis], bool(call.attributes.get("keepdims", 1)))


def _along(default: int, what: str) -> OnePlace:
    def rule(call: Call) -> Place | None:
        _apart(call.place(), [call.axis(default)], what)
        return call.place()

    return rule


def _from(default: int, what: str) -> OnePlace:
    """Joins `axis` and all behind it."""

    def rule(call: Call) -> Place | None:
        call.constant(*range(1, len(call.inputs)))
        _apart(call.place(), range(call.axis(default), call.rank()), what)
        return call.place()

    return rule


def _softmax(call: Call) -> Place | None:
    if call.version >= 13:
        return _along(-1, "normalises")(call)
    return _from(1, "normalises")(call)


def _cumulative(call: Call) -> Place | None:
    axis = call.numbers("axis", 1)
    assert axis is not None
    _apart(call.place(), [axis[0][0] % call.rank()], "adds up")
    return call.place()


def _top(call: Call) -> Place | None:
    call.constant(1)
    return _along(-1, "compares")(call)


def _leading(count: int, what: str) -> OnePlace:
    """Joins all axes but the first `count`."""

    def rule(call: Call) -> Place | None:
        call.constant(*range(1, len(call.inputs)))
        _apart(call.place(), range(count, call.rank()), what)
        return call.place()

    return rule


def _max_pool(call: Call) -> Place | None:
    if len([name for name in call.node.output if name]) > 1:
        raise Mixes("numbers the places of its maxima through the whole batch; export it without indices")
    return _leading(2, "pools")(call)


def _moments(call: Call) -> Place | None:
    axes = [int(axis) % call.rank() for axis in call.attributes.get("axes", [0, 2, 3])]
    _apart(call.place(), axes, "normalises")
    return call.place()


def _triangle(call: Call) -> Place | None:
    _apart(call.place(), range(call.rank() - 2, call.rank()), "cuts a triangle")
    return call.place()


def _normalizer(call: Call) -> Place | None:
    _apart(call.place(), [call.rank() - 1], "normalises")
    return call.place()


def suspicion(call: Call) -> str | None:
    """Whether this node adds up numbers of a row in an order that a runtime may choose by the row's place, in words."""
    if call.node.op_type not in _SUMMING or call.place() is None:
        return None
    operand = call.inputs[0]
    assert operand is not None
    axes = reduced(call) if call.node.op_type in _REDUCTIONS else range(2, operand.rank)
    sizes = "x".join(str(operand.shapes[0][axis]) for axis in axes)
    return f"{call.node.op_type} {call.node.name or call.node.output[0]!r} over {sizes}"


RULES: dict[str, Rule] = {
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "AveragePool", "LpPool"), _leading(2, "pools")
    ),
    "MaxPool": _max_pool,
    "ArgMax": _arg,
    "ArgMin": _arg,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _softmax,
    "LpNormalization": _along(-1, "normalises"),
    "LayerNormalization": _from(-1, "normalises"),
    "RMSNormalization": _from(-1, "normalises"),
    "InstanceNormalization": _leading(2, "normalises"),
    "GroupNormalization": _leading(1, "normalises"),
    "LRN": _leading(1, "normalises"),
    "MeanVarianceNormalization": _moments,
    "CumSum": _cumulative,
    "CumProd": _cumulative,
    "TopK": _top,
    "Trilu": _triangle,
    "Normalizer": _normalizer,
}
