"""One way to open a data set, whatever its format. A new format is a module like the others, and its name in `READERS`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from export.data import csv_file, idx, npz_file, parquet_file, picture_file, picture_folder
from export.data.dataset import DataError, Dataset
from export.data.picture_file import Decode


class Reader(Protocol):
    """A module that reads one format."""

    WHAT: str

    def recognises(self, path: Path) -> bool:
        """Whether `path`, which need not exist, is of this format, by its name or by what a folder holds."""
        ...

    def open_dataset(self, path: Path, label: str | None, labelled: bool, decode: Decode, /) -> Dataset:
        """See `open`."""
        ...


READERS: tuple[Reader, ...] = (csv_file, npz_file, parquet_file, idx, picture_folder)
"""Asked in this order; the first that recognises a path reads it."""


def open(
    path: Path | str, *, label: str | None = None, labelled: bool = True, decode: Decode = picture_file.decode
) -> Dataset:
    """The data set at `path`: inputs with their labels, streamed in a fixed order, in bounded memory.

    `label` names the column, or the array, of the labels where it is not the usual one; without `labelled` no labels are
    looked for. `decode` reads the pictures among the files, if there are any. Raises `DataError`, here or while the rows
    are walked through.
    """
    path = Path(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DataError(f"{path} is neither a file nor a folder; expected one that can be read more than once")
        for reader in READERS:
            if reader.recognises(path):
                return reader.open_dataset(path, label, labelled, decode)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read ({error.strerror or error})") from error
    known = "; ".join(each.WHAT for each in READERS)
    missing = "" if path.exists() else ", and does not exist"
    raise DataError(f"{path} is no data set{missing}; expected {known}")
