"""Canonical bytes of frozen dataclasses: one value, one text, on every platform, and back without a guess.

JSON with sorted keys and no whitespace, in ASCII. Numbers are integers; a float is its hexadecimal text (`float.hex`,
"inf" and "-inf" among them), so that nothing is rounded and no printer of floats has a say. NaN has no text. Reading is
strict: a field that is unknown or missing, a value of another type, or another spelling of the same value is refused.
A field whose default is None came with a later version: it is left out where it is None, and read back as such.
"""

from __future__ import annotations

import json
import math
import types
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_Record = TypeVar("_Record")


class FormError(ValueError):
    """A document does not have the form that its type declares; the message names the field."""


def to_bytes(record: object) -> bytes:
    """The canonical bytes of a record."""
    return json.dumps(to_document(record), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def to_document(value: Any) -> Any:
    """A record as JSON values: dicts, lists, strings, integers, booleans and None."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: to_document(each) for field, each in pairs if not (each is None and field.default is None)}
    if isinstance(value, tuple):
        return [to_document(each) for each in value]
    if isinstance(value, float):
        if math.isnan(value):
            raise FormError("a float that is not a number has no canonical form")
        return value.hex()
    return value


def from_document(kind: type[_Record], document: object, place: str = "") -> _Record:
    """The record of type `kind` that a document holds. Raises `FormError`, naming the field by its path."""
    if not isinstance(document, dict):
        raise FormError(f"{place or 'the document'}: expected an object")
    hints = get_type_hints(kind)
    later = {field.name for field in fields(kind) if field.default is None}  # type: ignore[arg-type]
    hints = {name: hint for name, hint in hints.items() if document.get(name) is not None or name not in later}
    for name in [*document, *hints]:
        if name not in hints or name not in document:
            what = "unknown" if name not in hints else "missing"
            raise FormError(f"{_below(place, name)}: {what} field; the schema has {', '.join(hints)}")
    return kind(**{name: _value(hint, document[name], _below(place, name)) for name, hint in hints.items()})


def _below(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


def _value(hint: Any, value: object, place: str) -> Any:
    if isinstance(hint, types.UnionType):  # `X | None` alone
        (hint,) = (each for each in get_args(hint) if each is not types.NoneType)
        return None if value is None else _value(hint, value, place)
    if isinstance(hint, type) and is_dataclass(hint):
        return from_document(hint, value, place)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise FormError(f"{place}: expected a list")
        return tuple(_value(get_args(hint)[0], each, f"{place}[{i}]") for i, each in enumerate(value))
    if hint is float:
        return _float(value, place)
    if type(value) is not hint:  # not isinstance: True is no integer here
        raise FormError(f"{place}: expected {hint.__name__}, got {type(value).__name__}")
    return value


def _float(value: object, place: str) -> float:
    try:
        found = float.fromhex(value) if isinstance(value, str) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if math.isnan(found) or found.hex() != value:
        raise FormError(f"{place}: expected a float as Python's float.hex writes it")
    return found
