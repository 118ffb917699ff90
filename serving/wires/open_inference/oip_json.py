"""The Open Inference Protocol over HTTP: JSON, and JSON followed by tensors as bytes (the binary extension).

`json_length` is the value of the header Inference-Header-Content-Length: None where the body is all JSON, 0 where the
body is the one raw input. Unknown top-level keys are ignored, for some clients send their own.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.strict_json import kind, shown
from serving import strict_json
from serving.config import Limits
from serving.errors import InvalidInput, TooLarge
from serving.inputs import number_text, rows
from serving.inputs.number_text import NumberText
from serving.messages import Answer, Model
from serving.wires.open_inference import datatypes, oip, reserved, tensors

LENGTH_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JsonCall:
    """A call and whether its outputs come as bytes where they do not say so themselves."""

    call: oip.InferCall
    binary: bool


def decode(body: bytes | bytearray, json_length: int | None, model: Model, limits: Limits) -> JsonCall:
    """The call in a request body; whatever is wrong with it is `InvalidInput`."""
    if json_length == 0:
        return _raw_call(body, model)
    length = len(body) if json_length is None else json_length
    if length > limits.max_json_bytes:
        raise TooLarge(
            f"the JSON has {length} bytes, over the limit of {limits.max_json_bytes}; send fewer rows, or binary tensors"
        )
    if not 0 < length <= len(body):
        raise InvalidInput(
            f"{LENGTH_HEADER} says {length}, and the body has {len(body)} bytes; expected the length of its JSON"
            if body
            else "the body is empty; expected an inference request in JSON"
        )
    fields = number_text.loads(body[:length])
    parameters = _object(fields, "parameters")
    reader = _Binary(memoryview(body)[length:])
    inputs = [_input(each, reader, limits) for each in _objects(fields, "inputs")]
    reader.finish()
    outputs = [_wanted(each) for each in _objects(fields, "outputs")]
    return JsonCall(
        call=oip.call(model, _string(fields, "id"), parameters, inputs, outputs),
        binary=oip.flag(parameters, oip.BINARY) or False,
    )


def encode(json_call: JsonCall, answer: Answer, model: Model) -> tuple[bytes, int | None]:
    """The answer's body, and the length of its JSON if bytes follow it."""
    wanted = json_call.call.outputs
    outputs: list[object] = []
    trailer: list[bytes] = []
    for each, tensor in zip(wanted, tensors.encode(wanted, answer), strict=True):
        described: dict[str, object] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.array.shape),
        }
        if json_call.binary if each.binary is None else each.binary:
            trailer.append(datatypes.to_bytes(tensor.array))
            described["parameters"] = {"binary_data_size": len(trailer[-1])}
        else:
            described["data"] = listed(tensor)
        outputs.append(described)
    head = {"model_name": answer.model.name, "model_version": answer.model.version}
    if json_call.call.id:
        head["id"] = json_call.call.id
    text = strict_json.dumps({**head, "parameters": oip.answer_parameters(answer, model), "outputs": outputs})
    return b"".join((text, *trailer)), len(text) if trailer else None


def listed(tensor: tensors.NamedTensor) -> list[object]:
    """The elements of a tensor as JSON has them, flat."""
    values = tensor.array.ravel().tolist()
    return [value.decode() for value in values] if tensor.datatype == datatypes.BYTES else values


class _Binary:
    """The bytes after the JSON, handed out in the order of the inputs."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._place = 0

    def take(self, name: str, size: int) -> memoryview:
        part = self._data[self._place : self._place + size]
        if len(part) < size:
            raise InvalidInput(f"input {shown(name)} says {size} bytes, and only {len(part)} are left in the body")
        self._place += size
        return part

    def finish(self) -> None:
        left = len(self._data) - self._place
        if left:
            raise InvalidInput(f"{left} bytes follow the last input; expected binary_data_size of all inputs to sum up")


def _raw_call(body: bytes | bytearray, model: Model) -> JsonCall:
    spec = model.manifest.input
    shape = (1, *spec.shape)
    datatype = oip.input_datatype(spec)
    data = datatypes.from_bytes(spec.name, datatype, spec.size, body)
    tensor = oip.Tensor(name=spec.name, datatype=datatype, shape=shape, data=data)
    return JsonCall(call=oip.call(model, "", {}, [tensor], []), binary=True)


def _input(fields: Mapping[str, object], reader: _Binary, limits: Limits) -> oip.Tensor:
    name = _string(fields, "name")
    datatype = datatypes.check(name, fields.get("datatype"))
    shape = _shape(name, fields.get("shape"))
    count = oip.elements(name, shape, limits, datatype)
    parameters = _object(fields, "parameters")
    oip.refuse_shared_memory("input", name, parameters)
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in fields):
        raise InvalidInput(f"input {shown(name)} needs either data or parameter binary_data_size, and one of them only")
    if size is not None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise InvalidInput(f"binary_data_size of input {shown(name)} is {shown(size)}; expected a number of bytes")
        data = datatypes.from_bytes(name, datatype, count, reader.take(name, size))
    else:
        data = from_json(name, datatype, shape, count, fields["data"], parameters)
    return oip.Tensor(name=name, datatype=datatype, shape=shape, data=data)


def _shape(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(size) is int for size in value):
        raise InvalidInput(f"input {shown(name)} has shape {shown(value)}; expected an array of integers")
    return tuple(value)


def from_json(
    name: str, datatype: str, shape: tuple[int, ...], count: int, data: object, parameters: Mapping[str, object]
) -> NDArray[np.generic]:
    """The elements of `data`, flat: it is written flat, or nested as `shape` says."""
    if not isinstance(data, NumberText):
        return datatypes.from_values(name, datatype, count, _values(name, shape, data, parameters))
    written = shape if data.nested() else (count,)
    pieces = data.pieces(written, f"data of input {shown(name)}")
    return np.concatenate([datatypes.from_values(name, datatype, len(piece), piece) for piece in pieces])


def _values(name: str, shape: tuple[int, ...], data: object, parameters: Mapping[str, object]) -> list[object]:
    place = f"data of input {shown(name)}"
    if isinstance(data, list) and not (data and isinstance(data[0], list)):
        values = data
    else:
        values = rows.flattened(data, shape or (1,), place)
    if parameters.get("content_type") == "base64":
        return [_base64(place, value) for value in values]
    return values


def _base64(place: str, value: object) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{place} holds {shown(value)}, which is not base64") from None


def _wanted(fields: Mapping[str, object]) -> tensors.WantedOutput:
    name = _string(fields, "name")
    parameters = _object(fields, "parameters")
    oip.refuse_shared_memory("output", name, parameters)
    classes = reserved.classification(name, parameters.get("classification"))
    return tensors.WantedOutput(name=name, binary=oip.flag(parameters, "binary_data"), classes=classes)


def _object(fields: Mapping[str, object], key: str) -> dict[str, object]:
    value = fields.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{key} is a JSON {kind(value)}; expected an object")
    return value


def _objects(fields: Mapping[str, object], key: str) -> list[dict[str, object]]:
    value = fields.get(key) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidInput(f"{key} is {shown(value)}; expected an array of objects")
    return value


def _string(fields: Mapping[str, object], key: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput(f"{key} is {shown(value)}; expected a string")
    return value
