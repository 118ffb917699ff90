"""An answer's document as the message of the typed service, and back, number for number.

Both ways follow the one table of fields. What kind of field it is, the message's own descriptor says.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from protos.certserve.v1 import certserve_pb2 as pb
from serving.wires.answer_document import MODEL, PREDICTION, Document, Field


@functools.cache
def names(kind: EnumDescriptor) -> Mapping[int, str]:
    """The values of an enumeration by the names that JSON uses: without their prefix, and without the unspecified one."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.name).upper() + "_"
    return {each.number: each.name.removeprefix(prefix).lower() for each in kind.values if each.number}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a field of a document is in its message: all that the descriptor says, looked up once."""

    name: str
    field: str
    extra: bool
    repeated: bool
    presence: bool
    words: Mapping[int, str]
    numbers: Mapping[str, int]
    parts: tuple[_Place, ...]


def _places(fields: Sequence[Field], kind: Any) -> tuple[_Place, ...]:
    """Those of a table in a message. Who made a row, the message says once for all rows."""
    return tuple(
        _place(each, kind.fields_by_name[each.message or each.name]) for each in fields if each.name != "model"
    )


def _place(each: Field, field: FieldDescriptor) -> _Place:
    words = names(field.enum_type) if field.enum_type else {}
    return _Place(
        name=each.name,
        field=field.name,
        extra=each.extra,
        repeated=field.is_repeated,
        presence=field.has_presence,
        words=words,
        numbers={word: number for number, word in words.items()},
        parts=_places(each.fields, field.message_type) if each.fields else (),
    )


_ROW, _MODEL = _places(PREDICTION, pb.Prediction.DESCRIPTOR), _places(MODEL, pb.ModelIdentity.DESCRIPTOR)


def message(rows: Sequence[Document]) -> pb.PredictResponse:
    """The message of the documents of an answer's rows."""
    written: Any = [_written(row, _ROW) for row in rows]
    model: Any = rows[0]["model"]
    return pb.PredictResponse(predictions=written, model=model)


def document(message: pb.PredictResponse) -> Document:
    """The document that the friendly HTTP route sends for this answer."""
    model = _read(message.model, _MODEL)
    return {"predictions": [_row(each, model) for each in message.predictions]}


def _row(each: pb.Prediction, model: Document) -> Document:
    found = {**_read(each, _ROW), "model": model}
    if each.HasField("receipt"):
        found["receipt"] = json.loads(each.receipt)
    return {field.name: found[field.name] for field in PREDICTION if field.name in found}


def _written(found: Mapping[str, Any], places: tuple[_Place, ...]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for each in places:
        value = found.get(each.name)
        if value is None:
            if not (each.presence or each.repeated):
                raise ValueError(f"an answer has no {each.name}, and its message cannot be without one")
        elif each.parts:
            given[each.field] = _written(value, each.parts)
        else:
            given[each.field] = each.numbers[value] if each.numbers else value
    return given


def _read(message: Any, places: tuple[_Place, ...]) -> Document:
    found: Document = {}
    for each in places:
        value = _value(message, each)
        if value is not None or not each.extra:
            found[each.name] = value
    return found


def _value(message: Any, each: _Place) -> object:
    value = getattr(message, each.field)
    if each.repeated:
        return list(value) or None
    if each.presence and not message.HasField(each.field):
        return None
    if each.parts:
        return _read(value, each.parts)
    return each.words.get(value) if each.words else value
