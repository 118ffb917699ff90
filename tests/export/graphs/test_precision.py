from __future__ import annotations

import pytest
from onnx import parser

from export.graphs.precision import precision_of

BODIES = {
    "float32": "y = MatMul(x, w)",
    "float16": "h = Cast<to = 10>(x) v = Cast<to = 10>(w) z = MatMul(h, v) y = Cast<to = 1>(z)",
    "bfloat16": "h = Cast<to = 16>(x) v = Cast<to = 16>(w) z = MatMul(h, v) y = Cast<to = 1>(z)",
    "int8": "q = QuantizeLinear(x, s, o) d = DequantizeLinear(q, s, o) y = MatMul(d, w)",
}


@pytest.mark.parametrize("precision", BODIES)
def test_a_graph_computes_in_what_its_nodes_and_weights_say(precision):
    text = f"""<ir_version: 8, opset_import: ["" : 17]> graph (float[n, 2] x) => (float[n, 2] y)
        <float[2, 2] w = {{1.0, 0.0, 0.0, 1.0}}, float s = {{0.1}}, int8 o = {{0}}> {{ {BODIES[precision]} }}"""
    assert precision_of(parser.parse_model(text)) == precision
