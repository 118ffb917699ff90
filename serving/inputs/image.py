"""PNG and JPEG files as rows of grid integers: the 8-bit values themselves, exact size and mode, nothing resized.

Size, mode and number of frames are checked from the header, before a pixel is decoded, so that a small file that
unpacks to a huge picture costs nothing. Colour profiles, gamma and orientation tags are ignored.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from export.bundle import ImageKind, InputSpec
from serving.errors import InvalidInput, UnsupportedMedia
from serving.inputs import jpeg_data, png_data, work

# The plugins themselves, not `Image.open`: that would try every format, and judge a size before we can name it.
_PNG = "image/png"
_JPEG = "image/jpeg"
_PLUGINS: dict[str, type[ImageFile]] = {_PNG: PngImageFile, _JPEG: JpegImageFile}
FORMATS = {_PNG: "PNG", _JPEG: "JPEG"}
_MAGIC = {b"\x89PNG": _PNG, b"\xff\xd8\xff": _JPEG}
_MODES = {1: ("L", "8-bit greyscale"), 3: ("RGB", "8-bit RGB")}


def decode(data: bytes, content_type: str, spec: InputSpec) -> NDArray[np.int32]:
    """The picture in `data` as an array of the shape that `spec` declares, of 8-bit values."""
    height, width, channels = _expected(spec)
    work.take(4 * spec.size)
    if content_type not in FORMATS:
        raise UnsupportedMedia(f"{content_type!r:.80} is not read; expected {' or '.join(FORMATS)}")
    if not data:
        raise InvalidInput(f"the body is empty; expected an {content_type} file of {width}x{height} pixels")
    picture = _open(data, content_type)
    _check_header(picture, width, height, channels)
    _check_data(picture, data, content_type, channels)
    pixels = _pixels(picture, content_type, (height, width, channels))
    return np.ascontiguousarray(pixels if spec.layout == "HWC" else pixels.transpose(2, 0, 1))


def sniffed(data: bytes) -> str | None:
    """The content type that the first bytes tell, None if it is neither PNG nor JPEG."""
    return next((content_type for magic, content_type in _MAGIC.items() if data.startswith(magic)), None)


def _expected(spec: InputSpec) -> tuple[int, int, int]:
    if not isinstance(spec.kind, ImageKind) or spec.top != 255:
        raise InvalidInput(f"this model takes no pictures; send JSON or tensors of shape {list(spec.shape)}")
    return spec.kind.size_of(spec.shape)


def _open(data: bytes, content_type: str) -> ImageFile:
    try:
        return _PLUGINS[content_type](io.BytesIO(data))
    except Exception as error:  # a parser of foreign bytes raises a dozen kinds
        raise InvalidInput(f"the body is not a readable {content_type} file ({_said(error)})") from None


def _check_header(picture: ImageFile, width: int, height: int, channels: int) -> None:
    mode, name = _MODES[channels]
    got = f"{picture.width}x{picture.height} pixels"
    if picture.size != (width, height):
        raise InvalidInput(f"the picture has {got}, expected {width}x{height}; resize it before sending")
    frames = getattr(picture, "n_frames", 1)
    if frames != 1:
        raise InvalidInput(f"the picture has {frames} frames, expected one")
    # A file with another depth is opened in a mode of 8 bits; only its raw mode tells.
    raw = picture.tile[0].args if picture.tile else None
    raw_mode = raw[0] if isinstance(raw, tuple) else raw
    if picture.mode != mode or raw_mode != mode:
        found = picture.mode if raw_mode in (None, picture.mode) else f"{picture.mode} (stored as {raw_mode})"
        raise InvalidInput(f"the picture is of mode {found}, expected {mode}, {name}; convert it before sending")


def _check_data(picture: ImageFile, data: bytes, content_type: str, channels: int) -> None:
    """Refuse what the decoder would fill in by itself and say nothing."""
    if content_type == _PNG:
        if not png_data.complete(data, *picture.size, channels, bool(picture.info.get("interlace"))):
            raise _damaged(content_type, "its pixels are not all there")
        return
    try:
        jpeg_data.check(data, *picture.size)
    except Exception as error:  # as above
        raise _damaged(content_type, _said(error)) from None


def _pixels(picture: ImageFile, content_type: str, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    try:
        picture.load()
        return np.asarray(picture, dtype=np.int32).reshape(shape)
    except Exception as error:  # as above
        raise _damaged(content_type, _said(error)) from None


def _damaged(content_type: str, what: str) -> InvalidInput:
    return InvalidInput(f"the {content_type} file is truncated or damaged ({what}); send it again")


def _said(error: Exception) -> str:
    return str(error)[:120] or type(error).__name__
