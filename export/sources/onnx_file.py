"""An ONNX file: read whole, its external data put in, its own functions put in line, its opset one that can be built on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, external_data_helper, helper, inliner, version_converter

from export import regular_file
from export.sources.source import Source, SourceError

OLDEST = 9
"""The oldest opset in which all that is added to a network can be written; older ones are converted."""
_CONVERTED = 18
_LARGEST = 2**31 - 1
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read(path: Path) -> Source:
    """The model in `path`. Raises `SourceError`, or `OSError` for what cannot be read."""
    _check_size(path, path.stat().st_size)
    data = regular_file.read(path)
    if data.startswith(_PICKLES):
        raise SourceError(
            f"{path} is a pickle, or an archive of one, which is never loaded: it may run any code. Give"
            " package.module:factory with --weights in safetensors or a state dict, or export the model to ONNX"
        )
    model = _parsed(path, data)
    notes = {}
    if _has_external(model):
        model = _inlined(path, model)
        notes = {"external_data": "put into the graph", "sha256_of_the_file": hashlib.sha256(data).hexdigest()}
        data = bytes(model.SerializeToString(deterministic=True))
    return Source(name=path.name, original=data, model=current(model, path.name), notes=notes)


def current(model: ModelProto, name: str) -> ModelProto:
    """The same network without functions of its own, in an opset that can be built on. Raises `SourceError`."""
    if model.ir_version > onnx.IR_VERSION:
        raise SourceError(
            f"{name} has version {model.ir_version} of the ONNX format, newer than {onnx.IR_VERSION}, the last that is"
            " read here; export it for an older one"
        )
    if not any(each.domain in ("", "ai.onnx") for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", _CONVERTED))
    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise SourceError(f"{name} needs opset {opset}, newer than {newest}; export it for an older one")
    try:
        model = inliner.inline_local_functions(model) if model.functions else model
        if opset < OLDEST:
            model = version_converter.convert_version(model, _CONVERTED)
        onnx.checker.check_model(model)
    except Exception as error:  # of several kinds, by what is wrong
        raise SourceError(
            f"{name} is no valid ONNX graph of opset {opset} ({_line(error)}); export it again"
        ) from error
    return model


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that the graph uses."""
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1)


def _parsed(path: Path, data: bytes) -> ModelProto:
    try:
        model = ModelProto.FromString(data)
    except Exception as error:  # protobuf's own kinds differ between its implementations
        raise SourceError(f"{path} is no ONNX file, or is cut short ({_line(error)}); export it again") from error
    if not model.graph.node or not model.ir_version:
        raise SourceError(f"{path} holds no ONNX graph; export the model again")
    return model


def _has_external(model: ModelProto) -> bool:
    tensors = external_data_helper._get_all_tensors(model)
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors)


def _check_size(path: Path, size: int) -> None:
    """Before anything is read: what is larger fits into no graph, and perhaps not into memory."""
    if size > _LARGEST:
        raise SourceError(
            f"{path}, with what lies beside it, has {size:,} bytes; a bundle's graph has at most 2 GiB: export a smaller"
            " network, or one of half precision"
        )


def _external_size(path: Path, model: ModelProto) -> int:
    """Bytes of the tensors beside the file, as it says; what it says wrongly is found when they are read."""
    total = 0
    for tensor in external_data_helper._get_all_tensors(model):
        said = {each.key: each.value for each in tensor.external_data}
        if "length" in said:
            total += int(said["length"]) if said["length"].isdecimal() else 0
        elif (file := path.parent / said.get("location", "")).is_file():
            total += file.stat().st_size
    return total


def _inlined(path: Path, model: ModelProto) -> ModelProto:
    _check_size(path, _external_size(path, model))
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # a missing file, one outside of the folder, one that is too short
        raise SourceError(
            f"{path} keeps tensors in a file beside it that cannot be read ({_line(error)}); bring both files"
        ) from error
    for tensor in external_data_helper._get_all_tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
    return model


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
