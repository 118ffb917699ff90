"""NPZ files of NumPy with one array of inputs and one of labels, and NPY files of inputs alone; read a part at a time."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from export.data import label_names
from export.data.dataset import Batch, DataError, Dataset, picked

WHAT = "a .npz file with an array of inputs and one of labels (x and y), or a .npy file of inputs"
ENDINGS = (".npz", ".npy")
_LABELS = ("y", "label", "labels")
_Opener = Callable[[], AbstractContextManager[IO[bytes]]]


def recognises(path: Path) -> bool:
    """Whether the file's name says NumPy."""
    return path.suffix.lower() in ENDINGS


def open_dataset(path: Path, label: str | None, labelled: bool, _: object = None) -> Dataset:
    """The rows in their order. Arrays of integers are grid integers, of floats the caller's units."""
    members: dict[str, _Opener] = {"": lambda: path.open("rb")}
    if path.suffix.lower() == ".npz":
        members = _members(path)
    inputs, named = _chosen(path, members, label, labelled)
    shape, dtype = _header(path, inputs, members[inputs])
    if len(shape) < 2 or not shape[0] or dtype.kind not in "iuf":
        raise DataError(
            f"{_where(path, inputs)}: expected inputs [n, ...] of numbers, got {dtype} of shape {list(shape)}"
        )
    labels, table = label_names.none(shape[0]), label_names.NO_LABELS
    if named is not None:
        labels, table = _labels(path, named, members[named], shape[0])

    def chunks(rows: int) -> Iterator[Batch]:
        for start, values in _parts(path, inputs, members[inputs], rows):
            yield Batch(values, labels[start : start + len(values)])

    return Dataset(
        source=str(path),
        shape=shape[1:],
        units="values" if dtype.kind == "f" else "grid",
        names=table.names,
        numbered=table.numbered,
        places=range(shape[0]),
        files=(path,),
        read=lambda places, rows: picked(chunks(rows), 0, places),
    )


def _members(path: Path) -> dict[str, _Opener]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [each for each in archive.namelist() if each.endswith(".npy")]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as an NPZ file ({error})") from error

    def opener(name: str) -> _Opener:
        return lambda: zipfile.ZipFile(path).open(name)

    return {name.removesuffix(".npy"): opener(name) for name in sorted(names)}


def _chosen(path: Path, members: dict[str, _Opener], label: str | None, labelled: bool) -> tuple[str, str | None]:
    """The names of inputs and labels."""
    wanted = (label,) if label else _LABELS
    named = next((each for each in wanted if each in members), None)
    rest = [each for each in members if each != named]
    if labelled and named is None:
        raise DataError(
            f"{path} has no array of labels; expected one called {' or '.join(wanted)} beside the inputs, or name it;"
            f" found {', '.join(filter(None, members)) or 'inputs alone'}"
        )
    if len(rest) != 1:
        raise DataError(
            f"{path} holds the arrays {', '.join(members) or 'none'}; expected one of inputs and one of labels"
        )
    return rest[0], named if labelled else None


def _labels(path: Path, name: str, opener: _Opener, rows: int) -> tuple[NDArray[np.int64], label_names.Labels]:
    shape, dtype = _header(path, name, opener)
    if shape != (rows,) or dtype.kind not in "iubU":
        raise DataError(
            f"{_where(path, name)}: expected {rows} labels, whole numbers or text, one for each input; got {dtype} of"
            f" shape {list(shape)}; one-hot rows become labels by argmax"
        )
    values = np.concatenate([part for _, part in _parts(path, name, opener, rows)])
    found = label_names.LabelsFound(_where(path, name))
    found.add(values.tolist(), 0)
    table = found.table()
    return table.of(values.tolist()), table


def _header(path: Path, name: str, opener: _Opener) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with _guarded(path, name, opener) as stream:
        return _read_header(path, name, stream)


def _read_header(path: Path, name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(stream)
    if by_columns and len(shape) > 1:
        raise DataError(f"{_where(path, name)} is stored by columns; save numpy.ascontiguousarray of it")
    if dtype.hasobject:
        raise DataError(f"{_where(path, name)} holds Python objects, which are not read; save numbers or text")
    return shape, dtype


def _parts(path: Path, name: str, opener: _Opener, rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
    with _guarded(path, name, opener) as stream:
        shape, dtype = _read_header(path, name, stream)
        size = int(np.prod(shape[1:])) * dtype.itemsize
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            data = stream.read(count * size)
            if len(data) != count * size:
                raise DataError(f"{_where(path, name)} is cut short within the rows from {start} on; save it again")
            values = np.frombuffer(data, dtype=dtype).reshape(count, *shape[1:])
            if dtype.kind == "f" and not (finite := np.isfinite(values.reshape(count, -1)).all(axis=1)).all():
                row = start + int(np.argmin(finite))
                raise DataError(f"{_where(path, name)}, row {row} is not finite; fill it in, or leave it out")
            yield start, values


@contextmanager
def _guarded(path: Path, name: str, opener: _Opener) -> Iterator[IO[bytes]]:
    """The stream of one array; whatever a damaged file raises becomes a `DataError` that names it."""
    try:
        with opener() as stream:
            yield stream
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{_where(path, name)} cannot be read ({error}); save it again") from error


def _where(path: Path, name: str) -> str:
    return f"{path}, array {name!r}" if name else str(path)
