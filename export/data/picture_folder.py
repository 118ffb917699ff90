"""A folder of pictures: one folder for each class, named by the label; classes and files in the order of their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.data import picture_file
from export.data.dataset import UNLABELLED, Batch, DataError, Dataset
from export.data.picture_file import Decode

_OTHERS = (".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".avif", ".jfif", ".jp2", ".ppm", ".pgm")
WHAT = "a folder that holds a folder of PNG or JPEG files for each class"


def recognises(path: Path) -> bool:
    """Whether `path` is a folder that holds pictures, or folders."""
    return path.is_dir() and any(each.is_dir() or _is_picture(each) for each in path.iterdir())


def open_dataset(path: Path, label: str | None, labelled: bool, decode: Decode = picture_file.decode) -> Dataset:
    """The pictures below `path`. Without labels they may lie in `path` itself."""
    classes = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    for folder in [path, *classes]:
        _refuse_what_would_be_lost(folder, folders=folder != path)
    found = [(file, index) for index, folder in enumerate(classes) for file in _pictures(folder)]
    loose = _pictures(path)
    if labelled and (loose or not classes):
        raise DataError(
            f"{path} holds pictures without a label, {loose[0].name if loose else 'or none'}; expected one folder for each"
            " class, named by it"
        )
    if labelled and (empty := [folder.name for folder in classes if not _pictures(folder)]):
        raise DataError(f"{path / empty[0]} holds no PNG or JPEG file; expected pictures of this class")
    if not labelled:
        found = [(file, UNLABELLED) for file in [*loose, *(file for file, _ in found)]]
    if not found:
        raise DataError(f"{path} holds no PNG or JPEG file; expected {WHAT}")
    shape = picture_file.read(found[0][0], decode).shape

    def read(places: range, rows: int) -> Iterator[Batch]:
        for start in range(0, len(places), rows):
            part = [found[place] for place in places[start : start + rows]]
            yield Batch(
                _stacked([file for file, _ in part], shape, decode), np.array([label for _, label in part], np.int64)
            )

    return Dataset(
        source=str(path),
        shape=shape,
        units="grid",
        names=tuple(folder.name for folder in classes) if labelled else (),
        places=range(len(found)),
        files=tuple(file for file, _ in found),
        read=read,
        pictures=True,
    )


def _refuse_what_would_be_lost(folder: Path, *, folders: bool) -> None:
    """Raise `DataError` for what somebody means to be read, and is not: pictures of other forms, deeper ones, dead links."""
    for each in sorted(folder.iterdir()):
        if each.name.startswith("."):
            continue
        if each.is_symlink() and not each.exists():
            raise DataError(f"{each} is a link that leads nowhere; mend or remove it")
        if folders and each.is_dir():
            raise DataError(f"{each} is a folder within that of a class; move its pictures up, or remove it")
        if each.suffix.lower() in _OTHERS:
            raise DataError(f"{each} is a picture of another form; expected PNG or JPEG: convert or remove it")


def _stacked(files: list[Path], shape: tuple[int, ...], decode: Decode) -> NDArray[np.uint8]:
    rows = np.empty((len(files), *shape), dtype=np.uint8)
    for place, file in enumerate(files):
        pixels = picture_file.read(file, decode)
        picture_file.refuse_other_shape(pixels, shape, str(file))
        rows[place] = pixels
    return rows


def _pictures(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if _is_picture(each))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in picture_file.ENDINGS and not path.name.startswith(".")
