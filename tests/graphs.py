"""Small graphs written as text, in the half-space's bundle: what is refused, and what has to be served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import parser

from export.bundle import Bundle, GraphPrecision, graphs
from export.graphs.precision import precision_of
from tests.half_space import write_half_space

CONSTANTS = """float[4,1] first = {1.0, 0.5, 0.0, 0.0}, float cut = {127.0}, int64[1] zero = {0}, int64[1] one = {1},
    int64[1] two = {2}, int64[1] all = {-1}, float[4] weights = {1.0, 0.5, 0.25, 0.125},
    float[4] ones = {1.0, 1.0, 1.0, 1.0},
    float[4,4] square = {1.0, 0.0, 0.2, 0.0, 0.0, 1.0, 0.0, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0},
    float[4,10] wide = {0.11, 1.2, -0.7, 0.9, -1.3, 0.37, 0.51, -0.23, 0.79, 1.01, 0.3, 0.71, 0.13, -0.4, 0.92, 0.61, 1.4,
    0.17, -0.8, 0.29, 0.7, 0.1, 0.33, 0.59, -0.9, 0.21, 0.83, 0.47, 0.05, -0.6, 0.2, 0.19, 0.41, 0.67, 0.3, -0.5, 0.9, 0.7,
    0.31, 0.77}"""


def noisy(body: str, outputs: str = "int64[n] vote, float[n] score", domains: str = "", constants: str = "") -> bytes:
    """A graph that goes from `values`, the lattice as floats [n, 4], by `body` to `inner` [n, 4], then to vote and score."""
    return graph(
        f"""values = Cast <to = 1> (lattice)
        {body}
        column = MatMul (inner, first)
        score = Squeeze (column, one)
        above = Greater (score, cut)
        vote = Cast <to = 7> (above)""",
        outputs,
        domains,
        constants,
    )


def graph(body: str, outputs: str, domains: str = "", constants: str = "", given: str = "int32[n, 4] lattice") -> bytes:
    """Any graph of such an input."""
    text = f"""<ir_version: 10, opset_import: ["" : 20, "ai.onnx.ml" : 3{domains}]>
    graph ({given}) => ({outputs}) <{CONSTANTS}{constants}> {{ {body} }}"""
    return bytes(parser.parse_model(text).SerializeToString())


def bundle_of(folder: Path, noisy: bytes | None = None, base: bytes | None = None) -> Bundle:
    """The half-space's bundle with other graphs; its golden outputs are theirs, if they run at all."""
    bundle = write_half_space(folder)
    golden = bundle.golden
    if noisy is not None and (found := _run(noisy, ["vote", "score"], golden.noisy_input)):
        golden = replace(golden, votes=found[0], scores=found[1])
    if base is not None and (found := _run(base, ["probabilities"], golden.base_input)):
        golden = replace(golden, base_probabilities=found[0])
    made = replace(bundle, noisy=noisy or bundle.noisy, base=base or bundle.base, golden=golden)
    as_made = graphs(score=True, precision=_precision(made.base), noisy=_precision(made.noisy))
    return replace(made, manifest=made.manifest.model_copy(update={"graphs": as_made}))


def _precision(data: bytes) -> GraphPrecision:
    """In which the graph computes, if it is one."""
    try:
        return precision_of(onnx.load_from_string(data))
    except DecodeError:
        return "float32"


def _run(graph: bytes, outputs: list[str], rows: np.ndarray) -> list[np.ndarray] | None:
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        return list(onnxruntime.InferenceSession(graph, options).run(outputs, {"lattice": rows}))
    except Exception:
        return None
