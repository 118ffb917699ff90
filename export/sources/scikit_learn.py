"""A fitted scikit-learn classifier, scalers and all, through skl2onnx; it is in memory already, and no pickle is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.sources.onnx_file import current
from export.sources.source import Source, SourceError

_OPSET = {"": 18, "ai.onnx.ml": 3}


def converted(pipeline: Any, samples: NDArray[Any]) -> Source:
    """The classifier as a graph, with its own `predict_proba` as the original."""
    if samples.ndim != 2 or samples.dtype.kind not in "iuf":
        raise SourceError(f"X: expected numbers [rows, columns], got {samples.dtype} of shape {list(samples.shape)}")
    if not hasattr(pipeline, "classes_"):
        raise SourceError(f"{type(pipeline).__name__} has no classes_: expected a fitted classifier; call fit() first")
    name = type(pipeline).__name__
    answers = getattr(pipeline, "predict_proba", None)
    if answers is None:
        raise SourceError(f"{name} gives no probabilities; put it into a CalibratedClassifierCV, fit that, and give it")
    model = _to_onnx(pipeline, samples.shape[1], name)

    def reference(values: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        found = np.asarray(answers(values.astype(np.float64)))
        return {each.name: found for each in model.graph.output}

    return Source(
        name=name,
        original=bytes(model.SerializeToString(deterministic=True)),
        model=current(model, name),
        reference=reference,
        labels=tuple(str(label) for label in pipeline.classes_),
        notes={"source": f"scikit-learn {name}"},
    )


def _to_onnx(pipeline: Any, columns: int, name: str) -> Any:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    try:
        return skl2onnx.convert_sklearn(
            pipeline,
            initial_types=[("features", FloatTensorType([None, columns]))],
            options={"zipmap": False},
            target_opset=_OPSET,
        )
    except Exception as error:  # of several kinds, by what has no converter
        text = " ".join(str(error).split())[:300]
        raise SourceError(f"{name} cannot be converted to ONNX by skl2onnx: {text}") from error
