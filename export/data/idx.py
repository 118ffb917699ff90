"""Reading the IDX files in which MNIST and its relatives are published, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from export.data import label_names
from export.data.dataset import Batch, DataError, Dataset, picked

WHAT = "a pair of IDX files NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte, gzipped or not: FOLDER/NAME, or their folder"
_IMAGES, _LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"
_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTES = 0x08


class IdxError(DataError):
    """IDX files cannot be read."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Pictures uint8 [n, height, width] and their labels int64 [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> LabelledImages:
        return LabelledImages(self.images[rows], self.labels[rows])


def parse_idx(data: bytes, source: str) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file; `source` names it in errors.

    The format (Y. LeCun's): two zero bytes, the type, the number of dimensions, each size as 4 bytes with the highest
    first, then the values.
    """
    if data[:2] == _GZIP:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise IdxError(f"{source} is a damaged gzip file ({error}); fetch it again") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTES:
        raise IdxError(
            f"{source} is not an IDX file of unsigned bytes: it begins with {data[:4].hex() or 'nothing'},"
            " expected 000008 and the number of dimensions"
        )
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start], dtype=">u4") if len(data) >= start else np.array([], dtype=">u4")
    size = int(np.prod(shape, dtype=np.uint64))
    if len(shape) != data[3] or len(data) - start != size:
        raise IdxError(
            f"{source} is cut short or too long: its header promises {size} values of shape"
            f" {tuple(map(int, shape))}, {max(len(data) - start, 0)} follow; fetch it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(tuple(map(int, shape)))


def read_split(folder: Path, split: str) -> LabelledImages:
    """The `train` or `t10k` half of a data set in `folder`, under the usual file names with or without `.gz`."""
    images, labels = _find(folder, split + _IMAGES), _find(folder, split + _LABELS)
    return read_pair(images, labels)


def read_pair(images: Path, labels: Path) -> LabelledImages:
    """The pictures of one IDX file with the labels of another."""
    pictures, classes = parse_idx(images.read_bytes(), str(images)), parse_idx(labels.read_bytes(), str(labels))
    if pictures.ndim != 3 or classes.ndim != 1 or len(pictures) != len(classes):
        raise IdxError(
            f"{images} of shape {pictures.shape} and {labels} of shape {classes.shape} do not belong together:"
            " expected [n, height, width] and [n]"
        )
    return LabelledImages(pictures, classes.astype(np.int64))


def recognises(path: Path) -> bool:
    """Whether `path` is FOLDER/NAME of a pair, one of its files, or a folder that holds one."""
    return bool(_pairs(path))


def open_dataset(path: Path, label: str | None, labelled: bool, _: object = None) -> Dataset:
    """The pictures of a pair as [height, width, 1], in the order of the file. Without labels no second file is needed."""
    pairs = _pairs(path)
    if len(pairs) > 1:
        names = " or ".join(str(folder / name) for folder, name in pairs)
        raise IdxError(f"{path} holds the IDX files of {len(pairs)} data sets; say {names}")
    folder, name = pairs[0]
    images = _find(folder, name + _IMAGES)
    shape = _header(images, 3)
    size = shape[1] * shape[2]
    files, table, labels = [images], label_names.NO_LABELS, label_names.none(shape[0])
    if labelled:
        files.append(_find(folder, name + _LABELS))
        labels = parse_idx(files[1].read_bytes(), str(files[1])).astype(np.int64)
        if labels.shape != shape[:1]:
            raise IdxError(f"{images} holds {shape[0]} pictures, {files[1]} labels of shape {labels.shape}: no pair")
        found = label_names.LabelsFound(str(files[1]))
        found.add(np.unique(labels), 0)
        table = found.table()

    def chunks(rows: int) -> Iterator[Batch]:
        with _opened(images) as stream:
            stream.read(16)
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                pixels = np.frombuffer(_exactly(stream, count * size, images, start), dtype=np.uint8)
                yield Batch(pixels.reshape(count, *shape[1:], 1), labels[start : start + count])

    return Dataset(
        source=str(path),
        shape=(*shape[1:], 1),
        units="grid",
        names=table.names,
        numbered=table.numbered,
        places=range(shape[0]),
        files=tuple(files),
        read=lambda places, rows: picked(chunks(rows), 0, places),
        pictures=True,
    )


def _pairs(path: Path) -> list[tuple[Path, str]]:
    """Folder and name of each data set whose pictures are meant by `path`."""
    if path.is_dir():
        files = [each.name.removesuffix(".gz") for each in path.iterdir()]
        return [(path, each) for each in sorted({n.removesuffix(_IMAGES) for n in files if n.endswith(_IMAGES)})]
    name = path.name.removesuffix(".gz").removesuffix(_IMAGES)
    there = any((path.parent / (name + _IMAGES + end)).is_file() for end in ("", ".gz"))
    return [(path.parent, name)] if there else []


def _opened(path: Path) -> IO[bytes]:
    """The file, unzipped where it is zipped."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == _GZIP
    return cast(IO[bytes], (gzip.open if zipped else open)(path, "rb"))


def _header(path: Path, dimensions: int) -> tuple[int, ...]:
    with _opened(path) as stream:
        head = _exactly(stream, 4 + 4 * dimensions, path, 0)
    if head[:3] != bytes((0, 0, _UNSIGNED_BYTES)) or head[3] != dimensions:
        raise IdxError(
            f"{path} is not an IDX file of unsigned bytes in {dimensions} dimensions: it begins with {head[:4].hex()}"
        )
    return tuple(map(int, np.frombuffer(head[4:], dtype=">u4")))


def _exactly(stream: IO[bytes], size: int, path: Path, row: int) -> bytes:
    try:
        data = stream.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise IdxError(f"{path} is a damaged gzip file ({error}) from row {row} on; fetch it again") from error
    if len(data) != size:
        raise IdxError(f"{path} is cut short: it ends within the rows from {row} on; fetch it again")
    return data


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise IdxError(
        f"{folder} holds neither {name}.gz nor {name}; Debian's package dataset-fashion-mnist puts them in"
        " /usr/share/datasets/fashion-mnist, or name any folder that holds the four IDX files"
    )
