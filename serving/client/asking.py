"""What is sent: from what a person gives to a body, its type, and options as the query has them. Pure, save for files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify import strict_json
from serving.errors import InvalidInput

JSON = "application/json"
_PICTURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
OPTIONS = (
    "certify",
    "target_radius",
    "radius_tolerance",
    "max_draws",
    "draws",
    "alpha",
    "deadline_ms",
    "norm",
    "outputs",
    "snap",
    "receipt",
)
"""What may be asked for; the server says what they mean and may be."""

Askable = str | Path | bytes | NDArray[Any] | Sequence[Any]
"""A file's name, the bytes of a picture, or one row of numbers: whole ones are grid integers, others the caller's units."""


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent, and how many rows it holds; None where only the server can tell."""

    content: bytes
    content_type: str
    rows: int | None


def body_of(given: Askable, shape: tuple[int, ...] | None = None) -> Body:
    """The body for one input or a file of several. `shape` is that of the model's input, which arrays are compared with.

    Raises `InvalidInput` for what is none, `OSError` for a file that cannot be read.
    """
    if isinstance(given, str | Path):
        return _of_file(Path(given), shape)
    if isinstance(given, bytes | bytearray):
        return _picture(bytes(given), "the bytes")
    return _of_array(_array(given, "the input"), shape, "the input")


def needs_shape(given: Askable) -> bool:
    """Whether `body_of` has to know the shape of the model's input."""
    if isinstance(given, str | Path):
        return Path(given).suffix.lower() in (".npy", ".csv")
    return not isinstance(given, bytes | bytearray)


def texts(options: Mapping[str, object]) -> dict[str, str]:
    """Options as the query string has them. Raises `InvalidInput` for one that does not exist."""
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise InvalidInput(f"unknown option {unknown[0]!r:.60}; known are {', '.join(OPTIONS)}")
    return {name: _text(value) for name, value in options.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _of_file(path: Path, shape: tuple[int, ...] | None) -> Body:
    data = path.read_bytes()
    kind = path.suffix.lower()
    if kind == ".npy":
        return _of_array(_numpy(data, path), shape, str(path))
    if kind == ".csv":
        return _of_array(_table(data, path, shape), shape, str(path))
    if kind == ".json":
        return _json(data, path)
    return _picture(data, str(path))


def _picture(data: bytes, place: str) -> Body:
    for magic, content_type in _PICTURES.items():
        if data.startswith(magic):
            return Body(data, content_type, 1)
    raise InvalidInput(f"{place}: expected a PNG or JPEG file, or .npy, .json or .csv by its name")


def _numpy(data: bytes, path: Path) -> NDArray[Any]:
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InvalidInput(f"{path}: this is no .npy file of numbers ({error})") from None
    if not isinstance(found, np.ndarray):
        raise InvalidInput(f"{path}: expected one array; this holds several")
    return _array(found, str(path))


def _array(given: object, place: str) -> NDArray[Any]:
    try:
        found = np.asarray(given)
    except ValueError:
        found = np.asarray(None)
    if found.dtype.kind not in "iuf":
        raise InvalidInput(f"{place}: expected a regular array of numbers")
    if not np.isfinite(found).all():
        raise InvalidInput(f"{place}: expected finite numbers alone")
    return found


def _table(data: bytes, path: Path, shape: tuple[int, ...] | None) -> NDArray[Any]:
    """The rows of a CSV file, each one input; a first line of names is passed over."""
    try:
        lines = [line for line in csv.reader(io.StringIO(data.decode("utf-8-sig"))) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path}: this is no CSV file in UTF-8 ({error})") from None
    first = 1 if lines and not any(map(_is_number, lines[0])) else 0
    for number, line in enumerate(lines[first:], first + 1):
        wrong = [cell for cell in line if not _is_number(cell)]
        if wrong or len(line) != len(lines[first]):
            what = f"{wrong[0]!r:.60} is no number" if wrong else f"{len(line)} numbers, and {len(lines[first])} before"
            raise InvalidInput(f"{path}, line {number}: {what}")
    if len(lines) == first:
        raise InvalidInput(f"{path}: there is no row of numbers")
    cells = lines[first:]
    whole = all(cell.strip().lstrip("+-").isdecimal() and len(cell) < 18 for line in cells for cell in line)
    rows = np.array(cells, dtype=np.float64)
    rows = rows.astype(np.int64) if whole else rows
    size = int(np.prod(shape)) if shape else rows.shape[1]
    return rows.reshape(-1, *(shape or rows.shape[1:])) if rows.shape[1] == size else rows


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _of_array(rows: NDArray[Any], shape: tuple[int, ...] | None, place: str) -> Body:
    if shape is not None:
        if rows.shape == shape:
            rows = rows[None]
        if rows.shape[1:] != shape or not len(rows):
            raise InvalidInput(
                f"{place}: the shape is {list(rows.shape)}; expected {list(shape)}, or several of that in one array"
            )
    document = {"instances": rows.tolist(), "input": "values" if rows.dtype.kind == "f" else "grid"}
    return Body(json.dumps(document).encode(), JSON, len(rows))


def _json(data: bytes, path: Path) -> Body:
    """A document with `instances`, or one instance or a list of them as the document has it."""
    try:
        value = strict_json.loads(data)
    except ValueError as error:
        raise InvalidInput(f"{path}: this is no JSON document ({error})") from None
    if isinstance(value, dict) and "instances" not in value:
        raise InvalidInput(f'{path}: expected a JSON object with "instances", or an array of them')
    document = value if isinstance(value, dict) else {"instances": value}
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise InvalidInput(f"{path}: expected an array of one or more instances")
    return Body(json.dumps(document).encode(), JSON, len(instances))
