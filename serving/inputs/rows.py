"""Nested JSON arrays as rows of numbers of a declared shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from certify.strict_json import kind, shown
from serving.errors import InvalidInput
from serving.inputs.number_text import NumberText

Number = TypeVar("Number", bound=np.generic)


def flattened(value: object, shape: Sequence[int], place: str) -> list[object]:
    """The leaves of nested arrays, which must have exactly this shape; `place` is what messages call them."""
    if not isinstance(value, list):
        raise InvalidInput(f"{place} is a JSON {kind(value)}; expected an array of shape {list(shape)}")
    if len(value) != shape[0]:
        raise InvalidInput(f"{place} has {len(value)} elements, expected {shape[0]} (an array of shape {list(shape)})")
    if len(shape) == 1:
        return value
    leaves: list[object] = []
    for index, part in enumerate(value):
        leaves += flattened(part, shape[1:], f"{place}[{index}]")
    return leaves


def array(
    value: object, shape: Sequence[int], place: str, convert: Callable[[list[object]], NDArray[Number]]
) -> NDArray[Number]:
    """Nested arrays of exactly this shape as one of numpy, which `convert` makes of some leaves at a time."""
    if isinstance(value, NumberText):
        parts = [convert(piece) for piece in value.pieces(shape, place)]
        return np.concatenate(parts).reshape(tuple(shape))
    return convert(flattened(value, shape, place)).reshape(tuple(shape))


def integers(leaves: list[object], place: str, hint: str) -> NDArray[np.int64]:
    """The leaves as integers; a boolean or a number with a fraction is none."""
    if not set(map(type, leaves)) <= {int}:
        wrong = next(leaf for leaf in leaves if type(leaf) is not int)
        raise InvalidInput(f"{place} holds {shown(wrong)}; expected integers ({hint})")
    try:
        return np.array(leaves, dtype=np.int64)
    except OverflowError:
        raise InvalidInput(f"{place} holds an integer of more than 64 bits ({hint})") from None


def numbers(leaves: list[object], place: str) -> NDArray[np.float64]:
    """The leaves as floating-point numbers."""
    if not set(map(type, leaves)) <= {int, float}:
        wrong = next(leaf for leaf in leaves if type(leaf) not in (int, float))
        raise InvalidInput(f"{place} holds {shown(wrong)}; expected numbers")
    try:
        return np.array(leaves, dtype=np.float64)
    except OverflowError:
        raise InvalidInput(f"{place} holds a number beyond the range of 64-bit floats") from None
