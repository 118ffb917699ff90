"""Foreign models written as text, and samples for them: what users bring, as small as it can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import parser

ROWS = np.random.default_rng(3).random((24, 4)).astype(np.float32)
CONSTANTS = """float[4,3] w = {4.0, -3.0, 0.5, -2.0, 5.0, 1.0, 1.5, -4.0, 3.0, -3.0, 2.0, -1.0}, float[3] b = {0.1, 0.2,
    -0.3}, float[4,1] v = {5.0, -3.0, 4.0, -6.0},
    float[4,4] sq = {1.0, 0.0, 0.2, 0.0, 0.0, 1.0, 0.0, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0},
    int64[1] one = {1}, int64[2] flat = {1, -1}, int64[2] named = {1, 3}"""


def written(
    folder: Path,
    body: str,
    outputs: str = "float[n, 3] y",
    given: str = "float[n, 4] x",
    constants: str = "",
    opset: int = 17,
    domains: str = "",
) -> Path:
    """The file of a graph from `x` to `outputs`."""
    text = f"""<ir_version: 8, opset_import: ["" : {opset}{domains}]>
    graph ({given}) => ({outputs}) <{CONSTANTS}{constants}> {{ {body} }}"""
    path = folder / "model.onnx"
    path.write_bytes(parser.parse_model(text).SerializeToString())
    return path


LOGITS = "s = MatMul(x, sq) h = Relu(s) y = Gemm(h, w, b)"
SOFTMAX = "s = MatMul(x, sq) h = Relu(s) z = Gemm(h, w, b) y = Softmax<axis = 1>(z)"
SIGMOID = "s = MatMul(x, sq) h = Relu(s) z = Gemm(h, w, b) y = Sigmoid(z)"
ONE_SIGMOID = "z = MatMul(x, v) y = Sigmoid(z)"
ONE_LOGIT = "y = MatMul(x, v)"
