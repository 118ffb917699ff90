"""Pictures of a data set, read as the server of a bundle reads them, with what it declares of other sizes and forms."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.bundle import ImageKind, InputSpec, Treatments, picture_form
from export.data import DataError
from export.data.picture_file import FORMATS, Decode, decode, unreadable


def decode_for(spec: InputSpec) -> Decode:
    """How the server of a bundle with these inputs reads a picture, with what it declares of other sizes and forms."""
    kind = spec.kind
    if not isinstance(kind, ImageKind) or (kind.resize is None and kind.files == Treatments() and kind.mode != "BGR"):
        return decode
    return formed(kind, kind.size_of(spec.shape))


def formed(kind: ImageKind, size: tuple[int, int, int]) -> Decode:
    """The same for pictures of this kind and size: height, width and channels."""

    def read_as_served(data: bytes, where: str) -> NDArray[np.uint8]:
        try:
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            made, _ = picture_form.planned(picture, kind, (size[1], size[0])).applied(picture)
        except picture_form.PictureError as error:
            raise DataError(f"{where}: {error}") from None
        except Exception as error:  # a parser of foreign bytes raises a dozen kinds
            raise unreadable(where, error) from error
        pixels = np.asarray(made, dtype=np.uint8).reshape(size)
        return pixels[:, :, ::-1] if kind.mode == "BGR" else pixels

    return read_as_served
