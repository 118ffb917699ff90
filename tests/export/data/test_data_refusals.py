"""What a reader cannot read is said in one line: which file, which row, and how to mend it."""

from __future__ import annotations

import gzip
import io
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from export import data
from export.data import picture_file
from tests.contract.test_readers import idx
from tests.export.data.test_idx import DATA

GREY = np.arange(12, dtype=np.uint8).reshape(4, 3)


def walked(path, **options):
    found = data.open(path, **options)
    for _ in found.batches(2):
        pass


def refused(path, *words, **options):
    with pytest.raises(data.DataError) as raised:
        walked(path, **options)
    message = str(raised.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty", "header"]),
        ("a,label\n", ["no row below its header"]),
        ("a,b\n1,2\n", ["no column 'label'", "a, b"]),
        ("label\ncat\n", ["no column beside 'label'"]),
        ("a,a,label\n1,2,x\n", ["'a' twice"]),
        ("a,label\n1,x\n2\n", ["line 3", "1 fields", "2"]),
        ("a,label\n1,x\n\n2,x\nred,x\n", ["line 5", "column 'a'", "'red'", "categories"]),
        ("a,b,label\n1,2,x\n1,,x\n", ["line 3", "column 'b'", "''"]),
        ("a,label\n1,x\nnan,x\n", ["line 3", "'nan'"]),
        ("a,label\ninf,x\n", ["line 2", "'inf'"]),
        ("a,label\n1,x\n1,\n", ["column 'label'", "line 3", "expected a whole number or a name"]),
        ('a,label\n1,"x\n', ["cannot be read as CSV"]),
        ("a,label\n" + "".join(f"1,{row}.5\n" for row in range(70_000)), ["more than 65536 different labels"]),
        ("a,label\n1,99999999\n", ["label 99999999", "0 to 65535"]),
        ("1.5,2,0\n3,4,1\n", ["begins with numbers, 1.5, 2, 0", "put a line with the names"]),
        ("a;b;label\n1;2;x\n", ["';' between its fields", "commas"]),
        ("a\tlabel\n1\tx\n", ["between its fields", "commas"]),
        (",a,label\n0,1,x\n", ["without a name, the 1. of 3"]),
        ("a,label,\n0,x,\n", ["without a name, the 3. of 3"]),
    ],
)
def test_csv(tmp_path, text, words):
    (tmp_path / "d.csv").write_text(text)
    refused(tmp_path / "d.csv", "d.csv", *words)


def test_text_that_is_none(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"a,label\n1,\xff\xfe\n")
    refused(tmp_path / "d.csv", "no text in UTF-8")
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(b"a,label\n1,x\n" * 999)[:-20])
    refused(tmp_path / "e.csv.gz", "cannot be read as CSV")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": GREY}, ["no array of labels", "y or label or labels", "x"]),
        ({"x": GREY, "y": np.zeros(3, int)}, ["array 'y'", "4 labels", "[3]"]),
        ({"x": GREY, "y": np.zeros((4, 2), int)}, ["one-hot", "argmax"]),
        ({"x": GREY, "y": np.zeros(4)}, ["array 'y'", "float64"]),
        ({"x": GREY, "z": GREY, "y": np.zeros(4, int)}, ["holds the arrays x, y, z"]),
        ({"x": np.array(["a", "b"]), "y": np.zeros(2, int)}, ["array 'x'", "of numbers"]),
        ({"x": np.array(3.0), "y": np.zeros(1, int)}, ["array 'x'", "[n, ...]"]),
        ({"x": np.array([[1.0], [np.nan]]), "y": np.zeros(2, int)}, ["array 'x', row 1", "not finite"]),
        ({"x": np.array([[None]]), "y": np.zeros(1, int)}, ["array 'x'", "Python objects"]),
        ({"x": np.asfortranarray(GREY), "y": np.zeros(4, int)}, ["by columns", "ascontiguousarray"]),
    ],
)
def test_npz(tmp_path, arrays, words):
    np.savez(tmp_path / "d.npz", **arrays)
    refused(tmp_path / "d.npz", "d.npz", *words)


def test_damaged_npz(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", x=np.random.default_rng(0).random((400, 9)), y=np.zeros(400, int))
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "d.npz", "d.npz", "cannot be read")
    (tmp_path / "d.npz").write_bytes(whole[:2000] + bytes(99) + whole[2099:])
    refused(tmp_path / "d.npz", "d.npz", "array 'x'", "save it again")
    np.save(tmp_path / "x.npy", np.ones((9, 2)))
    refused(tmp_path / "x.npy", "no array of labels", "inputs alone")
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-8])
    refused(tmp_path / "x.npy", "cut short", "rows from 8", labelled=False)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1.0], "b": [2.0]}, ["no column 'label'", "a, b"]),
        ({"a": [1.0, None], "label": [1, 2]}, ["row 1", "column 'a'", "holds nothing"]),
        ({"a": [1.0, 2.0], "label": ["x", None]}, ["column 'label'", "row 1"]),
        ({"a": [1.0, 2.0], "label": [0.5, 1.5]}, ["column 'label'", "0.5", "whole number"]),
        ({"a": ["red", "blue"], "label": [1, 2]}, ["column 'a'", "string", "numbers"]),
        ({"a": [1.0, float("inf")], "label": [1, 2]}, ["row 1", "not finite"]),
        ({"a": [[1, 2], [3]], "label": [1, 2]}, ["lists of", "one length"]),
        ({"a": [b"abc"], "label": [1]}, ["row 0", "no readable PNG or JPEG"]),
        ({"a": pa.array([], pa.float64()), "label": pa.array([], pa.int64())}, ["holds no row"]),
        ({"a": [b""], "label": [1]}, ["row 0", "it is empty"]),
        ({"a": pa.array([[], []], pa.list_(pa.float64())), "label": [0, 1]}, ["lists of 0", "above 0"]),
        ({"a": [1.0], "label": [b"x"]}, ["column 'label'", "b'x'"]),
        ({"a": [1.0], "label": [[1]]}, ["column 'label'", "[1]"]),
        ({"a": [1.0], "label": pa.array([1], pa.timestamp("s"))}, ["column 'label'", "datetime"]),
    ],
)
def test_parquet(tmp_path, columns, words):
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    refused(tmp_path / "d.parquet", "d.parquet", *words)


def test_whole_labels_may_be_written_as_floats(tmp_path):
    """As columns that once had gaps are; the same class written twice is one class."""
    (tmp_path / "d.csv").write_text(" a , label\n1,0.0\n2, 1\n3,1.0\n4,2.\n")
    pq.write_table(pa.table({"a": [1.0, 2.0, 3.0, 4.0], "label": [0.0, 1.0, 1.0, 2.0]}), tmp_path / "d.parquet")
    for name in ("d.csv", "d.parquet"):
        found = data.open(tmp_path / name)
        (batch,) = found.batches(9)
        assert (found.names, found.numbered, batch.labels.tolist()) == (("0", "1", "2"), True, [0, 1, 1, 2])
        assert found.columns == ("a",)
    (tmp_path / "d.csv").write_text("a,label\n1,1.0\n2,1.1\n")
    assert data.open(tmp_path / "d.csv").names == ("1.0", "1.1")


def test_parquet_files_that_are_none_or_do_not_belong_together(tmp_path):
    (tmp_path / "folder.parquet").mkdir()
    refused(tmp_path / "folder.parquet", "a folder without a .parquet file")
    (tmp_path / "folder.parquet").rmdir()
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and more")
    refused(tmp_path / "d.parquet", "cannot be read as Parquet")
    pq.write_table(pa.table({"a": [1.0], "label": [1]}), tmp_path / "d.parquet")
    pq.write_table(pa.table({"b": [1.0], "label": [1]}), tmp_path / "e.parquet")
    refused(tmp_path, "e.parquet has other columns than")


def test_without_pyarrow_the_advice_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "export.data.arrow_rows", raising=False)
    monkeypatch.delattr(data, "arrow_rows", raising=False)
    refused(tmp_path / "d.parquet", "needs pyarrow", "certserve[data]")


def picture(folder, name, pixels=GREY, mode=None, **options):
    folder.mkdir(exist_ok=True)
    made = Image.fromarray(pixels)
    (made.convert(mode) if mode else made).save(folder / name, **options)


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("b.png", "P", ["palette"]),
        ("b.png", "RGBA", ["transparency", "background"]),
        ("b.png", "LA", ["transparency"]),
        ("b.png", "1", ["one bit"]),
        ("b.jpg", "CMYK", ["CMYK"]),
        ("b.png", "RGB", ["3x4 pixels, RGB", "3x4 pixels, greyscale"]),
    ],
)
def test_pictures_of_another_mode(tmp_path, name, mode, words):
    picture(tmp_path / "cat", "a.png")
    picture(tmp_path / "cat", name, mode=mode)
    refused(tmp_path, str(tmp_path / "cat" / name), *words)


def test_other_pictures_that_are_not_what_the_rest_is(tmp_path):
    picture(tmp_path / "cat", "a.png")
    picture(tmp_path / "cat", "b.png", np.zeros((5, 3), np.uint8))
    refused(tmp_path, "b.png", "3x5 pixels", "3x4 pixels", "resize")
    picture(tmp_path / "cat", "b.png", np.zeros((4, 3), np.uint16))
    refused(tmp_path, "b.png", "16 bits", "convert it to 8")
    upright = Image.Exif()
    upright[0x0112] = 6
    picture(tmp_path / "cat", "b.png", exif=upright)
    refused(tmp_path, "b.png", "EXIF", "turn the pixels")
    picture(tmp_path / "cat", "b.png", transparency=3)
    refused(tmp_path, "b.png", "transparent")


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.9])
def test_a_picture_that_is_cut_short_is_named(tmp_path, ending, kept):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    picture(tmp_path / "cat", f"b.{ending}", noise)
    picture(tmp_path / "cat", f"a.{ending}", noise)
    whole = (tmp_path / "cat" / f"b.{ending}").read_bytes()
    (tmp_path / "cat" / f"b.{ending}").write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    refused(tmp_path, f"b.{ending}", "no readable PNG or JPEG", "remove it")


def test_a_png_with_a_wrong_checksum_is_named(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "png")
    damaged = bytearray(stream.getvalue())
    damaged[-14] ^= 1  # the checksum of the pixels
    with pytest.raises(data.DataError, match="x.png is no readable"):
        picture_file.decode(bytes(damaged), "x.png")


def test_nothing_that_lies_among_pictures_is_left_out_without_a_word(tmp_path):
    for name in ("cat", "dog"):
        picture(tmp_path / name, "a.png")
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / ".git").mkdir()
    walked(tmp_path)
    others = {
        "cat/b.gif": ("of another form", lambda path: path.write_bytes(b"GIF89a")),
        "cat/deeper": ("within that of a class", lambda path: path.mkdir()),
        "cow": ("leads nowhere", lambda path: path.symlink_to(tmp_path / "cow")),
        "dog/b.png": ("leads nowhere", lambda path: path.symlink_to("gone.png")),
        "dog/c.png": ("it is a FIFO", os.mkfifo),
        "dog/d.png": ("it is empty", lambda path: path.write_bytes(b"")),
    }
    for name, (reason, make) in others.items():
        make(tmp_path / name)
        refused(tmp_path, str(tmp_path / name), reason)
        (tmp_path / name).rmdir() if name == "cat/deeper" else (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "rows.csv")
    refused(tmp_path / "rows.csv", "neither a file nor a folder")


def test_folders_without_labels_or_pictures(tmp_path):
    refused(tmp_path / "none", "is no data set", "does not exist", ".parquet", ".csv")
    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", "is no data set", "a folder of PNG or JPEG files for each class")
    picture(tmp_path / "loose", "a.png")
    refused(tmp_path / "loose", "without a label", "a.png", "one folder for each class")
    walked(tmp_path / "loose", labelled=False)
    (tmp_path / "some" / "cat").mkdir(parents=True)
    refused(tmp_path / "some", "cat holds no PNG or JPEG")


def test_a_column_or_array_of_labels_can_be_named(tmp_path):
    (tmp_path / "d.csv").write_text("a,kind\n1,x\n2,y\n")
    assert data.open(tmp_path / "d.csv", label="kind").names == ("x", "y")
    refused(tmp_path / "d.csv", "no column 'sort'", "a, kind", label="sort")
    np.savez(tmp_path / "d.npz", x=GREY, kind=np.arange(4))
    assert data.open(tmp_path / "d.npz", label="kind").names == ("0", "1", "2", "3")
    refused(tmp_path / "d.npz", "called sort", label="sort")


def test_a_folder_of_several_idx_pairs_asks_which():
    refused(DATA, "2 data sets", "digits_200 or", "fashion_mnist_test_1000")
    found = data.open(DATA / "digits_200")
    assert (len(found), found.shape, len(found.names), found.numbered) == (200, (28, 28, 1), 10, True)


@pytest.mark.parametrize("kept", [3, 12, 1000, -1])
def test_idx_files_that_are_cut_short(tmp_path, kept):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 14, 14), dtype=np.uint8)
    idx(tmp_path, pictures, np.zeros(9, int))
    path = tmp_path / "t-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:kept])
    refused(tmp_path, str(path), "cut short", "fetch it again")
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()
    refused(tmp_path, str(path), "fetch it again")
