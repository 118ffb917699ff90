"""From the bytes of a bundle to a graph that has the declared inputs and outputs, or one line that says why not.

A graph is all in its file, whose digest the bundle knows: tensors that lie elsewhere ("external data") are refused wherever
they are named. What its nodes do to the rows of a batch is told by `export.graphs.rows`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import onnx
from google.protobuf.message import Message
from onnx import ModelProto, TensorProto, TypeProto, ValueInfoProto, inliner, numpy_helper

from certify.mixture.mix import WeightRange
from export.bundle import Bundle, BundleError
from export.bundle.files import BASE, NOISY

LATTICE, WEIGHT = "lattice", "weight"
LATTICE_TYPES: Mapping[int, str] = {
    TensorProto.INT32: "int32",
    TensorProto.INT16: "int16",
    TensorProto.FLOAT16: "float16",
}
"""What a graph may take its lattice as, by numpy's name."""
EXACT_UP_TO = {"int32": 2**31 - 1, "int16": 2**15 - 1, "float16": 2**11}
"""The largest size up to which a type holds every integer; beyond it FP16 knows even ones alone."""
_OLDEST_OPSET = 7  # before it, a network was in training mode unless it said otherwise
_OUTPUTS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    BASE: {"probabilities": (TensorProto.FLOAT, 2)},
    NOISY: {"vote": (TensorProto.INT64, 1), "score": (TensorProto.FLOAT, 1)},
}


class GraphError(BundleError):
    """A graph cannot be served; one line names the bundle, the file, the node if it is one, and how to mend it."""


def declared_outputs(bundle: Bundle, file: str, given: Collection[str] = ("score",)) -> Mapping[str, tuple[int, int]]:
    """Type and rank of each output; one graph may be in both files, and then it has the outputs of both.

    A bundle that declares no score does without that output, where it is not among those `given`.
    """
    wanted = {**_OUTPUTS[BASE], **_OUTPUTS[NOISY]} if bundle.base == bundle.noisy else _OUTPUTS[file]
    if declared_weight(bundle) is not None and (file == BASE or bundle.base == bundle.noisy):
        wanted = {**wanted, WEIGHT: (TensorProto.FLOAT, 1)}
    without = bundle.manifest.ood is None and "score" not in given
    return {name: what for name, what in wanted.items() if name != "score"} if without else wanted


def declared_weight(bundle: Bundle) -> WeightRange | None:
    """The range of the weight that the base graph gives, where the bundle declares that it gives one."""
    return bundle.manifest.mixture.declared if bundle.manifest.mixture else None


def place(bundle: Bundle, file: str) -> str:
    """How messages begin: the bundle and the file, or both of its files where they hold one graph."""
    return f"{bundle.key}: {f'{BASE} (and {NOISY}, the same graph)' if bundle.base == bundle.noisy else file}"


def read(bundle: Bundle, file: str) -> ModelProto:
    """The graph in `file`, its own functions put in line. Raises `GraphError`."""
    try:
        model = _parsed(bundle.base if file == BASE else bundle.noisy)
        _check_versions(model)
        _check_external(model)
        model = _checked(model)
        top = bundle.manifest.input.top
        highest = bundle.law.span(0, top)[1] if file == NOISY or bundle.base == bundle.noisy else top
        _check_input(model, (None, *bundle.manifest.input.shape), highest)
        wanted = declared_outputs(bundle, file, {each.name for each in model.graph.output})
        _check_outputs(model, wanted, len(bundle.manifest.labels))
        if WEIGHT in wanted:
            _check_weight(model, declared_weight(bundle))
        if bundle.manifest.thresholds and "vote" in wanted:
            _check_grades(model, bundle.manifest.thresholds)
    except _Unfit as error:
        raise GraphError(f"{place(bundle, file)} {error}") from error
    return model


class _Unfit(ValueError):
    """The end of a sentence that begins with the file's name."""


def one_line(error: BaseException) -> str:
    """What a library says, without its line breaks and its length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _parsed(data: bytes) -> ModelProto:
    if not data:
        raise _Unfit("is empty; restore the bundle or export it again")
    try:
        model = ModelProto.FromString(data)
    except Exception as error:  # protobuf's own kinds differ between its implementations
        raise _Unfit(f"is no ONNX graph, or is cut short or damaged ({one_line(error)}); export it again") from error
    if not model.graph.node or not model.ir_version:
        raise _Unfit("holds no ONNX graph, or is cut short or damaged; export it again")
    return model


def _check_versions(model: ModelProto) -> None:
    if model.ir_version > onnx.IR_VERSION:
        raise _Unfit(
            f"has version {model.ir_version} of the ONNX format, newer than {onnx.IR_VERSION}, the last that is read"
            " here; export it for an older one"
        )
    for entry in model.opset_import:
        newest = onnx.defs.onnx_opset_version() if entry.domain in ("", "ai.onnx") else None
        if newest is not None and not _OLDEST_OPSET <= entry.version <= newest:
            raise _Unfit(
                f"needs opset {entry.version}; this server reads {_OLDEST_OPSET} to {newest}: export it for one of these"
            )


def _check_external(model: ModelProto) -> None:
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise _Unfit(
                f"keeps the tensor {tensor.name!r} outside of itself, where no digest covers it;"
                " export it with all data inside (external_data=False)"
            )


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor at any depth: initializers, attributes, subgraphs, functions and what later formats add."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _tensors(part)


def _checked(model: ModelProto) -> ModelProto:
    try:
        onnx.checker.check_model(model)
        return inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:
        raise _Unfit(f"is no valid ONNX graph ({one_line(error)}); export it again") from error


def lattice_kind(model: ModelProto) -> int:
    """The type of the lattice, of ONNX's."""
    return next(int(each.type.tensor_type.elem_type) for each in model.graph.input if each.name == LATTICE)


def _check_input(model: ModelProto, shape: tuple[int | None, ...], reach: int) -> None:
    constants = {each.name for each in model.graph.initializer}
    given = [each for each in model.graph.input if each.name not in constants]
    if [each.name for each in given] != [LATTICE]:
        found = ", ".join(each.name for each in given) or "none"
        raise _Unfit(
            f"has the inputs {found}; expected {LATTICE!r} alone (an input more would be a state): export it so"
        )
    kind = lattice_kind(model)
    if kind not in LATTICE_TYPES:
        _check_type(given[0], TensorProto.INT32)
    elif reach > (limit := EXACT_UP_TO[LATTICE_TYPES[kind]]):
        raise _Unfit(
            f"takes {LATTICE!r} as {LATTICE_TYPES[kind]}, which holds every integer up to {limit}, and inputs with their"
            f" noise reach {reach}; export it with int32"
        )
    _check_shape(given[0], shape)


def _check_outputs(model: ModelProto, wanted: Mapping[str, tuple[int, int]], labels: int) -> None:
    found = [each.name for each in model.graph.output]
    if sorted(found) != sorted(wanted):
        raise _Unfit(f"has the outputs {', '.join(found) or 'none'}; expected {', '.join(wanted)}: export it so")
    for output in model.graph.output:
        kind, rank = wanted[output.name]
        _check_type(output, kind)
        if output.type.tensor_type.HasField("shape"):
            _check_shape(output, (None, labels)[:rank])


def _check_weight(model: ModelProto, declared: WeightRange | None) -> None:
    """The last node before the weight keeps it in its range at every input, on which all that is certified rests."""
    made = next((node for node in model.graph.node if WEIGHT in node.output), None)
    constants = {each.name: float(numpy_helper.to_array(each)) for each in model.graph.initializer if not each.dims}
    ends = [constants.get(name, math.nan) for name in made.input[1:3]] if made is not None else []
    inside = declared is not None and len(ends) == 2 and declared.minimum <= ends[0] <= ends[1] <= declared.maximum
    if made is None or made.op_type != "Clip" or not inside:
        raise _Unfit(
            f"gives {WEIGHT!r} by {made.op_type if made is not None else 'nothing'}; expected a Clip to constants within the"
            " range that the manifest declares, mixture.robust_weight to mixture.most_weight: export it so"
        )


def _check_grades(model: ModelProto, thresholds: tuple[float, ...]) -> None:
    """A number is compared with the thresholds that the bundle declares, and no others, on which what is claimed rests."""
    constants = {each.name: each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT}
    seconds = [node.input[1] for node in model.graph.node if node.op_type == "Greater"]
    compared = [numpy_helper.to_array(constants[name]).ravel().tolist() for name in seconds if name in constants]
    if list(thresholds) not in compared:
        raise _Unfit(
            "compares no number (Greater) with the thresholds that the manifest declares in claims.confidence; export it so"
        )


def _check_type(value: ValueInfoProto, wanted: int) -> None:
    if value.type.WhichOneof("value") != "tensor_type" or value.type.tensor_type.elem_type != wanted:
        raise _Unfit(f"has {value.name!r} of type {_type_name(value.type)}; expected {_name(wanted)}: export it so")


def _check_shape(value: ValueInfoProto, wanted: tuple[int | None, ...]) -> None:
    """None stands for the batch, which has to be free; a dimension that is not said is found out later."""
    dims = value.type.tensor_type.shape.dim
    said = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    text = "x".join("n" if size is None else str(size) for size in wanted)
    if len(said) != len(wanted) or any(
        there is not None and size is not None and there != size for there, size in zip(said, wanted, strict=True)
    ):
        shape = "x".join(dim.dim_param or str(dim.dim_value) if dim.WhichOneof("value") else "?" for dim in dims)
        raise _Unfit(f"has {value.name!r} of shape {shape or 'scalar'}; the manifest's is {text}: export it so")
    if said[0] is not None:
        raise _Unfit(
            f"has a fixed batch of {said[0]} rows in {value.name!r}; export it with a free first axis (dynamic_shapes)"
        )


def _type_name(kind: TypeProto) -> str:
    which = kind.WhichOneof("value")
    return _name(kind.tensor_type.elem_type) if which == "tensor_type" else str(which).removesuffix("_type")


def _name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()
