"""A JPEG whose scan is cut decodes to something, whether or not its last mark was kept: it has to be refused."""

from __future__ import annotations

import contextlib
import io
import itertools

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageCms

from serving.errors import InvalidInput
from serving.inputs import image, jpeg_data
from tests.serving.wires.fake_gateway import manifest

END = b"\xff\xd9"


def picture(height=40, width=24, channels=1, seed=0):
    """Neither smooth nor noise, so that scans have coefficients of every kind, and blocks without any."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    grey = 127 + 90 * np.sin(x / 5) * np.cos(y / 7) + rng.normal(0, 12, (height, width)) * (x > width / 2)
    grey = grey.clip(0, 255).astype(np.uint8)
    return grey if channels == 1 else np.stack([grey, grey[::-1], 255 - grey], axis=-1)


def jpeg(pixels, **settings):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **settings)
    return file.getvalue()


def spec_of(pixels):
    return manifest(shape=(*pixels.shape[:2], 1 if pixels.ndim == 2 else 3), layout="HWC").input


def decoded(data, pixels):
    return image.decode(data, "image/jpeg", spec_of(pixels))


def as_pillow_has_it(data, pixels):
    found = np.asarray(Image.open(io.BytesIO(data)))
    return found.reshape(*pixels.shape[:2], -1)


def scans(data):
    """Where each scan's entropy-coded data begin and end, by a walk of the test's own."""
    found, place = [], 2
    while data[place + 1] != 0xD9:
        kind, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        place += 2 + length
        if kind == 0xDA:
            begin = place
            while data[place] != 0xFF or data[place + 1] == 0 or 0xD0 <= data[place + 1] <= 0xD7:
                place += 1
            found.append((begin, place))
    return found


KINDS = {
    "baseline": {},
    "baseline, its own codes": {"optimize": True},
    "progressive": {"progressive": True},
    "baseline with restarts": {"restart_marker_blocks": 2},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
}
FORMS = [
    (f"{kind}, {name}", settings | more, channels)
    for kind, settings in KINDS.items()
    for name, more, channels in [
        ("grey", {}, 1),
        ("4:4:4", {"subsampling": 0}, 3),
        ("4:2:2", {"subsampling": 1}, 3),
        ("4:2:0", {"subsampling": 2}, 3),
        ("RGB", {"keep_rgb": True}, 3),
    ]
]
forms = pytest.mark.parametrize(("settings", "channels"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])


@forms
@pytest.mark.parametrize("quality", [1, 30, 75, 100])
def test_an_honest_file_gives_its_pixels(settings, channels, quality):
    for height, width in ((40, 24), (8, 8), (1, 1), (17, 33)):
        pixels = picture(height, width, channels)
        data = jpeg(pixels, quality=quality, **settings)
        assert np.array_equal(decoded(data, pixels), as_pillow_has_it(data, pixels))


@pytest.mark.parametrize("quality", range(1, 101, 3))
def test_every_quality_is_read(quality):
    for pixels, progressive in itertools.product((picture(), picture(channels=3)), (False, True)):
        decoded(jpeg(pixels, quality=quality, progressive=progressive), pixels)


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411"])
def test_another_encoder_is_read(sampling):
    pixels = picture(channels=3)
    for quality, fast in itertools.product((5, 50, 95), (False, True)):
        data = simplejpeg.encode_jpeg(pixels, quality, colorsubsampling=sampling, fastdct=fast)
        assert np.array_equal(decoded(data, pixels), as_pillow_has_it(data, pixels))


def with_segments(data):
    """Fill bytes, a comment, and an application's segment that looks like a picture of its own."""
    thumbnail = jpeg(picture(8, 8))
    segment = b"\xff\xe7" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail
    comment = b"\xff\xff\xff\xfe" + (2 + 6).to_bytes(2, "big") + b"\xff\xd9\xff\xda\xff\xc0"
    return data[:2] + comment + segment + data[2:]


def exif():
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags.tobytes()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "dressed",
    [
        lambda pixels, **more: jpeg(pixels, exif=exif(), **more),
        lambda pixels, **more: jpeg(pixels, comment=b"\xff\xd9 hello " * 5_000, **more),
        lambda pixels, **more: jpeg(
            pixels, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), **more
        ),
        lambda pixels, **more: jpeg(pixels, icc_profile=bytes(150_000), dpi=(300, 300), **more),
        lambda pixels, **more: with_segments(jpeg(pixels, **more)),
        lambda pixels, **more: jpeg(pixels, **more) + b"\0" * 7,
        lambda pixels, **more: jpeg(pixels, **more) + b"\xff\xda behind the end " + END,
        lambda pixels, **more: jpeg(pixels, **more) + jpeg(pixels),
        lambda pixels, **more: jpeg(pixels, qtables=[list(range(1, 65))] * 2, **more),
    ],
    ids=["EXIF", "comment", "ICC", "long ICC", "segments", "zeros behind", "marks behind", "another behind", "tables"],
)
def test_what_stands_beside_the_pixels_does_not_matter(dressed, progressive):
    pixels = picture(channels=3)
    data = dressed(pixels, progressive=progressive)
    assert np.array_equal(decoded(data, pixels), as_pillow_has_it(data, pixels))


@forms
def test_a_cut_scan_is_refused_with_its_end_mark_and_without(settings, channels):
    """Cut at every eleventh byte from the first scan on, and at each of the last ones."""
    pixels = picture(channels=channels)
    data = jpeg(pixels, quality=60, **settings)
    first = scans(data)[0][0]
    for cut in [*range(first, len(data) - 12, 11), *range(len(data) - 12, len(data) - 2)]:
        for end in (END, b"\xff" + END, b"\xff\xd0" + END, b""):
            with pytest.raises(InvalidInput, match="truncated or damaged"):
                decoded(data[:cut] + end, pixels)


@forms
def test_a_scan_that_lacks_bytes_is_refused_though_what_follows_it_is_there(settings, channels):
    pixels = picture(channels=channels)
    data = jpeg(pixels, quality=90, **settings)
    for begin, end in scans(data):
        for gone in {1, 2, (end - begin) // 2, end - begin}:
            with pytest.raises(InvalidInput, match="truncated or damaged"):
                decoded(data[: end - gone] + data[end:], pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_whole_scans_that_are_missing_are_missed(channels):
    """The decoder says nothing of them: it gives a picture that is blurred, or lacks a colour."""
    pixels = picture(channels=channels)
    data = jpeg(pixels, quality=90, progressive=True)
    ends = [end for _, end in scans(data)]
    for end in ends[:-1]:
        short = data[:end] + END
        assert as_pillow_has_it(short, pixels).shape == (*pixels.shape[:2], channels)
        with pytest.raises(InvalidInput, match="scans are missing"):
            decoded(short, pixels)
    decoded(data[: ends[-1]] + END, pixels)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_restart_interval_that_is_missing_is_missed(progressive):
    pixels = picture(32, 48)
    data = jpeg(pixels, quality=90, progressive=progressive, restart_marker_blocks=1)
    begin, end = scans(data)[0]
    marks = [place for place in range(begin, end - 1) if data[place] == 0xFF and 0xD0 <= data[place + 1] <= 0xD7]
    for first, after in itertools.combinations([begin - 2, *marks, end], 2):
        if after - first < end - begin and (first, after) != (begin - 2, end):
            with pytest.raises(InvalidInput, match="truncated or damaged"):
                decoded(data[: max(first, begin)] + data[after:], pixels)


def frame_of(data, marker):
    """The file with another kind of frame declared."""
    place = data.index(b"\xff\xc0")
    return data[: place + 1] + bytes([marker]) + data[place + 2 :]


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_codings_that_cannot_be_checked_are_refused(marker):
    with pytest.raises(ValueError, match="Huffman codes are read"):
        jpeg_data.check(frame_of(jpeg(picture()), marker), 24, 40)


def many_scans():
    data = jpeg(picture(), progressive=True)
    begin, end = scans(data)[-1]
    header = data.rindex(b"\xff\xda", 0, begin)
    return data[:end] + data[header:end] * 100 + END


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin"),
        (b"\xff\xd8", "without its last mark"),
        (b"\xff\xd8" + END, "no frame"),
        (jpeg(picture())[:-2] + b"\xff\xc0\x00\x0b\x08\x00\x28\x00\x18\x01\x01\x11\x00" + END, "two frames"),
        (jpeg(picture(8, 8)), "another size"),
        (b"\xff\xd8\xff\xda\x00\x02" + END, "before its frame"),
        (b"\xff\xd8\xff\xe0\x00\x00" + END, "a segment is cut"),
        (b"\xff\xd8\xff\xe0\xff\xff" + END, "a segment is cut"),
        (b"\xff\xd8\xff\xc0\x00\x03\x00" + END, "frame is damaged"),
        (many_scans(), "more than 100 scans"),
    ],
)
def test_what_is_no_whole_file_says_why(data, message):
    with pytest.raises(ValueError, match=message):
        jpeg_data.check(data, 24, 40)


def test_any_byte_changed_gives_a_picture_or_a_refusal():
    pixels = picture(16, 16)
    for progressive in (False, True):
        data = jpeg(pixels, progressive=progressive)
        for place, value in itertools.product(range(0, len(data), 2), (0x00, 0xFF, 0xD9, 0xDA)):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            with contextlib.suppress(InvalidInput):
                assert decoded(changed, pixels).shape == (16, 16, 1)
