"""Reading the IDX files in which MNIST and its relatives are published, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTES = 0x08


class IdxError(ValueError):
    """A data set cannot be read; the message names the file and how to mend it."""


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
    images = _find(folder, f"{split}-images-idx3-ubyte")
    labels = _find(folder, f"{split}-labels-idx1-ubyte")
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


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise IdxError(
        f"{folder} holds neither {name}.gz nor {name}; Debian's package dataset-fashion-mnist puts them in"
        " /usr/share/datasets/fashion-mnist, or name any folder that holds the four IDX files"
    )
