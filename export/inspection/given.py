"""The one input of a foreign graph: its type, its axes, and its batch axis made free where it is fixed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export.sources.source import SourceError

FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
_UNTAKEN = {TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.COMPLEX64, TensorProto.COMPLEX128}
_LOOKING_UP = {
    **dict.fromkeys(("Gather", "GatherElements", "GatherND"), 1),
    **dict.fromkeys(("OneHot", "LabelEncoder", "CategoryMapper", "OneHotEncoder", "Equal"), 0),
}
_PASSING = {
    *("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Concat", "Clip"),
    *("Expand", "Tile", "Split", "Pad"),
}
_SHIFTING = {"Max", "Min", "Sub", "Add"}
"""Of whole numbers: what numbers its tokens from another one on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """`kind` is ONNX's type, `axes` as the file declares them; `batch` the number of rows where that is fixed."""

    name: str
    kind: int
    axes: tuple[int | str | None, ...]
    batch: int | None

    @property
    def type_name(self) -> str:
        """As numpy calls it."""
        return str(np.dtype(helper.tensor_dtype_to_np_dtype(self.kind)))

    @property
    def open_axes(self) -> tuple[int, ...]:
        """Axes behind the first whose size is not said."""
        return tuple(axis for axis, size in enumerate(self.axes) if axis and not isinstance(size, int))


def given(model: ModelProto, name: str) -> Given:
    """The input of the graph. Raises `SourceError` where there are several, or it is no tensor of quantities."""
    constants = {each.name for each in model.graph.initializer}
    found = [each for each in model.graph.input if each.name not in constants]
    if not found:
        raise SourceError(f"{name} has no input; export the network with its input")
    if len(found) > 1:
        _refuse_several(model, found, name)
    value = found[0]
    if value.type.WhichOneof("value") != "tensor_type":
        kind = str(value.type.WhichOneof("value")).removesuffix("_type")
        raise SourceError(f"{name} takes a {kind} as {value.name!r}; expected one dense tensor of numbers")
    tensor = value.type.tensor_type
    axes = tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else (dim.dim_param or None)
        for dim in tensor.shape.dim
    )
    if not tensor.HasField("shape") or len(axes) < 2:
        raise SourceError(
            f"{name} takes {value.name!r} of {len(axes)} axes; expected an axis of rows and one or more behind it:"
            " export it with a batch"
        )
    made = Given(name=value.name, kind=tensor.elem_type, axes=axes, batch=axes[0] if isinstance(axes[0], int) else None)
    _check_quantities(model, made, name)
    return made


def _refuse_several(model: ModelProto, found: Sequence[ValueInfoProto], name: str) -> None:
    names = ", ".join(each.name for each in found)
    state = [
        each.name
        for each in found
        if any(word in each.name.lower() for word in ("state", "hidden", "cache", "past", "mem"))
    ]
    if state:
        raise SourceError(
            f"{name} has the inputs {names}: {', '.join(state)} is a state that goes from call to call, and a certificate"
            " speaks of one function of one input; export it for one whole input, with the state it begins with inside"
        )
    raise SourceError(
        f"{name} has several inputs ({names}), and a certificate speaks of one; export it with the others fixed inside as"
        " constants"
    )


def _check_quantities(model: ModelProto, made: Given, name: str) -> None:
    if made.kind == TensorProto.STRING:
        raise SourceError(f"{name} takes strings as {made.name!r}; Gaussian noise is for quantities: give it numbers")
    if made.kind in _UNTAKEN:
        kind = TensorProto.DataType.Name(made.kind).lower()
        raise SourceError(
            f"{name} takes {kind} as {made.name!r}, in which no noisy quantity fits; export it for float32"
        )
    lookup = _lookup(model, made.name, _PASSING if made.kind in FLOATS else _PASSING | _SHIFTING)
    if lookup is not None:
        node = f"{lookup.name or lookup.output[0]!r} ({lookup.op_type})"
        raise SourceError(
            f"{name} looks its input {made.name!r} ({made.type_name}) up as indices, in its node {node}: these are tokens,"
            " bytes or categories, and the Gaussian law is for quantities; no law for them is offered yet"
        )
    if made.kind not in FLOATS and not _only_cast(model, made.name):
        raise SourceError(
            f"{name} takes {made.type_name} as {made.name!r} and computes with them as integers: noise leads beyond their"
            " range; export it for float inputs"
        )


def _lookup(model: ModelProto, name: str, passing: Collection[str]) -> NodeProto | None:
    """The node that takes the input, passed on as it is, for indices."""
    reached = {name}
    for node in model.graph.node:
        place = _LOOKING_UP.get(node.op_type)
        if place is not None:
            looked = node.input if node.op_type == "Equal" else node.input[place : place + 1]
            if reached & set(looked):
                return node
        if node.op_type in passing and reached & set(node.input):
            reached.update(node.output)
    return None


def _only_cast(model: ModelProto, name: str) -> bool:
    users = [node for node in model.graph.node if name in node.input]
    return bool(users) and all(
        node.op_type == "Cast" and helper.get_node_attr_value(node, "to") in FLOATS for node in users
    )


def sizes(made: Given, shape: tuple[int, ...] | None, name: str) -> tuple[int, ...]:
    """The shape of one input. `shape` is what samples, or the user, say; it settles what the file leaves open."""
    declared = made.axes[1:]
    if shape is None:
        if made.open_axes:
            said = ", ".join(f"{axis} ({made.axes[axis] or 'unnamed'})" for axis in made.open_axes)
            raise SourceError(
                f"{name} leaves the sizes of its axes {said} free, and a bundle has one size: give --samples, or --shape"
            )
        return tuple(size for size in declared if isinstance(size, int))
    fits = len(shape) == len(declared) and all(
        there == size or not isinstance(there, int) for there, size in zip(declared, shape, strict=False)
    )
    if not fits:
        wanted = "x".join(str(size) if isinstance(size, int) else "?" for size in declared)
        raise SourceError(
            f"{name} takes inputs of shape {wanted}, and was given {'x'.join(map(str, shape)) or 'single numbers'}; the"
            " first axis of samples is the rows"
        )
    return shape


def freed(model: ModelProto, made: Given, shape: tuple[int, ...]) -> ModelProto:
    """The graph for any number of rows of this shape; constants that name the fixed number of rows are mended."""
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    constants = {each.name for each in graph.initializer}
    others = [each for each in graph.input if each.name in constants]
    for each in others:
        graph.input.remove(each)
    copy.ir_version = max(copy.ir_version, 8)
    kind = made.kind if made.kind in FLOATS else TensorProto.FLOAT
    (value,) = graph.input
    value.CopyFrom(helper.make_tensor_value_info(made.name, kind, ["rows", *shape]))
    del graph.value_info[:]
    for output in graph.output:
        if output.type.WhichOneof("value") == "tensor_type":
            output.type.tensor_type.ClearField("shape")
    _drop_dropout(copy)
    if made.batch is not None:
        _mend_shapes(copy, made.batch)
    return copy


def _drop_dropout(model: ModelProto) -> None:
    """Dropout that drops nothing passes its input on; the mask that old exporters name beside it is asked for by nobody."""
    used = {name for node in model.graph.node for name in node.input} | {each.name for each in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "Dropout" and len(node.input) < 3 and not used & set(node.output[1:]):
            kept = helper.make_node("Identity", list(node.input[:1]), list(node.output[:1]), name=node.name)
            node.CopyFrom(kept)


def _mend_shapes(model: ModelProto, batch: int) -> None:
    """A Reshape to a fixed number of rows keeps the rows it is given instead."""
    graph = model.graph
    known = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    for place, node in enumerate(graph.node):
        if node.op_type != "Reshape" or len(node.input) < 2 or node.input[1] not in known:
            continue
        shape = np.ravel(known[node.input[1]]).tolist()
        if shape and shape[0] == batch:
            shape[0] = 0 if -1 in shape else -1
            name = f"rows of reshape {place}"
            graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
            node.input[1] = name
