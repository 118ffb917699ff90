"""Pictures of data sets are read as the server of the bundle reads them, where it declares what is done to other forms."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from export import data
from export.build.served_pictures import decode_for
from export.bundle import GridSpec, ImageKind, InputSpec, Resize, Treatments
from export.data import DataError
from export.data.picture_file import decode
from serving.inputs import image

EVERYTHING = Treatments(
    orientation="applied",
    palette="expanded",
    alpha="on white",
    depth="converted",
    cmyk="converted",
    colours="converted",
)


def taken(kind, *shape):
    return InputSpec(name="image", kind=kind, shape=shape, grid=GridSpec(low=0.0, step=1.0, high=255.0, units="steps"))


def files(folder):
    """One picture of each form, the label in the name of its folder."""
    chance = np.random.default_rng(7)
    colours = Image.fromarray(chance.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    made = {
        "a/grey.png": colours.convert("L"),
        "a/colours.png": colours,
        "a/palette.png": colours.quantize(16),
        "b/clear.png": Image.fromarray(chance.integers(0, 256, (6, 6, 4), dtype=np.uint8)),
        "b/deep.png": Image.fromarray(chance.integers(0, 2**16, (7, 5), dtype=np.uint16)),
        "b/turned.jpg": colours,
        "b/printed.jpg": colours.convert("CMYK"),
    }
    for name, picture in made.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        picture.save(folder / name, **({"exif": turned} if "turned" in name else {}))
    return [folder / name for name in sorted(made)]


@pytest.mark.parametrize(
    ("layout", "mode", "shape"),
    [("CHW", "L", (1, 8, 6)), ("CHW", "RGB", (3, 8, 6)), ("HWC", "RGB", (8, 6, 3)), ("HWC", "BGR", (8, 6, 3))],
)
@pytest.mark.parametrize("crop", ["none", "centre"])
def test_rows_are_those_that_the_server_takes_of_the_same_files(tmp_path, layout, mode, shape, crop):
    kind = ImageKind(
        kind="image", layout=layout, mode=mode, resize=Resize(method="bilinear", crop=crop), files=EVERYTHING
    )
    spec, paths = taken(kind, *shape), files(tmp_path)
    (batch,) = data.open(tmp_path, decode=decode_for(spec)).batches(100)
    assert batch.labels.tolist() == [path.parent.name == "b" for path in paths]
    for path, found in zip(paths, batch.inputs, strict=True):
        served = image.decode(path.read_bytes(), "image/png" if path.suffix == ".png" else "image/jpeg", spec)
        as_read = served if layout == "HWC" else np.moveaxis(served, 0, -1)
        np.testing.assert_array_equal(found, as_read, err_msg=path.name)


def test_rows_of_parquet_are_read_alike(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    spec = taken(
        ImageKind(
            kind="image", layout="HWC", mode="RGB", resize=Resize(method="nearest", crop="none"), files=EVERYTHING
        ),
        *(8, 6, 3),
    )
    paths = files(tmp_path / "folder")
    column = [{"bytes": path.read_bytes()} for path in paths]
    pq.write_table(pa.table({"image": column, "label": [0] * len(paths)}), tmp_path / "rows.parquet")
    (expected,) = data.open(tmp_path / "folder", decode=decode_for(spec)).batches(100)
    (found,) = data.open(tmp_path / "rows.parquet", decode=decode_for(spec)).batches(100)
    np.testing.assert_array_equal(found.inputs, expected.inputs)


def test_what_is_not_declared_is_refused_by_the_file(tmp_path):
    files(tmp_path)
    kind = ImageKind(kind="image", layout="HWC", mode="RGB", resize=Resize(method="bilinear", crop="none"))
    with pytest.raises(DataError, match=r"grey\.png: the picture is of mode L, expected RGB"):
        list(data.open(tmp_path, decode=decode_for(taken(kind, 8, 6, 3))).batches(100))
    (tmp_path / "a" / "cut.png").write_bytes((tmp_path / "a" / "colours.png").read_bytes()[:100])
    kind = ImageKind(kind="image", layout="HWC", mode="RGB", resize=kind.resize, files=EVERYTHING)
    with pytest.raises(DataError, match=r"cut\.png is no readable PNG or JPEG picture"):
        list(data.open(tmp_path, decode=decode_for(taken(kind, 8, 6, 3))).batches(100))


def test_without_a_treatment_pictures_are_read_as_they_are():
    kind = ImageKind(kind="image", layout="HWC", mode="RGB")
    assert decode_for(taken(kind, 8, 6, 3)) is decode
    picture = io.BytesIO()
    Image.new("RGB", (6, 8)).save(picture, "PNG")
    assert decode(picture.getvalue(), "x").shape == (8, 6, 3)
