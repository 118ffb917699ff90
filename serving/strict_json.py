"""Strict JSON on the wire: what is no JSON object is the client's mistake, and said to it."""

from __future__ import annotations

import json

from certify import strict_json
from certify.strict_json import kind
from serving.errors import InvalidInput


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
    """Compact JSON in ASCII; a number that is not finite is a mistake of the caller, never written."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
