"""The options of a request, in the three forms in which they come: typed JSON, text, and protocol parameters.

Form is checked here (names and types); whether a value makes sense is the gateway's to say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from certify.strict_json import shown
from serving.errors import InvalidInput
from serving.messages import Model, Options

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class _Kind:
    """One type of option: what is expected, and how to read a value and a text; None means that it is not one."""

    expected: str
    of_value: Callable[[object], object]
    of_text: Callable[[str], object]


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _names(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    return tuple(value)


_TEXT = _Kind("a string", lambda value: value if isinstance(value, str) else None, lambda text: text)
_FLOAT = _Kind("a finite number", _float, lambda text: _float(float(text)) if _NUMBER.fullmatch(text) else None)
_INT = _Kind("an integer", _int, lambda text: int(text) if _INTEGER.fullmatch(text) else None)
_FLAG = _Kind("true or false", lambda value: value if isinstance(value, bool) else None, _FLAGS.get)
_LIST = _Kind("a list of names", _names, lambda text: tuple(text.split(",")) if text else ())

KINDS: Mapping[str, _Kind] = {
    "certify": _TEXT,
    "target_radius": _FLOAT,
    "radius_tolerance": _FLOAT,
    "max_draws": _INT,
    "draws": _INT,
    "alpha": _FLOAT,
    "deadline_ms": _INT,
    "norm": _TEXT,
    "outputs": _LIST,
    "snap": _FLAG,
    "receipt": _FLAG,
    "top_k": _INT,
}
"""Every option by its name on the wire."""

PREFIX = "certserve."
_SHORT = 512  # bytes of a query
_PARAMETERS = frozenset(KINDS) - {"outputs", "top_k"}  # tensors have outputs and classifications of their own


def from_query(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Options in a query string; an unknown key, or one that comes twice, is refused."""
    found: dict[str, object] = {}
    for name, text in pairs:
        if name not in KINDS:
            raise InvalidInput(f"unknown query parameter {shown(name)}; known are {', '.join(KINDS)}")
        if name in found:
            raise InvalidInput(f"the query parameter {name} is given twice; give it once")
        found[name] = _read(name, text, KINDS[name].of_text(text))
    return found


def from_query_string(query: bytes) -> Mapping[str, object]:
    """The same of the query as it came. Clients send the same again and again: what short ones say is kept."""
    return _kept(query) if len(query) <= _SHORT else _parsed(query)


def _parsed(query: bytes) -> Mapping[str, object]:
    return MappingProxyType(from_query(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))


_kept = lru_cache(maxsize=256)(_parsed)


def from_json(fields: Mapping[str, object]) -> dict[str, object]:
    """Options as typed JSON values. The caller has taken out all that is no option."""
    return {name: _read(name, value, KINDS[name].of_value(value)) for name, value in fields.items()}


def from_parameters(parameters: Mapping[str, object]) -> dict[str, object]:
    """Options among the parameters of the Open Inference Protocol: `certserve.name` or the bare name, typed or text.

    Parameters of others are ignored; an unknown one under our prefix is refused. An absent value (None) is what a
    client's number becomes that its library cannot send.
    """
    found: dict[str, object] = {}
    for key, value in parameters.items():
        name = key.removeprefix(PREFIX)
        if name not in _PARAMETERS:
            if key.startswith(PREFIX):
                known = ", ".join(PREFIX + each for each in KINDS if each in _PARAMETERS)
                raise InvalidInput(f"unknown parameter {shown(key)}; known are {known}")
            continue
        if name in found:
            raise InvalidInput(f"{PREFIX}{name} and its alias {name} are both given; give one")
        read = KINDS[name].of_text(value) if isinstance(value, str) else KINDS[name].of_value(value)
        found[name] = _read(key, value, read)
    return found


def _read(name: str, given: object, read: object) -> object:
    if read is None:
        kind = KINDS[name.removeprefix(PREFIX)]
        what = "nothing (a client that cannot send such numbers may send text)" if given is None else shown(given)
        raise InvalidInput(f"{name} must be {kind.expected}, got {what}")
    return read


def build(*sources: Mapping[str, object]) -> Options:
    """The options of one request, from sources that must not overlap."""
    merged: dict[str, Any] = {}
    for source in sources:
        for name, value in source.items():
            if name in merged:
                raise InvalidInput(f"{name} is given in the query and in the body; give it once")
            merged[name] = value
    return Options(**merged)


def tightened(options: Options, seconds: float | None, model: Model) -> Options:
    """The options under a deadline that the transport knows: it can only shorten what was asked or is the default."""
    if seconds is None:
        return options
    asked = model.manifest.defaults.deadline_ms if options.deadline_ms is None else options.deadline_ms
    left = max(1, math.floor(min(seconds, 1e9) * 1000))
    return replace(options, deadline_ms=left) if left < asked else options
