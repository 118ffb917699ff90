"""JSON with long arrays of numbers in it, read so that nothing holds the interpreter for long, whatever is sent.

A parser that reads a whole document in one go lets nobody else run until it is done: a health check would wait. So what is
long and made of numbers alone is cut out of the text first, the rest (which must be small) is read by the strict parser, and
the numbers are read piece by piece once it is known which shape they must have. A text of another shape is refused
at its first piece that differs, before anything is kept of it.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving import strict_json
from serving.errors import InvalidInput
from serving.inputs import work

_WHOLE = 64 * 1024
"""A document up to this size is read in one go: some milliseconds at most."""
_MOST_ELSE = 32 * 1024
"""Marks of structure (commas, quotes, brackets) that may stand outside of long arrays of numbers."""
_MOST_OUTSIDE = 16
_BLOCK = 4096
_STEP = 256 * 1024
_PIECE = 16 * 1024
_OF_NUMBERS = b"0123456789+-.eE,[] \t\r\nafelrstu"  # with the letters of true and false
_NUMERIC = np.isin(np.arange(256), list(_OF_NUMBERS))
_NO_MARKS = bytes(sorted(set(range(256)) - set(b',:[]{}"\\')))
_NO_STRUCTURE = bytes(sorted(set(range(256)) - set(b",[]")))
_BRACKETS_AWAY = bytes.maketrans(b"[]", b"  ")
_MISPLACED = re.compile(rb"\][^\],]|(?<=[^\[,])\[")
_SCALARS = msgspec.json.Decoder(list[int | float | bool])


class NumberText:
    """One JSON array of numbers, or of such arrays, that is still text."""

    def __init__(self, body: bytes | bytearray, start: int, stop: int) -> None:
        self._body, self._start, self._stop = body, start, stop

    def __repr__(self) -> str:
        return "[...]"

    def count(self) -> int:
        """How many numbers it holds, if it is what it seems to be."""
        return 1 + _count(self._body, b",", self._start, self._stop)

    def nested(self) -> bool:
        """Whether it is an array of arrays."""
        return self.depth() > 1

    def depth(self) -> int:
        """How many arrays begin before its first number."""
        head = self._body[self._start : min(self._start + _BLOCK, self._stop)].translate(None, b" \t\r\n")
        return len(head) - len(head.lstrip(b"["))

    def pieces(self, shape: Sequence[int], place: str) -> Iterator[list[object]]:
        """The numbers in order, some at a time; the text must have exactly this shape. `place` is what messages call it."""
        if self.count() != math.prod(shape):
            raise _other_shape(place, shape)
        expected, seen = _structure(tuple(shape)), 0
        for start, stop in self._cut(place):
            work.checkpoint()
            piece = bytes(self._body[start:stop])
            structure = piece.translate(None, _NO_STRUCTURE) + (b"," if stop < self._stop else b"")
            if expected[seen : seen + len(structure)] != structure:
                raise _other_shape(place, shape)
            seen += len(structure)
            yield _read(piece, place)
        if seen != len(expected):
            raise _other_shape(place, shape)

    def _cut(self, place: str) -> Iterator[tuple[int, int]]:
        """Where the pieces are between which commas stand."""
        start = self._start
        while start + _PIECE < self._stop:
            comma = self._body.rfind(b",", start, start + _PIECE)
            if comma < 0:
                raise InvalidInput(f"{place} holds a number, or blank, of more than {_PIECE} characters")
            yield start, comma
            start = comma + 1
        yield start, self._stop


def _read(piece: bytes, place: str) -> list[object]:
    """The numbers of a piece, of which brackets may stand only before the first of a row and after the last."""
    if _MISPLACED.search(piece.translate(None, b" \t\r\n")):
        raise InvalidInput(f"{place} holds a bracket where no array can begin or end")
    try:
        return list(_SCALARS.decode(b"[" + piece.translate(_BRACKETS_AWAY) + b"]"))
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{place} holds what is no number of JSON ({str(error).split(' (byte')[0]})") from None


def _structure(shape: tuple[int, ...]) -> bytes:
    """The brackets and commas of an array of this shape."""
    inner = b"" if len(shape) == 1 else _structure(shape[1:])
    return b"[" + (inner + b",") * (shape[0] - 1) + inner + b"]"


def _other_shape(place: str, shape: Sequence[int]) -> InvalidInput:
    return InvalidInput(f"{place} is not of shape {list(shape)}; expected an array of exactly that")


def loads(body: bytes | bytearray) -> dict[str, object]:
    """The JSON object in `body`, as `strict_json.loads` reads it, but long arrays of numbers are `NumberText`."""
    if len(body) <= _WHOLE:
        return strict_json.loads(bytes(body))
    token, runs = secrets.token_hex(8), list(_runs(body))
    parts, place = [], 0
    for index, (start, stop) in enumerate(runs):
        parts += [body[place:start], b'{"%b":%d}' % (token.encode(), index)]
        place = stop
    rest = b"".join((*parts, body[place:]))
    if _marks(rest) > _MOST_ELSE:
        raise InvalidInput(
            f"the JSON is nested too deeply or has too many parts: more than {_MOST_ELSE} commas, quotes and brackets"
            " outside of long arrays of numbers; send fewer rows at a time, or binary tensors"
        )
    fields = strict_json.loads(rest)
    try:
        return {key: _restored(value, token, body, runs) for key, value in fields.items()}
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply; expected a few levels") from None


def _marks(text: bytes) -> int:
    return sum(len(text[place : place + _STEP].translate(None, _NO_MARKS)) for place in range(0, len(text), _STEP))


def _restored(value: object, token: str, body: bytes | bytearray, runs: list[tuple[int, int]]) -> object:
    """The value with its arrays of numbers in the places that were kept for them."""
    if isinstance(value, dict):
        if token in value:
            return NumberText(body, *runs[value[token]])
        return {key: _restored(each, token, body, runs) for key, each in value.items()}
    if isinstance(value, list):
        return [_restored(each, token, body, runs) for each in value]
    return value


def _runs(body: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Where long arrays of numbers are: stretches without any other character after a colon, from bracket to bracket.

    One inside of a string may be taken for an array; what is put in its place makes that text no JSON, which is refused.
    """
    for start, stop in _stretches(_numeric_blocks(body)):
        first = max(0, start - _BLOCK)
        start -= len(body[first:start]) - len(bytes(body[first:start]).rstrip(_OF_NUMBERS))
        after = bytes(body[stop : stop + _BLOCK])
        stop += len(after) - len(after.lstrip(_OF_NUMBERS))
        opening, closing = body.find(b"[", start, stop), body.rfind(b"]", start, stop)
        if body[start - 1 : start] == b":" and 0 <= opening < closing:
            # Brackets that are closed, or were opened, outside of the stretch are none of the array's.
            excess = _count(body, b"]", opening, closing + 1) - _count(body, b"[", opening, closing + 1)
            for _ in range(min(excess, _MOST_OUTSIDE)):
                closing = body.rfind(b"]", opening, closing)
            for _ in range(min(-excess, _MOST_OUTSIDE)):
                opening = body.find(b"[", opening + 1, closing)
            if 0 <= opening < closing:
                yield opening, closing + 1


def _count(body: bytes | bytearray, mark: bytes, start: int, stop: int) -> int:
    return sum(body.count(mark, place, min(place + _STEP, stop)) for place in range(start, stop, _STEP))


def _numeric_blocks(body: bytes | bytearray) -> NDArray[np.bool_]:
    """Of each whole block of the text, whether it could be inside of an array of numbers."""
    found = []
    for place in range(0, len(body), _STEP):
        step = np.frombuffer(body, np.uint8, min(_STEP, len(body) - place), place)
        whole = len(step) // _BLOCK
        found.append(_NUMERIC[step[: whole * _BLOCK]].reshape(whole, _BLOCK).all(axis=1))
    return np.concatenate(found)


def _stretches(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Where the flags are set, from and to, in bytes."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2).tolist():
        yield start * _BLOCK, stop * _BLOCK
