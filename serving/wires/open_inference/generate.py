"""Triton's extension `generate`: inputs, parameters and outputs as the keys of one flat JSON object.

The key that has the input's name holds its numbers, flat or nested, of one row or more, or a file as base64. Every other
key is a parameter, as is what the object `parameters` holds; `id` comes back. Outputs are flat, and one number alone is no
array. In a stream each event says one row, which `certserve.row` counts, and `certserve.event` whether it is the last of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from certify.strict_json import kind, shown
from export.bundle import InputSpec
from serving.config import Limits
from serving.errors import InvalidInput
from serving.inputs import number_text
from serving.inputs.number_text import NumberText
from serving.messages import Answer, Model
from serving.wires.answer_document import Document
from serving.wires.live import News
from serving.wires.open_inference import datatypes, oip, oip_json, tensors


def decode(body: bytes | bytearray, model: Model, limits: Limits) -> oip.InferCall:
    """The call in a request body; whatever is wrong with it is `InvalidInput`."""
    fields, spec = number_text.loads(body), model.manifest.input
    nested = fields.pop("parameters", None)
    if not isinstance(nested, dict | None):
        raise InvalidInput(f"parameters is a JSON {kind(nested)}; expected an object")
    identifier = fields.pop("id", None)
    if not isinstance(identifier, str | None):
        raise InvalidInput(f"id is {shown(identifier)}; expected a string")
    inputs = [_input(fields.pop(spec.name), spec, limits)] if spec.name in fields else []
    twice = sorted(fields.keys() & (nested or {}).keys())
    if twice:
        raise InvalidInput(f"{shown(twice[0])} is given twice: by itself and in parameters; give it once")
    return oip.call(model, identifier or "", {**fields, **(nested or {})}, inputs, [])


def _input(value: object, spec: InputSpec, limits: Limits) -> oip.Tensor:
    """The one input; how many rows it has is told by how much there is."""
    if isinstance(value, str):
        return _tensor(spec.name, datatypes.BYTES, (1,), [value], (1,), {"content_type": "base64"}, limits)
    rows, rest = divmod(_count(value), spec.size)
    if rest or not rows:
        got, expected = rows * spec.size + rest, f"{spec.size} for each row, or a file as base64"
        raise InvalidInput(f"input {shown(spec.name)} has {got} numbers; expected {expected}")
    whole = (rows, *spec.shape)
    # One row may be written without the brackets around all rows.
    written = spec.shape if rows == 1 and _depth(value) == len(spec.shape) else whole
    return _tensor(spec.name, oip.input_datatype(spec), whole, value, written, {}, limits)


def _tensor(
    name: str,
    datatype: str,
    shape: tuple[int, ...],
    value: object,
    written: tuple[int, ...],
    parameters: Mapping[str, object],
    limits: Limits,
) -> oip.Tensor:
    count = oip.elements(name, shape, limits, datatype)
    data = oip_json.from_json(name, datatype, written, count, value, parameters)
    return oip.Tensor(name=name, datatype=datatype, shape=shape, data=data)


def _count(value: object) -> int:
    if isinstance(value, NumberText):
        return value.count()
    return sum(map(_count, value)) if isinstance(value, list) else 1


def _depth(value: object) -> int:
    if isinstance(value, NumberText):
        return value.depth()
    return 1 + _depth(value[0]) if isinstance(value, list) and value else 0


def encode(call: oip.InferCall, answer: Answer, model: Model) -> Document:
    """The answer's document."""
    found: Document = {"model_name": answer.model.name, "model_version": answer.model.version}
    if call.id:
        found["id"] = call.id
    found.update(oip.answer_parameters(answer, model))
    for each in tensors.encode(call.outputs, answer):
        values = oip_json.listed(each)
        found[each.name] = values[0] if math.prod(each.array.shape) == 1 else values
    return found


def encode_news(call: oip.InferCall, news: News, model: Model) -> Iterator[Document]:
    """What an event says of some rows, a document for each."""
    for number, row in zip(news.numbers, news.answer.predictions, strict=True):
        said = encode(call, replace(news.answer, predictions=(row,)), model)
        yield {**said, "certserve.event": news.kind, "certserve.row": number}
