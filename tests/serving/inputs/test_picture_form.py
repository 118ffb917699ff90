"""Pictures of other forms: refused as they are, or treated as the bundle declares, and the answer says what was done."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from export.bundle import Resize, Treatments
from serving.config import Limits
from serving.errors import InvalidInput
from serving.gateway.resolve import resolve
from serving.inputs import image, registry
from serving.messages import Options, PredictRequest
from serving.wires import answer_document
from serving.wires.open_inference import oip
from serving.wires.typed import certserve_document
from tests.declared import spec
from tests.serving.wires.fake_gateway import answer, model, prediction
from tests.serving.wires.pictures import encoded, png_of

RNG = np.random.default_rng(2)
GREY, COLOUR = RNG.integers(0, 256, (6, 8), np.uint8), RNG.integers(0, 256, (6, 8, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (6, 8), np.uint8)


def png(picture, **settings):
    file = io.BytesIO()
    picture.save(file, "PNG", **settings)
    return file.getvalue()


def of(mode, layout="CHW", size=(6, 8), resize=None, **files):
    channels = 1 if mode == "L" else 3
    shape = (channels, *size) if layout == "CHW" else (*size, channels)
    return spec(shape, layout, mode=mode, resize=resize, files=Treatments(**files))


def read(data, declared, content_type="image/png"):
    row = image.decode(data, content_type, declared)
    pixels = np.asarray(row if declared.layout == "HWC" else row.transpose(1, 2, 0))
    return (pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), list(getattr(row, "said", ()))


def palette():
    return Image.fromarray(COLOUR).quantize(16)


def sixteen(values):
    return png_of(8, 6, depth=16, data=b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))


def few_bits(values, bits):
    rows = [b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for row in values]
    return png_of(8, 6, depth=bits, data=b"".join(rows))


def composed(below):
    shown = Image.new("RGBA", (8, 6), (below, below, below, 255))
    over = Image.fromarray(np.dstack([COLOUR, ALPHA]))
    return np.asarray(Image.alpha_composite(shown, over).convert("RGB"))


DEEP = RNG.integers(0, 2**16, (6, 8)).astype(np.uint16)
WITH_ALPHA = np.dstack([COLOUR, ALPHA])
LUMINANCE = np.asarray(Image.fromarray(COLOUR).convert("L"))
CASES = {
    "a palette": (
        "RGB",
        {"palette": "expanded"},
        png(palette()),
        np.asarray(palette().convert("RGB")),
        "palette expanded",
    ),
    "alpha dropped": ("RGB", {"alpha": "dropped"}, encoded(WITH_ALPHA), COLOUR, "transparency dropped"),
    "alpha on black": ("RGB", {"alpha": "on black"}, encoded(WITH_ALPHA), composed(0), "transparency on black"),
    "alpha on white": ("RGB", {"alpha": "on white"}, encoded(WITH_ALPHA), composed(255), "transparency on white"),
    "grey with alpha": ("L", {"alpha": "dropped"}, encoded(np.dstack([GREY, ALPHA])), GREY, "transparency dropped"),
    "sixteen bits": ("L", {"depth": "converted"}, sixteen(DEEP), DEEP >> 8, "converted to 8 bits"),
    "four bits": ("L", {"depth": "converted"}, few_bits(GREY >> 4, 4), (GREY >> 4) * 17, "converted to 8 bits"),
    "one bit": ("L", {"depth": "converted"}, few_bits(GREY >> 7, 1), (GREY >> 7) * 255, "converted to 8 bits"),
    "colours for grey": ("L", {"colours": "converted"}, encoded(COLOUR), LUMINANCE, "RGB converted to L"),
    "grey for colours": ("RGB", {"colours": "converted"}, encoded(GREY), np.dstack([GREY] * 3), "L converted to RGB"),
}


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("case", CASES)
def test_a_form_is_refused_unless_its_treatment_is_declared(case, layout):
    mode, treatment, data, expected, said = CASES[case]
    with pytest.raises(InvalidInput, match="the picture is of mode .* convert it before sending"):
        read(data, of(mode, layout))
    others = {name: value for each in CASES.values() for name, value in each[1].items() if name not in treatment}
    with pytest.raises(InvalidInput, match="convert it before sending"):
        read(data, of(mode, layout, **others))
    pixels, told = read(data, of(mode, layout, **treatment))
    assert np.array_equal(pixels, expected)
    assert told == [said]


def test_several_treatments_come_one_after_another():
    data = png(palette().rotate(90, expand=True))
    everything = {"palette": "expanded", "colours": "converted"}
    pixels, told = read(data, of("L", size=(8, 6), **everything))
    assert np.array_equal(pixels, np.asarray(palette().rotate(90, expand=True).convert("RGB").convert("L")))
    assert told == ["palette expanded", "RGB converted to L"]


def test_cmyk_is_converted_where_that_is_declared():
    file = io.BytesIO()
    Image.fromarray(COLOUR).convert("CMYK").save(file, "JPEG")
    with pytest.raises(InvalidInput, match="mode CMYK"):
        read(file.getvalue(), of("RGB"), "image/jpeg")
    pixels, told = read(file.getvalue(), of("RGB", cmyk="converted"), "image/jpeg")
    assert np.array_equal(pixels, np.asarray(Image.open(file).convert("RGB")))
    assert told == ["CMYK converted to RGB"]
    with pytest.raises(InvalidInput, match="truncated or damaged"):
        read(file.getvalue()[:-60] + file.getvalue()[-2:], of("RGB", cmyk="converted"), "image/jpeg")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_camera_says_where_that_is_declared(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = png(Image.fromarray(GREY), exif=exif)
    from PIL import ImageOps

    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    pixels, told = read(data, of("L", size=expected.shape, orientation="applied"))
    assert np.array_equal(pixels, expected)
    assert told == ([f"turned by its orientation {orientation}"] if orientation > 1 else [])
    assert np.array_equal(read(data, of("L"))[0], GREY)
    if orientation > 1:
        with pytest.raises(InvalidInput, match=f"orientation {orientation}; turn it before sending"):
            read(data, of("L", orientation="refused"))


@pytest.mark.parametrize("mode", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_colours_come_in_the_order_of_the_mode(mode, layout):
    pixels, told = read(encoded(COLOUR), of(mode, layout))
    assert np.array_equal(pixels, COLOUR if mode == "RGB" else COLOUR[:, :, ::-1])
    assert told == []


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_another_size_is_refused_or_stretched(method):
    data = encoded(np.repeat(np.repeat(GREY, 3, axis=0), 2, axis=1))
    with pytest.raises(InvalidInput, match="16x18 pixels, expected 8x6; resize it before sending"):
        read(data, of("L"))
    pixels, told = read(data, of("L", resize=Resize(method=method, crop="none")))
    way = getattr(Image.Resampling, method.upper())
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).resize((8, 6), way)))
    assert told == [f"resized from 16x18 to 8x6, {method}, crop none"]
    assert read(encoded(GREY), of("L", resize=Resize(method=method, crop="none")))[1] == []


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (9, 30), (3, 5)])
def test_the_middle_is_cut_out_of_a_picture_whose_shorter_side_was_made_to_measure(size):
    """A picture whose middle is of one colour and whose ends are of another: the ends go where the crop says so."""
    rows, columns = np.indices(size)
    longer, place = (size[1], columns) if size[1] > size[0] else (size[0], rows)
    pixels = np.where(np.abs(place - (longer - 1) / 2) <= min(size) / 2, 200, 10).astype(np.uint8)
    found, told = read(encoded(pixels), of("L", size=(4, 4), resize=Resize(method="nearest", crop="centre")))
    assert np.all(found == 200)
    assert told[0].startswith(f"resized from {size[1]}x{size[0]} to 4x4")
    wide = of("L", size=(4, 4), resize=Resize(method="nearest", crop="centre", shorter=8))
    assert np.all(read(encoded(pixels), wide)[0] == 200)


def test_a_huge_picture_is_not_resized_and_a_damaged_one_is_refused_before():
    declared = of("L", resize=Resize(method="bilinear", crop="none"))
    with pytest.raises(InvalidInput, match="more than the 33,554,432 that are resized"):
        read(png_of(10_000, 10_000), declared)
    whole = encoded(np.zeros((60, 60), np.uint8))
    for length in range(40, len(whole) - 12, 7):
        with pytest.raises(InvalidInput):
            read(whole[:length], declared)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resize": {"method": "guess", "crop": "none"}}, "method"),
        (
            {"resize": {"method": "bilinear", "crop": "none", "shorter": 9}},
            "resize.shorter goes with resize.crop centre",
        ),
        ({"files": {"alpha": "on green"}}, "alpha"),
        ({"files": {"gamma": "applied"}}, "gamma"),
    ],
)
def test_a_treatment_that_is_none_is_no_manifest(change, said):
    with pytest.raises(ValueError, match=said):
        spec((1, 6, 8), "CHW", **change)
    with pytest.raises(ValueError, match="8 or more, the longer side"):
        of("L", resize=Resize(method="bilinear", crop="centre", shorter=7))


def test_what_was_done_to_a_file_is_in_the_answer_on_every_wire():
    declared = of("RGB", alpha="dropped", colours="converted")
    rows = registry.rows([("a", encoded(WITH_ALPHA)), ("b", encoded(COLOUR)), ("c", encoded(GREY))], declared)
    request = PredictRequest(model="pictures", version=None, inputs=rows, options=Options())
    served = model(input=declared)
    _, notes = resolve(request, served, Limits(), b"s" * 32)
    treated = [("transparency dropped",), None, ("L converted to RGB",)]
    assert [note and note.treated for note in notes] == treated
    found = answer(*(prediction(input=note) for note in notes), of=served)
    said = answer_document.rows(found, Options())
    assert [row.get("input") for row in said] == [
        each and {"snapped": False, "snap_distance": 0.0, "treated": list(each)} for each in treated
    ]
    assert certserve_document.document(certserve_document.message(said))["predictions"] == said
    assert (
        oip.answer_parameters(found, served)["certserve.treated"]
        == '[["transparency dropped"], [], ["L converted to RGB"]]'
    )
