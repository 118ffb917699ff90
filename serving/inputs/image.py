"""PNG and JPEG files as rows of grid integers: the 8-bit values themselves, exact size and mode, unless the bundle declares
what is done to others.

Size, mode and number of frames are checked from the header, before a pixel is decoded, so that a small file that
unpacks to a huge picture costs nothing. Colour profiles and gamma are ignored. What was done to a file is said with its row.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from export.bundle import ImageKind, InputSpec, picture_form
from serving.errors import InvalidInput, UnsupportedMedia
from serving.inputs import file_rows, jpeg_data, png_data, work

# The plugins themselves, not `Image.open`: that would try every format, and judge a size before we can name it.
_PNG = "image/png"
_JPEG = "image/jpeg"
_PLUGINS: dict[str, type[ImageFile]] = {_PNG: PngImageFile, _JPEG: JpegImageFile}
FORMATS = {_PNG: "PNG", _JPEG: "JPEG"}
_MAGIC = {b"\x89PNG": _PNG, b"\xff\xd8\xff": _JPEG}


def decode(data: bytes, content_type: str, spec: InputSpec) -> NDArray[np.int32]:
    """The picture in `data` as an array of the shape that `spec` declares, of 8-bit values."""
    kind, (height, width, channels) = _expected(spec)
    work.take(4 * spec.size)
    if content_type not in FORMATS:
        raise UnsupportedMedia(f"{content_type!r:.80} is not read; expected {' or '.join(FORMATS)}")
    if not data:
        raise InvalidInput(f"the body is empty; expected an {content_type} file of {width}x{height} pixels")
    picture = _open(data, content_type)
    try:
        form = picture_form.planned(picture, kind, (width, height), work.take)
    except picture_form.PictureError as error:
        raise InvalidInput(str(error)) from None
    _check_data(picture, data, content_type)
    try:
        pixels, said = form.applied(picture)
        found = np.asarray(pixels, dtype=np.int32).reshape(height, width, channels)
    except Exception as error:  # a parser of foreign bytes raises a dozen kinds
        raise _damaged(content_type, _said(error)) from None
    if kind.mode == "BGR":
        found = found[:, :, ::-1]
    row = np.ascontiguousarray(found if kind.layout == "HWC" else found.transpose(2, 0, 1))
    return file_rows.treated(row, said)


def sniffed(data: bytes) -> str | None:
    """The content type that the first bytes tell, None if it is neither PNG nor JPEG."""
    return next((content_type for magic, content_type in _MAGIC.items() if data.startswith(magic)), None)


def _expected(spec: InputSpec) -> tuple[ImageKind, tuple[int, int, int]]:
    if not isinstance(spec.kind, ImageKind) or spec.top != 255:
        raise InvalidInput(f"this model takes no pictures; send JSON or tensors of shape {list(spec.shape)}")
    return spec.kind, spec.kind.size_of(spec.shape)


def _open(data: bytes, content_type: str) -> ImageFile:
    try:
        return _PLUGINS[content_type](io.BytesIO(data))
    except Exception as error:  # as above
        raise InvalidInput(f"the body is not a readable {content_type} file ({_said(error)})") from None


def _check_data(picture: ImageFile, data: bytes, content_type: str) -> None:
    """Refuse what the decoder would fill in by itself and say nothing."""
    if content_type == _PNG:
        if not png_data.complete(data):
            raise _damaged(content_type, "its pixels are not all there")
        return
    try:
        jpeg_data.check(data, *picture.size, cmyk=picture.mode == "CMYK")
    except Exception as error:  # as above
        raise _damaged(content_type, _said(error)) from None


def _damaged(content_type: str, what: str) -> InvalidInput:
    return InvalidInput(f"the {content_type} file is truncated or damaged ({what}); send it again")


def _said(error: Exception) -> str:
    return str(error)[:120] or type(error).__name__
