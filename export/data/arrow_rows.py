"""The rows of Parquet files: columns of numbers, or one of number lists or encoded pictures, beside one of labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from export.data import csv_file, label_names, picture_file
from export.data.dataset import Batch, DataError, Dataset, picked
from export.data.picture_file import Decode

_Kind = Literal["numbers", "lists", "pictures"]


def open_dataset(path: Path, label: str | None, labelled: bool, decode: Decode = picture_file.decode) -> Dataset:
    """The rows of a file, or of all .parquet files of a folder in the order of their names.

    Columns of numbers and lists of floats are in the caller's units, lists of integers and pictures are grid integers.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} is a folder without a .parquet file; expected a file, or a folder of them")
    schema = _schema(files)
    header = schema.names
    place = csv_file.column(str(path), header, label, labelled)
    kept = [name for index, name in enumerate(header) if index != place]
    kind = _kind(path, schema, kept)
    counts = [_file(each).metadata.num_rows for each in files]
    if not sum(counts):
        raise DataError(f"{path} holds no row")
    name = header[place] if place is not None and labelled else None
    table = label_names.NO_LABELS if name is None else _gathered(path, files, name)

    def chunks(rows: int, skipped: int) -> Iterator[Batch]:
        at = skipped
        for part in _parts(files, [*kept, *([name] if name else [])], rows, skipped):
            inputs = _inputs(path, part.select(kept), kind, at, decode)
            labels = label_names.none(len(inputs)) if name is None else table.of(part.column(name).to_pylist())
            yield Batch(inputs, labels)
            at += len(inputs)

    def read(places: range, rows: int) -> Iterator[Batch]:
        whole = _before(files, counts, places.start)
        shape: tuple[int, ...] | None = None
        for batch in picked(chunks(rows, whole), whole, places):
            shape = shape or first.shape[1:]
            if batch.inputs.shape[1:] != shape:
                raise DataError(
                    f"{path}: the first row has shape {list(shape)}, a later one {list(batch.inputs.shape[1:])}; bring"
                    " all rows to one shape before"
                )
            yield batch

    first = next(chunks(1, 0)).inputs
    return Dataset(
        source=str(path),
        shape=first.shape[1:],
        units="values" if first.dtype.kind == "f" else "grid",
        names=table.names,
        numbered=table.numbered,
        places=range(sum(counts)),
        files=tuple(files),
        read=read,
        pictures=kind == "pictures",
        columns=tuple(kept) if kind == "numbers" else (),
    )


def _file(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]:.200})") from error


def _schema(files: list[Path]) -> pa.Schema:
    schemas = [_file(each).schema_arrow for each in files]
    for file, schema in zip(files, schemas, strict=True):
        if schema.remove_metadata() != schemas[0].remove_metadata():
            raise DataError(f"{file} has other columns than {files[0]}; the files of a folder are one table")
    return schemas[0]


def _kind(path: Path, schema: pa.Schema, kept: list[str]) -> _Kind:
    types = [schema.field(name).type for name in kept]
    if len(types) == 1:
        if pa.types.is_binary(types[0]) or _is_encoded(types[0]):
            return "pictures"
        if _is_list(types[0]) and _is_number(types[0].value_type):
            return "lists"
    for name, each in zip(kept, types, strict=True):
        if not (_is_number(each) or pa.types.is_boolean(each)):
            raise DataError(
                f"{path}, column {name!r} is of type {each}; expected numbers in every column but that of the labels, or one"
                " column of lists or of encoded pictures; turn it into numbers or leave it out"
            )
    return "numbers"


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_encoded(kind: pa.DataType) -> bool:
    """A struct that holds the bytes of a file, as public collections of pictures have it."""
    return bool(pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _gathered(path: Path, files: list[Path], name: str) -> label_names.Labels:
    found, at = label_names.LabelsFound(f"{path}, column {name!r}"), 0
    for file in files:
        for part in _batches(file, [name], 2**14, None):
            found.add(part.column(0).to_pylist(), at)
            at += len(part)
    return found.table()


def _before(files: list[Path], counts: list[int], row: int) -> int:
    """How many rows lie in the files and row groups that end before `row`: none of them has to be read."""
    total = 0
    for file, count in zip(files, counts, strict=True):
        if total + count > row:
            metadata = _file(file).metadata
            for group in range(metadata.num_row_groups):
                size = metadata.row_group(group).num_rows
                if total + size > row:
                    return total
                total += size
        total += count
    return total


def _parts(files: list[Path], names: list[str], rows: int, skipped: int) -> Iterator[pa.RecordBatch]:
    at = 0
    for file in files:
        metadata, groups = _file(file).metadata, []
        for group in range(metadata.num_row_groups):
            if at >= skipped:
                groups.append(group)
            at += metadata.row_group(group).num_rows
        if groups:
            yield from _batches(file, names, rows, groups)


def _batches(file: Path, names: list[str], rows: int, groups: list[int] | None) -> Iterator[pa.RecordBatch]:
    try:
        with _file(file) as opened:
            yield from opened.iter_batches(batch_size=rows, row_groups=groups, columns=names)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} is damaged ({str(error).splitlines()[0]:.200}); write it again") from error


def _inputs(path: Path, part: pa.RecordBatch, kind: _Kind, first: int, decode: Decode) -> NDArray[Any]:
    for column in part.columns:
        if column.null_count:
            row = first + column.is_null().to_pylist().index(True)
            name = part.schema.names[part.columns.index(column)]
            raise DataError(f"{path}, row {row}, column {name!r} holds nothing; fill it in, or leave the row out")
    if kind == "pictures":
        return _pictures(path, part.column(0), first, decode)
    if kind == "lists":
        return _lists(path, part.column(0), first)
    values = np.stack([column.to_numpy(zero_copy_only=False).astype(np.float64) for column in part.columns], axis=1)
    return _finite(path, values, first)


def _lists(path: Path, column: Any, first: int) -> NDArray[Any]:
    flat = column.flatten()
    sizes = set(column.value_lengths().to_pylist())
    if len(sizes) != 1 or flat.null_count or 0 in sizes:
        raise DataError(
            f"{path}, the rows from {first} on: lists of {', '.join(map(str, sorted(sizes)))} numbers"
            f"{' with gaps' if flat.null_count else ''}; expected one length above 0, and no gap"
        )
    values = flat.to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return _finite(path, values, first) if values.dtype.kind == "f" else values


def _pictures(path: Path, column: Any, first: int, decode: Decode) -> NDArray[np.uint8]:
    rows: list[NDArray[np.uint8]] = []
    for row, each in enumerate(column.to_pylist(), first):
        data = each["bytes"] if isinstance(each, dict) else each
        pixels = decode(data or b"", f"{path}, row {row}")
        picture_file.refuse_other_shape(pixels, rows[0].shape if rows else pixels.shape, f"{path}, row {row}")
        rows.append(pixels)
    return np.stack(rows)


def _finite(path: Path, values: NDArray[Any], first: int) -> NDArray[Any]:
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise DataError(
            f"{path}, row {first + int(np.argmax(bad))} holds a number that is not finite; fill it in, or leave it out"
        )
    return values
