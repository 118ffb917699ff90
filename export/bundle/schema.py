"""What all parts of a manifest share: strict reading, names and texts within bounds, and the error of a bundle."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LARGEST_BATCH = 2**29
"""Coordinates in one batch of noisy inputs: 2 GiB of them."""


class BundleError(ValueError):
    """A bundle cannot be served; the message, of one line, names the file and how to mend it."""


class Strict(BaseModel):
    """A part of a manifest: an unknown key, another type or what is not finite is refused, by the place of the field."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)


def _readable(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("control characters and line breaks are not allowed")
    return text


def _label(text: str) -> str:
    if text != text.strip() or not text:
        raise ValueError("a label must not be empty, nor begin or end with a space")
    return _readable(text)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
Label = Annotated[str, Field(max_length=256), AfterValidator(_label)]
Text = Annotated[str, Field(max_length=4_096), AfterValidator(_readable)]
Positive = Annotated[float, Field(gt=0)]
Length = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
