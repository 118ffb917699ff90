"""An ONNX graph in torch: the same numbers as ONNX Runtime's, and the same graph with other weights when it is written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser
from torch import nn

from export.sources.graph_module import GraphModule
from export.sources.running import open_graph
from export.sources.source import SourceError
from export.sources.torch_module import to_onnx

PICTURES = "float[n, 2, 9, 8] x"
ROWS = "float[n, 6] x"
CONVOLUTION = "c = Conv<{}>(x, k, b)  y = GlobalAveragePool(c)"
CASES = {
    "a layer, its product turned": (ROWS, "y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, g, o)"),
    "a product and a sum": (ROWS, "p = MatMul(x, m) y = Add(p, o)"),
    "a layer inside of one's own mean": (ROWS, "d = Sub(x, v) e = Div(d, w) p = MatMul(e, m) y = Softmax<axis = 1>(p)"),
    "padding on both sides": (PICTURES, CONVOLUTION.format("pads = [1, 1, 1, 1], strides = [2, 2]")),
    "padding on one side": (PICTURES, CONVOLUTION.format("pads = [0, 1, 2, 0]")),
    "padding to the same size": (PICTURES, CONVOLUTION.format('auto_pad = "SAME_UPPER", strides = [2, 2]')),
    "padding to the same size, below": (PICTURES, CONVOLUTION.format('auto_pad = "SAME_LOWER", strides = [2, 2]')),
    "dilated": (PICTURES, CONVOLUTION.format("dilations = [2, 2]")),
    "grouped": (PICTURES, "c = Conv<group = 2>(x, kg, b) y = GlobalMaxPool(c)"),
    "normalised by kept statistics": (
        PICTURES,
        "c = Conv(x, k, b) n = BatchNormalization<epsilon = 0.01>(c, b, o4, v4, w4) y = GlobalAveragePool(n)",
    ),
    "normalised within a row": (ROWS, "p = MatMul(x, m) y = LayerNormalization(p, o, o)"),
    "the largest, over the edge": (
        PICTURES,
        "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1>(x)",
    ),
    "means that count the padding": (
        PICTURES,
        "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(x)",
    ),
    "means that do not": (PICTURES, "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 0, 0], strides = [2, 2]>(x)"),
    "shapes": (PICTURES, "f = Flatten(x) r = Reshape(f, rows) t = Transpose<perm = [0, 2, 1]>(r) y = Squeeze(t, two)"),
    "a shape that is computed": (
        PICTURES,
        "s = Shape(x) f = Gather(s, zero) u = Unsqueeze(f, zeros) c = Concat<axis = 0>(u, rest) y = Reshape(x, c)",
    ),
    "parts": (
        PICTURES,
        "a = Slice(x, from, to, along, pace) b1, b2 = Split<axis = 1>(a, halves) y = Concat<axis = 2>(b2, b1)",
    ),
    "padded by itself": (PICTURES, "p = Pad(x, pads) y = ReduceMean<axes = [2, 3]>(p)"),
    "activations": (
        ROWS,
        "a = LeakyRelu<alpha = 0.2>(x) b1 = Elu(a) c = HardSigmoid(b1) d = Clip(c, low, high) e = PRelu(x, v) f = Selu(x)"
        " g1 = Tanh(x) h = Softplus(x) i = Sigmoid(x) j = Erf(x) y = Sum(d, e, f, g1, h, i, j)",
    ),
    "arithmetic": (
        ROWS,
        "a = Mul(x, v) b1 = Max(a, w) c = Min(b1, x) d = Abs(c) e = Sqrt(d) f = Exp(e) g1 = Neg(f) y = Pow(g1, c2)",
    ),
    "a constant in a node": (
        ROWS,
        "k1 = Constant<value = float[6, 1] {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}>() y = MatMul(x, k1)",
    ),
}


def graph(given, body):
    chance = np.random.default_rng(4)
    floats = {
        **{"g": (4, 6), "o": (4,), "m": (6, 4), "v": (6,), "k": (4, 2, 3, 3), "kg": (4, 1, 3, 3), "b": (4,)},
        **{"o4": (4,), "v4": (4,)},
    }
    constants = {name: chance.standard_normal(shape).astype(np.float32) for name, shape in floats.items()}
    constants |= {"w": 1 + chance.random(6).astype(np.float32), "w4": 1 + chance.random(4).astype(np.float32)}
    constants |= {"low": np.float32(0.2), "high": np.float32(0.6), "c2": np.float32(2)}
    whole = {"rows": [0, -1, 1], "two": [1], "rest": [-1, 4], "from": [7, 0], "to": [-100, 5], "along": [2, 3]}
    whole |= {"pace": [-2, 2], "halves": [1, 1], "pads": [0, 0, 1, 2, 0, 0, 0, 1], "zeros": [0], "zero": 0}
    constants |= {name: np.array(value, np.int64) for name, value in whole.items()}
    text = f'<ir_version: 8, opset_import: ["" : 17]> graph ({given}) => (float[n, s] y) {{ {body} }}'
    model = parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items() if k in used)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize("case", CASES)
def test_the_same_numbers_as_the_runtime(case):
    given, body = CASES[case]
    model = graph(given, body)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    rows = np.random.default_rng(5).standard_normal((3, *shape)).astype(np.float32)
    module = GraphModule(model, "it").eval()
    wanted = open_graph(model.SerializeToString(), "it")(rows)["y"]
    np.testing.assert_allclose(module(torch.from_numpy(rows)).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(open_graph(module.written().SerializeToString(), "it")(rows)["y"], wanted, rtol=1e-6)


def test_what_is_trained_is_written_and_what_normalises_stays():
    model = graph(*CASES["a layer inside of one's own mean"])
    module = GraphModule(model, "it")
    assert set(module.tensors()) == {"m"}
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(-1)
    kept = {each.name: numpy_helper.to_array(each) for each in module.written().graph.initializer}
    first = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    np.testing.assert_array_equal(kept["m"], -first["m"])
    np.testing.assert_array_equal(kept["v"], first["v"])


def test_statistics_follow_the_batches_in_training_alone():
    module = GraphModule(graph(*CASES["normalised by kept statistics"]), "it")
    rows = torch.randn(32, 2, 9, 8, generator=torch.Generator().manual_seed(0)) * 3
    before = module.tensors()["v4"].clone()
    module.eval()(rows)
    assert torch.equal(module.tensors()["v4"], before)
    module.train()(rows)
    assert not torch.equal(module.tensors()["v4"], before)
    assert torch.equal(torch.from_numpy(numpy_helper.to_array(_named(module.written(), "v4"))), module.tensors()["v4"])


def _named(model, name):
    return next(each for each in model.graph.initializer if each.name == name)


def test_an_operator_that_is_not_known_is_refused_by_name():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> graph (float[n, 6] x) => (float[n, 6] y) { d = Det(x) y = CumSum(x, d) }'
    )
    with pytest.raises(
        SourceError, match=r"it computes with CumSum, Det, which cannot be trained.*give the torch module"
    ):
        GraphModule(model, "it")


def test_weights_of_a_network_of_torch_come_back():
    """A network with everything that torch writes: exported, trained through the graph, and the same network again."""
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    network = nn.Sequential(*parts, nn.Dropout(), nn.Linear(36, 3)).eval()
    data = to_onnx(network, (1, 12, 12), ("y",), names=("x",), example=torch.zeros(2, 1, 12, 12))
    module = GraphModule(onnx.load_from_string(data), "it").eval()
    rows = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(module(rows), network(rows), rtol=1e-4, atol=1e-4)
