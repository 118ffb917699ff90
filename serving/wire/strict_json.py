"""JSON as the standard has it: UTF-8, no NaN, no key twice, no nesting without end."""

from __future__ import annotations

import json
import reprlib
from typing import NoReturn

from serving.errors import InvalidInput

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxstring, _SHORT.maxother = 4, 16, 16, 60, 60


def loads(body: bytes) -> dict[str, object]:
    """The JSON object in `body`; whatever else is there is `InvalidInput`."""
    if not body:
        raise InvalidInput("the body is empty; expected a JSON object")
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply; expected a few levels") from None
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON ({error}); expected a JSON object in UTF-8") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"the body is a JSON {kind(value)}; expected an object")
    return value


def dumps(value: object) -> bytes:
    """Compact JSON in ASCII; a number that is not finite is a mistake of the caller, never written."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def kind(value: object) -> str:
    """What JSON calls a value, for messages."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "value")


def shown(value: object) -> str:
    """What a client sent, escaped and cut so that it can be repeated in a message, however large or deep it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found
