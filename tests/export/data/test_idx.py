from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from export.data.idx import IdxError, parse_idx, read_split

DATA = Path(__file__).parents[2] / "data"


def idx(array) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.arange(2 * 3 * 4).reshape(2, 3, 4)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([7, 9]))))
    return tmp_path


def test_plain_and_gzipped_files_are_read(folder):
    data = read_split(folder, "train")
    assert data.images.tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    assert data.labels.tolist() == [7, 9]
    assert data.labels.dtype == np.int64
    assert data[slice(1, 2)].labels.tolist() == [9]


def test_a_missing_file_names_the_package_that_brings_it(folder):
    with pytest.raises(IdxError, match="t10k-images-idx3-ubyte.*dataset-fashion-mnist"):
        read_split(folder, "t10k")


GOOD = idx(np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begins with nothing"),
        (b"\x89PNG\r\n\x1a\n", "begins with 89504e47"),
        (b"\0\0\x0d\x01" + GOOD[4:], "begins with 00000d01"),  # floats
        (GOOD[:6], "cut short or too long"),
        (GOOD[:-1], "promises 6 values of shape \\(2, 3\\), 5 follow"),
        (GOOD + b"\0", "promises 6 values of shape \\(2, 3\\), 7 follow"),
        (gzip.compress(GOOD, mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(GOOD, mtime=0)[:12] + b"\xff" + gzip.compress(GOOD, mtime=0)[13:], "damaged gzip"),
    ],
)
def test_a_damaged_file_is_named(data, message):
    with pytest.raises(IdxError, match=f"some file.*{message}"):
        parse_idx(data, "some file")


def test_images_and_labels_have_to_belong_together(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([7, 9, 1]))))
    with pytest.raises(IdxError, match="do not belong together"):
        read_split(folder, "train")


def test_the_committed_data():
    pictures, digits = read_split(DATA, "fashion_mnist_test_1000"), read_split(DATA, "digits_200")
    assert pictures.images.shape == (1000, 28, 28)
    assert pictures.labels[:5].tolist() == [9, 2, 1, 1, 6]  # as in the published test set
    assert np.bincount(digits.labels).tolist() == [20] * 10
