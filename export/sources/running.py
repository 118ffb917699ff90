"""A graph as a function, on ONNX Runtime: what an exporter tries is tried on what will serve it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.sources.source import SourceError

GraphRun = Callable[[NDArray[Any]], dict[str, Any]]
"""The one input to all outputs by name."""


def open_graph(data: bytes, name: str, outputs: Sequence[str] | None = None) -> GraphRun:
    """The graph in `data`, which has one input; raises `SourceError` if it cannot be opened, and when it cannot be run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what is wrong is raised
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's kinds have no parent but this
        raise SourceError(f"{name} cannot be opened by ONNX Runtime: {_line(error)}") from error
    (given,) = (each.name for each in session.get_inputs())
    names = list(outputs) if outputs is not None else [each.name for each in session.get_outputs()]

    def run(values: NDArray[Any]) -> dict[str, Any]:
        try:
            return dict(zip(names, session.run(names, {given: values}), strict=True))
        except Exception as error:
            raise SourceError(
                f"{name} cannot be run on {len(values)} rows of shape {list(values.shape[1:])}: {_line(error)}"
            ) from error

    return run


def in_chunks(run: GraphRun, rows: int) -> GraphRun:
    """The same for any number of rows, `rows` at a time and the last part padded: for a graph whose batch is fixed."""

    def chunked(values: NDArray[Any]) -> dict[str, Any]:
        padded = np.concatenate([values, np.repeat(values[-1:], -len(values) % rows, axis=0)])
        parts = [run(padded[start : start + rows]) for start in range(0, len(padded), rows)]
        return {name: _joined([part[name] for part in parts], len(values)) for name in parts[0]}

    return chunked


def _joined(parts: list[Any], rows: int) -> Any:
    return (
        np.concatenate(parts)[:rows] if all(isinstance(part, np.ndarray) and part.ndim for part in parts) else parts[0]
    )


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
