"""Parquet files, which need the library pyarrow: `arrow_rows` reads them, and is imported when one is opened."""

from __future__ import annotations

from pathlib import Path

from export.data import picture_file
from export.data.dataset import DataError, Dataset
from export.data.picture_file import Decode

WHAT = "a .parquet file, or a folder of them"
ENDING = ".parquet"


def recognises(path: Path) -> bool:
    """Whether the name says Parquet, or the folder holds such files."""
    return path.suffix.lower() == ENDING or (path.is_dir() and any(path.glob("*" + ENDING)))


def open_dataset(path: Path, label: str | None, labelled: bool, decode: Decode = picture_file.decode) -> Dataset:
    """See `arrow_rows.open_dataset`."""
    try:
        from export.data import arrow_rows
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise DataError(f"{path}: reading Parquet needs pyarrow; pip install 'certserve[data]'") from error
    return arrow_rows.open_dataset(path, label, labelled, decode)
