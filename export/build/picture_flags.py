"""What the flags say of pictures of another size or form, as a manifest declares it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from export.build.served_pictures import formed
from export.bundle import ImageKind, Resize, Treatments
from export.data.picture_file import Decode
from export.sources.source import SourceError

_METHODS = "nearest, bilinear, bicubic or lanczos"


def resize(text: str) -> Resize | None:
    """Of `METHOD`, `METHOD,centre` or `METHOD,centre,SHORTER`; None of nothing. Raises `SourceError`."""
    if not text:
        return None
    method, *more = (part.strip() for part in text.split(","))
    said: dict[str, Any] = {"method": method, "crop": more[0] if more else "none"}
    if len(more) > 1:
        said["shorter"] = int(more[1]) if more[1].isdecimal() else more[1]
    try:
        return Resize(**said) if len(more) < 3 else Resize(**said, more=more[2])  # type: ignore[call-arg]
    except ValidationError:
        raise SourceError(
            f"--resize: expected {_METHODS}, with centre, and the shorter side before it is cut, as in"
            f" bilinear,centre,256; got {text!r:.80}"
        ) from None


def reading(declared: ImageKind, axes: Sequence[int | str | None], flag: str) -> Decode:
    """How pictures are read for a network of these axes, as the server of its bundle will. Raises `SourceError`."""
    sizes = [axis for axis in axes if isinstance(axis, int)]
    if len(sizes) != len(axes) or len(sizes) != 3:
        raise SourceError(
            f"{flag} with --data needs a network of one size of pictures, this one takes {list(axes)}: give"
            " --shape, that of one input, as 3x224x224"
        )
    return formed(declared, declared.size_of(tuple(sizes)))


def treatments(text: str) -> Treatments:
    """Of `name=treatment,...`. Raises `SourceError`."""
    said = [part.partition("=") for part in text.split(",") if part.strip()]
    given: dict[str, Any] = {name.strip(): way.strip() for name, _, way in said}
    try:
        return Treatments(**given)
    except ValidationError:
        kinds = (
            f"{name}={'|'.join(field['enum'])}" for name, field in Treatments.model_json_schema()["properties"].items()
        )
        raise SourceError(f"--pictures: expected {', '.join(kinds)}; got {text!r:.80}") from None
