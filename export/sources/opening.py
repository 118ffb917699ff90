"""What a user names, as a source: an ONNX file, or a factory of torch modules."""

from __future__ import annotations

from pathlib import Path

from export.sources import onnx_file
from export.sources.source import Source, SourceError


def is_factory(model: str | Path) -> bool:
    """Whether this names a factory of torch modules, and no file."""
    module, _, factory = str(model).rpartition(":")
    named = bool(module) and all(part.isidentifier() for part in [*module.split("."), factory])
    return named and not Path(model).exists()


def opened(model: str | Path, weights: str | Path | None, shape: tuple[int, ...] | None) -> Source:
    """The source that `model` names. Raises `SourceError`."""
    if is_factory(model):
        from export.sources import torch_factory

        module, _, factory = str(model).rpartition(":")
        return torch_factory.read(module, factory, None if weights is None else Path(weights), shape)
    if weights is not None:
        raise SourceError("--weights goes with package.module:factory; an ONNX file has its weights inside")
    return onnx_file.read(Path(model))
