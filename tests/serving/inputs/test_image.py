from __future__ import annotations

import contextlib
import io
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from serving.errors import InvalidInput, UnsupportedMedia
from serving.inputs import image
from tests.serving.wires.fake_gateway import manifest
from tests.serving.wires.pictures import animated, blank, encoded, grey, interlaced_png, png_of

GREY = manifest().input
COLOUR = manifest(shape=(3, 8, 8)).input
LAST = manifest(shape=(8, 8, 3), layout="HWC").input


@given(arrays(np.uint8, (28, 28)))
@settings(max_examples=25)
def test_a_png_gives_its_values(pixels):
    row = image.decode(encoded(pixels), "image/png", GREY)
    assert row.dtype == np.int32
    assert np.array_equal(row, pixels[None])


@given(arrays(np.uint8, (8, 8, 3)))
@settings(max_examples=25)
def test_colours_lie_where_the_layout_says(pixels):
    data = encoded(pixels)
    assert np.array_equal(image.decode(data, "image/png", LAST), pixels)
    assert np.array_equal(image.decode(data, "image/png", COLOUR), pixels.transpose(2, 0, 1))


def test_an_interlaced_png_is_read():
    pixels = grey(size=28)
    interlaced = interlaced_png(pixels)
    assert np.array_equal(image.decode(interlaced, "image/png", GREY)[0], pixels)
    with pytest.raises(InvalidInput, match="not all there"):
        image.decode(interlaced_png(pixels, cut=5), "image/png", GREY)


def test_a_jpeg_gives_what_it_decodes_to():
    data = encoded(grey(), "JPEG")
    assert np.array_equal(image.decode(data, "image/jpeg", GREY)[0], np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("data", "content_type", "said"),
    [
        (b"", "image/png", "empty"),
        (b"hello", "image/png", "not a readable image/png"),
        (blank(form="JPEG"), "image/png", "not a readable image/png"),
        (blank(size=(27, 28)), "image/png", "27x28 pixels, expected 28x28"),
        (blank(size=(28, 28), mode="RGB"), "image/png", "mode RGB, expected L"),
        (blank(mode="RGBA"), "image/png", "mode RGBA"),
        (blank(mode="P"), "image/png", "mode P"),
        (blank(mode="1"), "image/png", "mode 1"),
        (blank(mode="I;16"), "image/png", "expected L, 8-bit greyscale"),
        (png_of(28, 28, depth=4), "image/png", "expected L, 8-bit greyscale"),
        (blank(mode="CMYK", form="JPEG"), "image/jpeg", "mode CMYK"),
        (blank(size=(20, 20), form="JPEG"), "image/jpeg", "20x20"),
        (animated(), "image/png", "2 frames, expected one"),
        (png_of(28, 28, data=b"\0" * 29), "image/png", "truncated or damaged"),
        (png_of(28, 28, data=b"\0" * 27 * 29), "image/png", "not all there"),
        (png_of(28, 28, data=b"\0" * 29 * 29), "image/png", "not all there"),
        (png_of(20_000, 20_000), "image/png", "20000x20000 pixels, expected 28x28"),
        (png_of(2**31 - 1, 2**31 - 1), "image/png", "expected 28x28"),
    ],
)
def test_what_is_wrong_is_said(data, content_type, said):
    with pytest.raises(InvalidInput, match=said):
        image.decode(data, content_type, GREY)


def test_another_type_is_unsupported():
    with pytest.raises(UnsupportedMedia, match="expected image/png or image/jpeg"):
        image.decode(b"GIF89a", "image/gif", GREY)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_every_truncation_is_refused_or_complete(form):
    pixels = grey()
    data, whole = encoded(pixels, form), image.decode(encoded(pixels, form), f"image/{form.lower()}", GREY)
    for length in range(len(data)):
        try:
            row = image.decode(data[:length], f"image/{form.lower()}", GREY)
        except InvalidInput:
            continue
        # A JPEG file may lack the mark of its end.
        assert np.array_equal(row, whole)
        assert form == "JPEG"
        assert length >= len(data) - 2


def test_a_bomb_is_not_decoded():
    data = png_of(20_000, 20_000, data=b"\0" * 20_001 * 200)
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(InvalidInput, match="resize it"):
        image.decode(data, "image/png", GREY)
    spent = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 0.5
    assert peak < 5 * 2**20


def test_a_model_without_pictures_says_so():
    with pytest.raises(InvalidInput, match="takes no pictures"):
        image.decode(blank(), "image/png", manifest(shape=(4,), layout="features").input)
    with pytest.raises(InvalidInput, match="takes no pictures"):
        image.decode(blank(), "image/png", manifest(high=15.0).input)
    with pytest.raises(InvalidInput, match="takes no pictures"):
        image.decode(blank(), "image/png", manifest(shape=(2, 28, 28), layout="features").input)


@given(st.binary(max_size=200), st.sampled_from(tuple(image.FORMATS)), st.integers(0, 60), st.integers(0, 255))
@settings(max_examples=300)
def test_no_bytes_raise_anything_else(data, content_type, place, value):
    picture = bytearray(encoded(grey(), content_type.removeprefix("image/").upper()))
    picture[place % len(picture)] = value
    for candidate in (data, b"\x89PNG\r\n\x1a\n" + data, b"\xff\xd8\xff" + data, bytes(picture)):
        with contextlib.suppress(InvalidInput):
            image.decode(candidate, content_type, GREY)
