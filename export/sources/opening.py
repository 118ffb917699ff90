"""What a user names, as a source: an ONNX file, or a factory of torch modules."""

from __future__ import annotations

from pathlib import Path

from export.sources import onnx_file
from export.sources.source import Source, SourceError


def opened(model: str | Path, weights: str | Path | None, shape: tuple[int, ...] | None) -> Source:
    """The source that `model` names. Raises `SourceError`."""
    module, _, factory = str(model).rpartition(":")
    if module and not Path(model).exists() and all(part.isidentifier() for part in [*module.split("."), factory]):
        from export.sources import torch_factory

        return torch_factory.read(module, factory, None if weights is None else Path(weights), shape)
    if weights is not None:
        raise SourceError("--weights goes with package.module:factory; an ONNX file has its weights inside")
    return onnx_file.read(Path(model))
