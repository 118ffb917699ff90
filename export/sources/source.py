"""The port of all sources: a model as it came, with what its own framework answers where that is not the file itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto

Reference = Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]
"""Values [n, *shape], as the model takes them, to the original's own numbers, [n, C] or [n], by the name of the output."""


class SourceError(ValueError):
    """A model cannot be served; one line says why, and how to mend it where that is possible."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """One model. `model` is `original` parsed; without a `reference`, the file itself is the original.

    `labels` are what the model says of its classes, empty if nothing; `notes` tell where it comes from. `module` is the
    torch module that it was made of, if it was.
    """

    name: str
    original: bytes
    model: ModelProto
    reference: Reference | None = None
    labels: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    module: Any = None
