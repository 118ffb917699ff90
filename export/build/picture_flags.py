"""What the flags say of pictures of another size or form, as a manifest declares it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from export.bundle import Resize, Treatments
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
