"""How a bundle reads pictures: layout and mode of what it takes, and what may be done to a file that is not of that form.

All of it happens before the grid: the certificate is of the picture that comes out, and says nothing of another file that
would come out otherwise. Whatever was done is in the answer.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from export.bundle.schema import Length, Strict

CHANNELS = {"L": 1, "RGB": 3, "BGR": 3}
"""How many numbers a pixel of each mode has."""


class Resize(Strict):
    """A picture of another size is brought to that of the shape, by the `method`.

    `crop` none stretches both sides to it; centre makes the shorter side `shorter` pixels long (as long as the longer side
    of the shape, where that is not said), and cuts the middle out.
    """

    method: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    crop: Literal["none", "centre"]
    shorter: Annotated[int, Field(ge=1, le=2**14)] | None = None

    @model_validator(mode="after")
    def _cut(self) -> Resize:
        if self.shorter is not None and self.crop != "centre":
            raise ValueError("resize.shorter goes with resize.crop centre")
        return self


class Treatments(Strict):
    """What is done to files of other forms; what is refused is refused as it is, and says so.

    `orientation`: a camera's note that the picture is to be turned. `palette`: colours by a table. `alpha`: transparent
    pixels, dropped (as if opaque) or laid on black or white. `depth`: of 16 bits the high byte is taken, fewer than 8 are
    stretched to 255. `cmyk`: converted without a colour profile. `colours`: grey for colours and colours for grey, by
    luminance (ITU-R 601).
    """

    orientation: Literal["ignored", "refused", "applied"] = "ignored"
    palette: Literal["refused", "expanded"] = "refused"
    alpha: Literal["refused", "dropped", "on black", "on white"] = "refused"
    depth: Literal["refused", "converted"] = "refused"
    cmyk: Literal["refused", "converted"] = "refused"
    colours: Literal["refused", "converted"] = "refused"


class ImageKind(Strict):
    """Pictures. `layout` says where the channels of the shape stand, `mode` what they are: grey (L), or colours in order."""

    kind: Literal["image"]
    layout: Literal["CHW", "HWC"]
    mode: Literal["L", "RGB", "BGR"]
    resize: Resize | None = None
    files: Treatments = Treatments()

    def size_of(self, shape: tuple[Length, ...]) -> tuple[int, int, int]:
        """Height, width and channels."""
        if self.layout == "HWC":
            return shape[0], shape[1], shape[2]
        return shape[1], shape[2], shape[0]

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise `ValueError` unless pictures of this mode have the shape."""
        if len(shape) != 3:
            raise ValueError(f"shape {shape} does not fit layout {self.layout}")
        height, width, channels = self.size_of(shape)
        if channels != CHANNELS[self.mode]:
            raise ValueError(f"shape {shape} has {channels} channels, and mode {self.mode} has {CHANNELS[self.mode]}")
        if self.resize and self.resize.shorter is not None and self.resize.shorter < max(height, width):
            raise ValueError(f"resize.shorter must be {max(height, width)} or more, the longer side of what is cut out")
