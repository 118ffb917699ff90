"""JSON as the standard has it: UTF-8 without a mark, no NaN, no key twice, no nesting without end."""

from __future__ import annotations

import json
import reprlib
from typing import NoReturn

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxstring, _SHORT.maxother = 4, 16, 16, 60, 60


def loads(text: bytes | str) -> object:
    """The value of a JSON text; a `ValueError` that says what is wrong with any other, and repeats little of it.

    A number too large for a float reads as infinite, so who takes floats asks whether they are finite.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value: object = json.loads(decoded, parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
    except RecursionError:
        raise ValueError("it is nested too deeply; expected a few levels") from None
    return value


def kind(value: object) -> str:
    """What JSON calls a value, for messages."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "value")


def shown(value: object) -> str:
    """What someone else wrote, escaped and cut so that it can be repeated in a message, however large or deep it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object names a field twice")
    return found
