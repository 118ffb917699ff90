"""A CSV file with a header: one column of labels, every other one a number."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.data import label_names
from export.data.dataset import Batch, DataError, Dataset, picked
from export.data.label_names import Labels

WHAT = "a .csv or .csv.gz file with a header"
ENDINGS = (".csv", ".csv.gz")
DEFAULT_LABEL = "label"
_Row = tuple[int, list[str]]


def recognises(path: Path) -> bool:
    """Whether the file's name says CSV."""
    return path.name.lower().endswith(ENDINGS)


def open_dataset(path: Path, label: str | None, labelled: bool, _: object = None) -> Dataset:
    """The rows in the order of the file, in the caller's units; labels of the column `label`.

    One walk counts the rows and gathers the labels. Without labels a column of that name is left out all the same.
    """
    with _rows(path) as rows:
        _, header = next(rows, (0, []))
        header = [name.strip() for name in header]
        if not header:
            raise DataError(f"{path} is empty; expected a header of column names")
        _check_header(path, header)
        place = column(str(path), header, label, labelled)
        where = str(path) if place is None else f"{path}, column {header[place]!r}"
        found, count = label_names.LabelsFound(where, unit="line"), 0
        for line, row in rows:
            count += 1
            if len(row) != len(header):
                raise DataError(f"{path}, line {line}: {len(row)} fields, the header has {len(header)}")
            if labelled and place is not None:
                found.add([row[place]], line)
    if not count:
        raise DataError(f"{path} holds no row below its header")
    table = found.table() if labelled else label_names.NO_LABELS
    kept = [index for index in range(len(header)) if index != place]

    def chunks(rows: int) -> Iterator[Batch]:
        with _rows(path) as lines:
            next(lines)
            while part := list(islice(lines, rows)):
                yield _batch(path, header, kept, place, table, part)

    return Dataset(
        source=str(path),
        shape=(len(kept),),
        units="values",
        names=table.names,
        numbered=table.numbered,
        places=range(count),
        files=(path,),
        read=lambda places, rows: picked(chunks(rows), 0, places),
        columns=tuple(header[index] for index in kept),
    )


def _check_header(path: Path, header: list[str]) -> None:
    """Raise `DataError` for a first line that names no columns."""
    other = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise DataError(f"{path} has {other!r} between its fields; expected commas: write it again with these")
    if all(map(_is_finite, header)) and header != [str(place) for place in range(len(header))]:
        raise DataError(
            f"{path} begins with numbers, {', '.join(header[:3])[:60]}; expected a header: put a line with the names of the"
            " columns before it"
        )
    if "" in header:
        raise DataError(
            f"{path} has a column without a name, the {header.index('') + 1}. of {len(header)}, as row numbers and commas at"
            " the ends of lines make it; leave it out, or name it"
        )


def column(source: str, header: list[str], label: str | None, labelled: bool) -> int | None:
    """The place of the column of labels; None where there is none and none is wanted. Raises `DataError`."""
    wanted = label or DEFAULT_LABEL
    if len(set(header)) != len(header):
        twice = next(each for each in header if header.count(each) > 1)
        raise DataError(f"{source} has the column {twice!r} twice; rename one of them")
    if wanted in header:
        if len(header) < 2:
            raise DataError(f"{source} has no column beside {wanted!r}; expected one number or more in each row")
        return header.index(wanted)
    if labelled or label is not None:
        names = ", ".join(header[:20]) + (", ..." if len(header) > 20 else "")
        raise DataError(f"{source} has no column {wanted!r} for the labels; name one of {names}")
    return None


def _batch(path: Path, header: list[str], kept: list[int], place: int | None, table: Labels, rows: list[_Row]) -> Batch:
    labels = label_names.none(len(rows))
    if place is not None and table.index:
        labels = table.of(row[place] for _, row in rows)
    return Batch(_numbers(path, header, kept, rows), labels)


def _numbers(path: Path, header: list[str], kept: list[int], rows: list[_Row]) -> NDArray[np.float64]:
    try:
        values = np.array([[row[index] for index in kept] for _, row in rows], dtype=np.float64)
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass
    for line, row in rows:
        for index in kept:
            if not _is_finite(row[index]):
                raise DataError(
                    f"{path}, line {line}, column {header[index]!r}: {row[index]!r:.60} is not a finite number; fill in"
                    " what is missing, turn categories into numbers, or leave the column out"
                )
    raise AssertionError("a row that numpy does not read has a cell that Python does not read")


def _is_finite(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


@contextmanager
def _rows(path: Path) -> Iterator[Iterator[_Row]]:
    """The rows of the file and their lines, without empty ones; whatever is wrong with its text is a `DataError`."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            reader = csv.reader(text, strict=True)
            yield ((reader.line_num, row) for row in reader if row)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error.reason}); convert it") from error
    except (csv.Error, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from error
