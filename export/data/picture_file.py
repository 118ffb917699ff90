"""One PNG or JPEG file as 8-bit values, exactly as a server of pictures would take it: nothing is converted."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from export import regular_file
from export.data.dataset import DataError

Decode = Callable[[bytes, str], NDArray[np.uint8]]
"""The picture in a file's bytes as uint8 [height, width, channels]; the text names it in errors. Raises `DataError`."""

ENDINGS = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
_UPRIGHT = 1
_ORIENTATION = 0x0112
_MEND = {
    "P": "it has a palette; convert it to RGB",
    "PA": "it has a palette with transparency; put it before a background and convert it to RGB",
    "LA": "it has transparency; put it before a background and convert it to greyscale",
    "RGBA": "it has transparency; put it before a background and convert it to RGB",
    "CMYK": "its colours are CMYK; convert it to RGB",
    "1": "it has one bit a pixel; convert it to 8-bit greyscale",
    "I;16": "it has 16 bits a channel; convert it to 8",
    "I;16B": "it has 16 bits a channel; convert it to 8",
    "I": "it has more than 8 bits a channel; convert it to 8",
    "F": "it holds floating-point numbers; convert it to 8-bit greyscale or RGB",
}


def decode(data: bytes, where: str) -> NDArray[np.uint8]:
    """The picture in `data` as uint8 [height, width, 1 or 3]; `where` names it in errors. Raises `DataError`."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        _refuse_what_is_not_plain(picture, where)
        picture.load()  # raises for what is cut short
        if picture.format == "PNG":
            Image.open(io.BytesIO(data), formats=("PNG",)).verify()  # the checksums
    except DataError:
        raise
    except Exception as error:  # a parser of foreign bytes raises a dozen kinds
        raise unreadable(where, error) from error
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels.reshape(picture.height, picture.width, -1)


def read(path: Path, decoded: Decode = decode) -> NDArray[np.uint8]:
    """The picture in a file, as `decode`."""
    try:
        data = regular_file.read(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); mend or remove it") from error
    return decoded(data, str(path))


def refuse_other_shape(pixels: NDArray[np.uint8], expected: tuple[int, ...], where: str) -> None:
    """All pictures of a data set have the size and the channels of its first."""
    if pixels.shape != expected:
        raise DataError(
            f"{where} has {_shown(pixels.shape)}, the first picture of this data set {_shown(expected)}; resize or convert"
            " the pictures to one size and mode before, or export the model with --resize and --pictures"
        )


def _refuse_what_is_not_plain(picture: ImageFile.ImageFile, where: str) -> None:
    raw = picture.tile[0].args if picture.tile else None
    stored = raw[0] if isinstance(raw, tuple) else raw
    mode = stored if isinstance(stored, str) and stored in _MEND else picture.mode
    if "transparency" in picture.info and mode in ("L", "RGB"):
        raise DataError(f"{where}: one of its colours is transparent; put it before a background")
    if mode not in ("L", "RGB") or (isinstance(stored, str) and ";16" in stored):
        raise DataError(f"{where}: {_MEND.get(mode, f'it is of mode {mode}; convert it to 8-bit greyscale or RGB')}")
    if getattr(picture, "n_frames", 1) != 1:
        raise DataError(f"{where} has several frames; keep one of them")
    if picture.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT:
        raise DataError(f"{where}: its EXIF tag says that it has to be turned; turn the pixels and remove the tag")


def unreadable(where: str, error: Exception) -> DataError:
    """What is said of a file that no decoder takes."""
    return DataError(f"{where} is no readable PNG or JPEG picture ({_said(error)}); mend or remove it")


def _shown(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} pixels, {'greyscale' if shape[2] == 1 else 'RGB'}"


def _said(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # which would tell where its bytes are in memory
        return "it is empty, or of another form"
    return str(error)[:120] or type(error).__name__
