"""The datatypes of the Open Inference Protocol: their bytes, and numpy's names for them.

Bytes are little-endian, rows first; an element of BYTES is its length in four bytes, then itself. BF16 is refused: numpy
has no such type, and it does not hold the 8-bit grid.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from certify.strict_json import shown
from serving.errors import InvalidInput
from serving.inputs import work

NUMPY: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?",
        "UINT8": "<u1",
        "UINT16": "<u2",
        "UINT32": "<u4",
        "UINT64": "<u8",
        "INT8": "<i1",
        "INT16": "<i2",
        "INT32": "<i4",
        "INT64": "<i8",
        "FP16": "<f2",
        "FP32": "<f4",
        "FP64": "<f8",
    }.items()
}
BYTES = "BYTES"
_AT_ONCE = 8 * 1024
_PYTHON: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}


def check(name: str, datatype: object) -> str:
    """The datatype, if it is one that is read."""
    if isinstance(datatype, str) and (datatype in NUMPY or datatype == BYTES):
        return datatype
    raise InvalidInput(
        f"input {shown(name)} has datatype {shown(datatype)}; expected one of {', '.join((*NUMPY, BYTES))}"
    )


def from_bytes(name: str, datatype: str, count: int, data: bytes | bytearray | memoryview) -> NDArray[np.generic]:
    """`count` elements from exactly their bytes, flat."""
    if datatype == BYTES:
        return _objects(_split(name, count, bytes(data)))
    dtype = NUMPY[datatype]
    if len(data) != count * dtype.itemsize:
        raise InvalidInput(
            f"input {shown(name)} has {len(data)} bytes; expected {count * dtype.itemsize},"
            f" {count} elements of {datatype}"
        )
    if datatype == "BOOL" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise InvalidInput(f"input {shown(name)} is BOOL and holds a byte other than 0 and 1")
    # Values are compared with the grid in 64 bits, some copies at a time; grid integers only become 32-bit ones.
    work.take((16 if dtype.kind in "fb" else 4) * count)
    return np.frombuffer(data, dtype=dtype)


def _split(name: str, count: int, data: bytes) -> list[bytes]:
    parts: list[bytes] = []
    place = 0
    while place < len(data) and len(parts) < count:
        if place + 4 > len(data):
            break
        (length,) = struct.unpack_from("<I", data, place)
        parts.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    if place != len(data) or len(parts) != count:
        raise InvalidInput(f"input {shown(name)} is BYTES: expected {count} elements, each after its length in 4 bytes")
    return parts


def _objects(parts: Sequence[bytes]) -> NDArray[np.generic]:
    array = np.empty(len(parts), dtype=object)
    array[:] = parts
    return array


def from_values(name: str, datatype: str, count: int, values: Sequence[object]) -> NDArray[np.generic]:
    """`count` elements from a flat list: JSON's, or a typed field's. Every one must be of the datatype and in its range.

    Some at a time, for what is done with them lets no other thread in before it is done.
    """
    if len(values) != count:
        raise InvalidInput(f"input {shown(name)} has {len(values)} elements; its shape says {count}")
    work.take(8 * count)
    if datatype == BYTES:
        return _objects([_as_bytes(name, value) for value in values])
    parts = [_numbers(name, datatype, values[place : place + _AT_ONCE]) for place in range(0, count, _AT_ONCE)]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, NUMPY[datatype]), *parts])


def _numbers(name: str, datatype: str, values: Sequence[object]) -> NDArray[np.generic]:
    work.checkpoint()
    dtype = NUMPY[datatype]
    allowed = _PYTHON[dtype.kind]
    if not set(map(type, values)) <= allowed:
        wrong = next(value for value in values if type(value) not in allowed)
        raise InvalidInput(f"input {shown(name)} is {datatype} and holds {shown(wrong)}")
    try:
        with np.errstate(over="ignore"):
            return _in_range(np.array(values, dtype=dtype))
    except (OverflowError, ValueError):
        raise InvalidInput(f"input {shown(name)} holds a number out of the range of {datatype}") from None


def _in_range(array: NDArray[np.generic]) -> NDArray[np.generic]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("not finite")
    return array


def _as_bytes(name: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    raise InvalidInput(f"input {shown(name)} is BYTES and holds {shown(value)}; expected text")


def to_bytes(array: NDArray[np.generic]) -> bytes:
    """An answer's tensor as bytes; an array of objects is of BYTES."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(part)) + part for part in array.ravel().tolist())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
