"""Operators that move numbers about: the rows of a batch may go to another axis, but stay whole and in order."""

from __future__ import annotations

from export.graphs.elementwise import aligned
from export.graphs.facts import SIZES, Call, Mixes, Place, Rule, locate

_TAKES = "takes some rows of the batch, or one beside another; keep the first axis as it is"


def _kept_axis(call: Call, axis: int) -> None:
    place = call.place()
    if place is not None and place.axis == axis:
        raise Mixes(_TAKES)


def _shaped(call: Call) -> Place | None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same numbers in the same order."""
    call.constant(*range(1, len(call.inputs)))
    operand, place = call.inputs[0], call.place()
    if operand is None or place is None:
        return None
    return locate(place, operand.shapes, call.shapes[0])


def _transpose(call: Call) -> Place | None:
    place = call.place()
    order = list(call.attributes.get("perm", reversed(range(call.rank()))))
    return None if place is None else place.on(order.index(place.axis))


def _expand(call: Call) -> Place | None:
    """What is the same for every row may be repeated for each; the rows then lie on the new axis."""
    operand, shapes = call.inputs[0], call.shapes[0]
    assert operand is not None
    rank = len(shapes[0])
    if operand.place is not None:
        return operand.place.on(operand.place.axis + rank - operand.rank)
    return repeated(shapes)


def repeated(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> Place | None:
    """The place of rows that are all equal, by the axis that grows with their number."""
    growing = [axis for axis, (one, other) in enumerate(zip(*shapes, strict=True)) if one != other]
    if not growing:
        return None
    axis = growing[0]
    times = {divmod(shape[axis], rows) for shape, rows in zip(shapes, SIZES, strict=True)}
    if len(growing) > 1 or len(times) > 1 or next(iter(times))[1]:
        raise Mixes("makes a shape out of the number of rows in which they cannot be told apart; keep the first axis")
    return Place(axis, inner=next(iter(times))[0])


def _tile(call: Call) -> Place | None:
    operand, place = call.inputs[0], call.place()
    assert operand is not None
    if place is None:
        alone = all(
            size == 1 for size, *new in zip(operand.shapes[0], *call.shapes[0], strict=True) if new[0] != new[1]
        )
        return repeated(call.shapes[0]) if alone else _refuse()
    if any(shape[place.axis] != new[place.axis] for shape, new in zip(operand.shapes, call.shapes[0], strict=True)):
        raise Mixes("repeats the rows of the batch; keep the first axis as it is")
    return place


def _refuse() -> Place:
    raise Mixes(_TAKES)


def _concat(call: Call) -> Place | None:
    axis = call.axis(0)
    if any(operand is not None and operand.place is not None and operand.place.axis == axis for operand in call.inputs):
        raise Mixes("puts rows of the batch beside others; join along another axis than the first")
    return aligned(call)


def _split(call: Call) -> Place | None:
    _kept_axis(call, call.axis(0))
    return call.place()


def _slice(call: Call) -> Place | None:
    place, rank = call.place(), call.rank()
    starts, ends = call.numbers("starts", 1), call.numbers("ends", 2)
    operand = call.inputs[0]
    if place is None or starts is None or ends is None or operand is None:
        raise Mixes("cuts by places that are computed from the input; make them constants")
    axes = call.numbers("axes", 3) or (list(range(len(starts[0]))),) * 2
    steps = call.numbers("steps", 4) or ([1] * len(starts[0]),) * 2
    for each in range(2):
        for axis, start, end, step in zip(axes[each], starts[each], ends[each], steps[each], strict=True):
            length = operand.shapes[each][place.axis]
            if axis % rank == place.axis and not (start in (0, -length) and end >= length and step == 1):
                raise Mixes(_TAKES)
    return place


def _pad(call: Call) -> Place | None:
    place, rank = call.place(), call.rank()
    call.constant(2)
    pads = call.numbers("pads", 1)
    axes = (call.numbers("axes", 3) or (list(range(rank)),) * 2)[0]
    if pads is None or place is None:
        raise Mixes("pads by a number that is not in the graph; make it a constant")
    amounts = dict(zip((axis % rank for axis in axes), zip(pads[0], pads[0][len(axes) :], strict=False), strict=True))
    if any(amounts.get(place.axis, ())):
        raise Mixes("adds rows to the batch; keep the first axis as it is")
    return place


def _gather(call: Call) -> Place | None:
    axis, data, indices = call.axis(0), call.place(0), call.place(1)
    if indices is None:
        _kept_axis(call, axis)
        assert data is not None
        return data if data.axis < axis else data.on(data.axis + call.rank(1) - 1)
    if data is not None:
        raise Mixes("looks rows up by other rows; look them up along another axis (GatherElements)")
    return indices.on(indices.axis + axis)


def _gather_elements(call: Call) -> Place | None:
    _kept_axis(call, call.axis(0))
    if call.place(0) is None or call.place(1) is None:
        raise Mixes(_TAKES)
    return aligned(call)


def _gather_nd(call: Call) -> Place | None:
    data, indices, batches = call.place(0), call.place(1), call.attributes.get("batch_dims", 0)
    if indices is None or indices.axis == call.rank(1) - 1:
        raise Mixes(_TAKES)
    if data is not None and (data != indices or data.axis >= batches):
        raise Mixes("looks rows up by other rows; give it batch_dims")
    return indices


def _scatter_elements(call: Call) -> Place | None:
    _kept_axis(call, call.axis(0))
    if any(call.place(index) is None for index in range(3)):
        raise Mixes(_TAKES)
    return aligned(call)


def _one_hot(call: Call) -> Place | None:
    call.constant(1, 2)
    place, rank = call.place(), call.rank() + 1
    axis = int(call.attributes.get("axis", -1)) % rank
    return None if place is None else place.on(place.axis + (axis <= place.axis))


def _array_feature_extractor(call: Call) -> Place | None:
    call.constant(1)
    _kept_axis(call, call.rank() - 1)
    return call.place()


def _of_pictures(call: Call) -> Place | None:
    """Pictures [rows, channels, height, width]: the last three axes are rearranged."""
    call.constant(*range(1, len(call.inputs)))
    place = call.place()
    if place is None or place.axis != 0:
        raise Mixes("rearranges rows of the batch; keep them on the first axis")
    return place


def _resize(call: Call) -> Place | None:
    call.constant(*range(1, len(call.inputs)))
    operand, place = call.inputs[0], call.place()
    if operand is None or place is None:
        return None
    for before, after in zip(operand.shapes, call.shapes[0], strict=True):
        if before[place.axis] != after[place.axis]:
            raise Mixes("resizes the batch; keep the first axis as it is")
    return place


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _shaped),
    "Transpose": _transpose,
    "Expand": _expand,
    "ConstantOfShape": lambda call: repeated(call.shapes[0]),
    "Tile": _tile,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "OneHot": _one_hot,
    "ArrayFeatureExtractor": _array_feature_extractor,
    "DepthToSpace": _of_pictures,
    "SpaceToDepth": _of_pictures,
    "Resize": _resize,
    "Upsample": _resize,
}
