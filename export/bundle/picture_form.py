"""What has to be done to a picture to be of the form that a bundle takes: planned from its header, refused unless declared.

In this order: depth, colours out of tables, CMYK, transparency, orientation, grey or colours, size. Each is in the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from export.bundle.picture_spec import ImageKind, Resize

_NAMES = {"L": "8-bit greyscale", "RGB": "8-bit RGB"}
_METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORIENTATION = 0x0112
_TURNED = range(5, 9)
"""Orientations under which width and height change places."""
_MOST_PIXELS = 2**25
_PLAIN = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "P": "P", "CMYK": "CMYK"}


class PictureError(ValueError):
    """A picture is of a form whose treatment is not declared; the message, of one line, says which."""


@dataclass(frozen=True, slots=True)
class Form:
    """The steps for one picture, planned from its header, by what they make of it."""

    kind: ImageKind
    size: tuple[int, int]
    deep: bool
    orientation: int

    def applied(self, picture: ImageFile) -> tuple[Image.Image, list[str]]:
        """The picture in the form, and what was done to it. Raises whatever the decoder does."""
        picture.load()
        said: list[str] = []
        made = self._whole(picture, said)
        made = self._opaque(made, said)
        if self.orientation > 1 and self.kind.files.orientation == "applied":
            made = _turned(made, self.orientation)
            said.append(f"turned by its orientation {self.orientation}")
        mode = "L" if self.kind.mode == "L" else "RGB"
        if made.mode != mode:
            said.append(f"{made.mode} converted to {mode}")
            made = made.convert(mode)
        return _sized(made, self.size, self.kind.resize, said), said

    def _whole(self, picture: Image.Image, said: list[str]) -> Image.Image:
        """Eight bits a channel, and colours instead of places in a table."""
        if self.deep:
            said.append("converted to 8 bits")
            if picture.mode.startswith("I"):
                high = np.asarray(picture).astype(np.int64) >> 8
                return Image.fromarray(high.astype(np.uint8), "L")
            return picture.convert("L") if picture.mode == "1" else picture
        if picture.mode == "P":
            said.append("palette expanded")
            return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        if picture.mode == "CMYK":
            said.append("CMYK converted to RGB")
            return picture.convert("RGB")
        return picture

    def _opaque(self, picture: Image.Image, said: list[str]) -> Image.Image:
        if picture.mode not in ("LA", "RGBA"):
            return picture
        plain, way = picture.mode.removesuffix("A"), self.kind.files.alpha
        said.append(f"transparency {way}")
        if way == "dropped":
            return picture.convert(plain)
        below = Image.new("RGBA", picture.size, (0, 0, 0, 255) if way == "on black" else (255, 255, 255, 255))
        return Image.alpha_composite(below, picture.convert("RGBA")).convert(plain)


def planned(
    picture: ImageFile, kind: ImageKind, size: tuple[int, int], take: Callable[[int], None] | None = None
) -> Form:
    """The form for a picture of which the header is read; `size` is width and height. Raises `PictureError`.

    `take` is told how many bytes a resize needs, before it has them.
    """
    frames = getattr(picture, "n_frames", 1)
    if frames != 1:
        raise PictureError(f"the picture has {frames} frames, expected one")
    orientation = _orientation(picture, kind)
    turned = orientation in _TURNED and kind.files.orientation == "applied"
    if _check_size(picture.size[::-1] if turned else picture.size, size, kind.resize) and take:
        take(8 * picture.size[0] * picture.size[1])
    return Form(kind, size, _check_mode(picture, kind), orientation)


def _orientation(picture: ImageFile, kind: ImageKind) -> int:
    if kind.files.orientation == "ignored":
        return 1
    try:
        found = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged note is none
        found = 1
    if found not in range(1, 9):
        found = 1
    if found != 1 and kind.files.orientation == "refused":
        raise PictureError(f"the picture is to be turned by its orientation {found}; turn it before sending")
    return int(found)


def _check_size(found: tuple[int, int], wanted: tuple[int, int], resize: Resize | None) -> bool:
    """Whether the picture has to be resized."""
    (width, height), got = wanted, f"{found[0]}x{found[1]} pixels"
    if found == wanted:
        return False
    if resize is None:
        raise PictureError(f"the picture has {got}, expected {width}x{height}; resize it before sending")
    if found[0] * found[1] > _MOST_PIXELS:
        raise PictureError(f"the picture has {got}, more than the {_MOST_PIXELS:,} that are resized; make it smaller")
    return True


def _check_mode(picture: ImageFile, kind: ImageKind) -> bool:
    """Refuse forms whose treatment is not declared; whether the depth is another than 8 bits."""
    # A file with another depth is opened in a mode of 8 bits; only its raw mode tells.
    raw = picture.tile[0].args if picture.tile else None
    stored = raw[0] if isinstance(raw, tuple) else raw
    deep = picture.mode not in _PLAIN or (picture.mode != "P" and ";" in str(stored) and picture.mode != "CMYK")
    files, mode = kind.files, "L" if kind.mode == "L" else "RGB"
    plain = "RGB" if picture.mode in ("P", "CMYK") else picture.mode.removesuffix("A")
    plain = "L" if plain.startswith(("I", "1")) else plain
    refused = (
        (deep and files.depth == "refused")
        or (picture.mode == "P" and files.palette == "refused")
        or (picture.mode == "CMYK" and files.cmyk == "refused")
        or (_transparent(picture) and files.alpha == "refused")
        or (plain != mode and files.colours == "refused")
    )
    if refused:
        found = picture.mode if stored in (None, picture.mode) else f"{picture.mode} (stored as {stored})"
        raise PictureError(
            f"the picture is of mode {found}, expected {mode}, {_NAMES[mode]}; convert it before sending"
        )
    return deep


def _transparent(picture: ImageFile) -> bool:
    return picture.mode in ("LA", "RGBA") or (picture.mode == "P" and "transparency" in picture.info)


def _turned(picture: Image.Image, orientation: int) -> Image.Image:
    way = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return picture.transpose(way[orientation])


def _sized(picture: Image.Image, size: tuple[int, int], resize: Resize | None, said: list[str]) -> Image.Image:
    if picture.size == size or resize is None:
        return picture
    (width, height), method = size, _METHODS[resize.method]
    said.append(
        f"resized from {picture.width}x{picture.height} to {width}x{height}, {resize.method}, crop {resize.crop}"
    )
    if resize.crop == "none":
        return picture.resize(size, method)
    shorter = resize.shorter or max(size)
    scale = shorter / min(picture.size)
    scaled = [max(shorter, round(scale * side)) for side in picture.size]
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    box = tuple(edge / scale for edge in (left, top, left + width, top + height))
    return picture.resize(size, method, box=_within(box, picture.size))


def _within(box: tuple[float, ...], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box, not a rounding beyond the picture."""
    left, top, right, bottom = box
    return max(0.0, left), max(0.0, top), min(float(size[0]), right), min(float(size[1]), bottom)
