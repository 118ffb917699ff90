"""Strict JSON on the wire: what is no JSON object is the client's mistake, and said to it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from certify import strict_json
from certify.strict_json import kind
from serving.errors import InvalidInput

_FEW = 32  # elements of a list that are written in one go
_encoded = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def loads(body: bytes) -> dict[str, object]:
    """The JSON object in `body`; whatever else is there is `InvalidInput`."""
    if not body:
        raise InvalidInput("the body is empty; expected a JSON object")
    try:
        value = strict_json.loads(body)
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON ({error}); expected a JSON object in UTF-8") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"the body is a JSON {kind(value)}; expected an object")
    return value


def dumps(value: object) -> bytes:
    """Compact JSON in ASCII; a number that is not finite is a mistake of the caller, never written.

    Long lists are written some elements at a time, for the encoder lets no other thread in before it is done.
    """
    return ("".join(_pieces(value)) if _long(value) else _encoded(value)).encode()


def _pieces(value: object) -> Iterator[str]:
    if not _long(value):
        yield _encoded(value)
    elif isinstance(value, dict):
        for place, (key, each) in enumerate(value.items()):
            yield f"{',' if place else '{'}{_encoded(key)}:"
            yield from _pieces(each)
        yield "}"
    elif isinstance(value, list):
        for place in range(0, len(value), _FEW):
            yield "," if place else "["
            yield ",".join(_some(value[place : place + _FEW]))
        yield "]"


def _long(value: object) -> bool:
    """Whether it is a list of many elements, or holds one."""
    if isinstance(value, list) and len(value) > _FEW:
        return True
    # Loops, which cost less than generators do: every answer is looked through.
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(each, list | dict) and _long(each):
            return True
    return False


def _some(elements: list[object]) -> Iterator[str]:
    if any(map(_long, elements)):
        for each in elements:
            yield "".join(_pieces(each))
    else:
        yield _encoded(elements)[1:-1]
