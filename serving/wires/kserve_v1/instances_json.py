"""KServe V1 JSON with our options beside `instances`, and the answer document of the friendly route.

    {"instances": [[[...]], ...], "input": "grid" | "values", "certify": "target", "target_radius": 0.5, ...}
    {"instances": [{"image": {"b64": "<a PNG or JPEG file in base64>"}}, ...], ...}

Each instance is one row, nested to the shape of the model's input, or a picture. By default numbers are integers of the
grid; with `"input": "values"` they are in the caller's units. The document carries every number as it is: JSON floats are
printed so that they read back the same, and so no radius is rounded up. A number that is not finite becomes null.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from certify.strict_json import shown
from export.bundle import InputSpec
from serving.errors import InvalidInput
from serving.inputs import number_text, registry, rows, work
from serving.inputs.number_text import NumberText
from serving.messages import Answer, Options
from serving.wires import answer_document
from serving.wires import options as wire_options
from serving.wires.answer_document import Document
from serving.wires.live import News

_OWN_KEYS = ("instances", "input")


def decode(
    body: bytes | bytearray, spec: InputSpec, max_rows: int, query: Mapping[str, object]
) -> tuple[NDArray[np.generic], Options]:
    """The rows and options of one request; `query` are options that came beside the body."""
    fields = number_text.loads(body)
    unknown = [key for key in fields if key not in _OWN_KEYS and key not in wire_options.KINDS]
    if unknown:
        known = ", ".join((*_OWN_KEYS, *wire_options.KINDS))
        raise InvalidInput(f"unknown key {shown(unknown[0])}; known are {known}")
    given = wire_options.from_json({key: value for key, value in fields.items() if key not in _OWN_KEYS})
    return _rows(fields, spec, max_rows), wire_options.build(query, given)


def _rows(fields: Mapping[str, object], spec: InputSpec, max_rows: int) -> NDArray[np.generic]:
    instances, form = fields.get("instances"), fields.get("input", "grid")
    count = _count(instances, spec)
    if count > max_rows:
        raise InvalidInput(f"instances holds {count} rows, over the limit of {max_rows}; send fewer at a time")
    if isinstance(instances, list) and isinstance(instances[0], dict):
        return _files(instances, spec, form)
    work.take(8 * count * spec.size)
    shape = (count, *spec.shape)
    if form == "values":
        return rows.array(instances, shape, "instances", lambda leaves: rows.numbers(leaves, "instances"))
    ends = f"{-spec.zero} to {spec.top - spec.zero}"
    if form != "grid":
        raise InvalidInput(f'input is {shown(form)}; expected "grid" (integers {ends}) or "values"')
    hint = f'of the grid, {ends}; for numbers in {spec.units} say "input": "values"'
    return rows.array(instances, shape, "instances", lambda leaves: rows.integers(leaves, "instances", hint))


def _count(instances: object, spec: InputSpec) -> int:
    if isinstance(instances, NumberText):
        return max(1, instances.count() // spec.size)
    if not isinstance(instances, list) or not instances:
        raise InvalidInput(f'expected "instances", an array of one or more inputs of shape {list(spec.shape)}')
    return len(instances)


def _files(instances: list[object], spec: InputSpec, form: object) -> NDArray[np.generic]:
    """Instances that are files: `{"image": {"b64": "..."}}` or `{"b64": "..."}`, by whatever name."""
    if form != "grid":
        raise InvalidInput(
            f"input is {shown(form)}, and the instances are files like pictures, which are of the grid; leave it out"
        )
    places = ((f"instances[{index}]", each) for index, each in enumerate(instances))
    return registry.rows(((place, _file(place, each)) for place, each in places), spec)


def _file(place: str, instance: object) -> bytes:
    value = instance
    while isinstance(value, dict) and len(value) == 1 and "b64" not in value:
        (value,) = value.values()
    text = value.get("b64") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(text, str):
        kinds = " or ".join(registry.names())
        raise InvalidInput(f'{place} is {shown(instance)}; expected {{"image": {{"b64": "<a {kinds} file>"}}}}')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{place} is not base64: {shown(text)}") from None


def encode(answer: Answer, options: Options) -> Document:
    """The answer document; `options` are those of the request, for the parts that were left out."""
    return {"predictions": [_with_receipt(row) for row in answer_document.rows(answer, options)]}


def encode_news(news: News, options: Options) -> list[Document]:
    """The document of each row that an event speaks of: its number, of how many, and the prediction as `encode` has it."""
    predictions = encode(news.answer, options)["predictions"]
    return [
        {"row": number, "rows": news.of, "prediction": each}
        for number, each in zip(news.numbers, predictions, strict=True)
    ]


def _with_receipt(row: Document) -> Document:
    """A row's receipt is a document in the document, as it is a text in a message."""
    receipt = row.get("receipt")
    return {**row, "receipt": json.loads(receipt)} if isinstance(receipt, str) else row
