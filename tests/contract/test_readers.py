"""One suite for every reader: the same rows through each format, whole, in parts, and from any row on."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from export import data
from export.data import readers
from export.data.in_memory import of_arrays
from export.data.readers import READERS

ROWS, HEIGHT, WIDTH = 23, 4, 3
GENERATOR = np.random.default_rng(0)
PICTURES = GENERATOR.integers(0, 256, (ROWS, HEIGHT, WIDTH), dtype=np.uint8)
LABELS = np.sort(GENERATOR.integers(0, 3, ROWS))
NAMES = ("cat", "cow", "dog")


def table(folder, pictures, labels):
    flat = pictures.reshape(len(pictures), -1)
    columns = {f"pixel {place}": flat[:, place].astype(np.float64) for place in range(flat.shape[1])}
    return pa.table(columns | {"label": [NAMES[each] for each in labels]})


def csv(folder, pictures, labels):
    rows = table(folder, pictures, labels).to_pydict()
    lines = [rows.keys(), *zip(*rows.values(), strict=True)]
    (folder / "d.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    return folder / "d.csv"


def zipped_csv(folder, pictures, labels):
    text = csv(folder, pictures, labels).read_bytes()
    (folder / "d.csv.gz").write_bytes(gzip.compress(text))
    return folder / "d.csv.gz"


def npz(folder, pictures, labels):
    np.savez(folder / "d.npz", x=pictures, y=labels)
    return folder / "d.npz"


def squeezed_npz(folder, pictures, labels):
    np.savez_compressed(folder / "d.npz", images=pictures, labels=np.array(NAMES)[labels])
    return folder / "d.npz"


def parquet(folder, pictures, labels):
    pq.write_table(table(folder, pictures, labels), folder / "d.parquet", row_group_size=5)
    return folder / "d.parquet"


def parquet_folder(folder, pictures, labels):
    whole = table(folder, pictures, labels)
    pq.write_table(whole.slice(0, 9), folder / "part-0.parquet")
    pq.write_table(whole.slice(9), folder / "part-1.parquet", row_group_size=4)
    return folder


def parquet_lists(folder, pictures, labels):
    lists = pa.array(list(pictures.reshape(len(pictures), -1)), pa.list_(pa.uint8()))
    pq.write_table(pa.table({"image": lists, "label": labels}), folder / "d.parquet", row_group_size=5)
    return folder / "d.parquet"


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def parquet_pictures(folder, pictures, labels):
    files = pa.array([{"bytes": png(each), "path": "x.png"} for each in pictures])
    pq.write_table(pa.table({"image": files, "label": labels}), folder / "d.parquet", row_group_size=5)
    return folder / "d.parquet"


def idx(folder, pictures, labels, pack=lambda content: content, end=""):
    head = bytes([0, 0, 8, 3]) + struct.pack(">3I", *pictures.shape)
    (folder / f"t-images-idx3-ubyte{end}").write_bytes(pack(head + pictures.tobytes()))
    head = bytes([0, 0, 8, 1]) + struct.pack(">I", len(labels))
    (folder / f"t-labels-idx1-ubyte{end}").write_bytes(pack(head + labels.astype(np.uint8).tobytes()))
    return folder


def zipped_idx(folder, pictures, labels):
    return idx(folder, pictures, labels, gzip.compress, ".gz") / "t"


def folders(folder, pictures, labels):
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        inside = folder / NAMES[label]
        inside.mkdir(exist_ok=True)
        Image.fromarray(picture).save(inside / f"{place:06}.png")
    return folder


FORMATS = [csv, zipped_csv, npz, squeezed_npz, parquet, parquet_folder, parquet_lists, parquet_pictures]
FORMATS += [idx, zipped_idx, folders]


@pytest.fixture(params=FORMATS, ids=lambda each: each.__name__)
def write(request):
    return request.param


@pytest.fixture
def dataset(write, tmp_path):
    return data.open(write(tmp_path, PICTURES, LABELS))


def joined(batches):
    batches = list(batches)
    return np.concatenate([each.inputs for each in batches]), np.concatenate([each.labels for each in batches])


def test_every_format_is_registered_and_said(tmp_path):
    recognised = {
        reader.WHAT
        for place, write in enumerate(FORMATS)
        for reader in READERS
        if (tmp_path / str(place)).mkdir(exist_ok=True) is None
        and reader.recognises(write(tmp_path / str(place), PICTURES, LABELS))
    }
    assert recognised == {reader.WHAT for reader in READERS}


def test_the_rows_are_those_that_were_written(dataset):
    inputs, labels = joined(dataset.batches(7))
    assert np.array_equal(inputs.reshape(ROWS, -1), PICTURES.reshape(ROWS, -1))
    assert inputs.shape[1:] == dataset.shape
    assert (len(dataset), labels.dtype) == (ROWS, np.int64)
    assert dataset.names == (("0", "1", "2") if dataset.numbered else NAMES)
    assert labels.tolist() == LABELS.tolist()
    assert dataset.units == ("grid" if inputs.dtype.kind in "iu" else "values")


@pytest.mark.parametrize("rows", [1, 5, ROWS, 100])
def test_batches_are_full_and_their_size_changes_nothing(dataset, rows):
    sizes = [len(batch) for batch in dataset.batches(rows)]
    assert sizes == [rows] * (ROWS // rows) + ([ROWS % rows] if ROWS % rows else [])
    assert np.array_equal(joined(dataset.batches(rows))[0], joined(dataset.batches(4))[0])


def test_it_can_begin_at_any_row(dataset):
    inputs, labels = joined(dataset.batches(6))
    for start in range(ROWS):
        late, late_labels = joined(dataset.batches(6, start))
        assert np.array_equal(late, inputs[start:]), start
        assert np.array_equal(late_labels, labels[start:])
    assert list(dataset.batches(6, ROWS)) == []


def test_a_part_of_it_is_a_data_set(dataset):
    inputs, _ = joined(dataset.batches(6))
    third, head = dataset.every(3), dataset.first(5)
    assert np.array_equal(joined(third.batches(2))[0], inputs[::3])
    assert np.array_equal(joined(third.batches(2, 4))[0], inputs[::3][4:])
    assert np.array_equal(joined(head.batches(2))[0], inputs[:5])
    assert len({dataset.digest, third.digest, head.digest}) == 3


def test_opened_again_it_is_the_same_and_with_other_content_another(write, tmp_path, dataset):
    again = data.open(dataset.source)
    assert again.digest == dataset.digest
    assert np.array_equal(joined(again.batches(5))[0], joined(dataset.batches(5))[0])
    changed = PICTURES.copy()
    changed[-1, -1, -1] ^= 1
    assert data.open(write(tmp_path, changed, LABELS)).digest != dataset.digest


def test_without_labels_the_inputs_are_the_same(dataset):
    bare = data.open(dataset.source, labelled=False)
    inputs, labels = joined(bare.batches(5))
    assert np.array_equal(inputs, joined(dataset.batches(5))[0])
    assert set(labels.tolist()) == {data.UNLABELLED}
    assert bare.names == ()


def test_another_format_is_a_module_and_its_name(tmp_path, monkeypatch):
    """A reader that no module of the product knows is asked like the others."""
    own = SimpleNamespace(
        WHAT="a .rows file of a test",
        recognises=lambda path: path.suffix == ".rows",
        open_dataset=lambda path, label, labelled, decode: of_arrays(np.load(path), LABELS, str(path), named=False),
    )
    np.save(tmp_path / "x.npy", PICTURES)
    (tmp_path / "x.npy").rename(tmp_path / "x.rows")
    monkeypatch.setattr(readers, "READERS", (*READERS, own))
    inputs, labels = joined(data.open(tmp_path / "x.rows").batches(7))
    assert np.array_equal(inputs, PICTURES)
    assert labels.tolist() == LABELS.tolist()
    with pytest.raises(data.DataError, match="a .rows file of a test"):
        data.open(tmp_path / "x.other")


def test_memory_is_that_of_a_batch_not_of_the_data(write, tmp_path):
    pictures = np.broadcast_to(PICTURES[:1, :, :1], (4_000, 4, 3)).copy()
    if write in (folders, parquet_pictures):
        pictures = pictures[:400]  # a file each, and none of them is kept: their names are
    found = data.open(write(tmp_path, pictures, np.arange(len(pictures)) * 3 // len(pictures)))
    # The servers of other tests may take some memory meanwhile, but not three times in a row.
    assert any(_peak(found) < 1.5 * _peak(found.first(len(found) // 4)) + 50_000 for _ in range(3))


def _peak(part):
    """The most bytes that the process took while all rows were read."""
    tracemalloc.start()
    rows = sum(len(batch) for batch in part.batches(32))
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == len(part)
    return found
