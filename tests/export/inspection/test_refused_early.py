"""What cannot be served is refused when the model is looked at, by the node that is at fault."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
import torch

from export import own_model
from export.build.grid import GridError, check_moves, declared
from export.sources import torch_factory
from export.sources.source import SourceError
from tests.export.foreign import ROWS, written

SCORES = "z = Gemm(x, w, b)"


@pytest.mark.parametrize(
    ("body", "outputs", "given", "reason"),
    [
        (f"{SCORES} r = RandomNormalLike(z) y = Add(z, r)", "float[n, 3] y", "float[n, 4] x", "'r'.*draws at random"),
        ("r = Bernoulli(x) y = Gemm(r, w, b)", "float[n, 3] y", "float[n, 4] x", "'r'.*draws at random"),
        (
            "q, s, o = DynamicQuantizeLinear(x) d = DequantizeLinear(q, s, o) y = Gemm(d, w, b)",
            "float[n, 3] y",
            "float[n, 4] x",
            "takes its scale from the whole batch",
        ),
        (
            f"{SCORES} a = ArgMax<axis = 1, keepdims = 0>(z) y = Cast<to = 1>(a)",
            "float[n] y",
            "float[n, 4] x",
            "the number of a label",
        ),
        ("f = Cast<to = 1>(x) y = Gemm(f, w, b)", "float[n, 3] y", "bool[n, 4] x", "bool.*float32"),
        ("y = Slice(x, one, one, one)", "float[n, 0] y", "float[n, 4] x", "no number at all"),
        ("f = Cast<to = 1>(x) y = Gemm(f, w, b)", "float[n, 3] y", "bfloat16[n, 4] x", "bfloat16.*float32"),
    ],
)
def test_what_serving_would_refuse_is_refused_by_inspect(tmp_path, body, outputs, given, reason):
    path = written(tmp_path, body, outputs, given)
    with pytest.raises(SourceError, match=reason):
        own_model.inspect(path, samples=ROWS)


@pytest.mark.parametrize(("scale", "sigma"), [(1e-30, 1e-31), (1e30, 1e29)])
def test_a_grid_is_made_up_for_numbers_of_any_size(scale, sigma):
    """Floats that are all nearly 0, or so large that all are whole, lie on no grid of bytes or of whole numbers."""
    found = declared(scale * ROWS.astype(np.float64), sigma)
    assert found.made_up
    assert 10 < found.sigma_steps < 1000


def test_noise_that_hardly_ever_moves_a_number_is_refused():
    with pytest.raises(GridError, match=r"0.05 steps.*units of the samples"):
        check_moves(declared(np.array([[0, 255]], np.uint8), 0.05))


def needs_an_argument(size):
    return size


def raises():
    raise KeyError("what is in here")


def leaves():
    sys.exit("bye")


class Doubles(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3, dtype=torch.float64)


class Fails(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("\x1b[96mwhat is\x1b[0m\nin here")


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("needs_an_argument", "without arguments"),
        ("raises", "KeyError"),
        ("leaves", "SystemExit: bye"),
        ("Doubles", r"same dtype.*; expected a module that takes floats of 32 bits \[rows, 4\] alone"),
        ("Fails", r"by torch \(what is in here\); expected"),
    ],
)
def test_a_factory_that_fails_is_named(factory, reason):
    with pytest.raises(SourceError, match=reason):
        own_model.inspect(f"{__name__}:{factory}", samples=ROWS)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.net."])
def test_weights_of_a_wrapped_module_are_taken_for_the_module(prefix):
    plain = torch.nn.Linear(4, 3)
    state = {f"{prefix}{name}": tensor for name, tensor in plain.state_dict().items()}
    assert set(torch_factory._unwrapped(state, plain)) == set(plain.state_dict())
    more = state | {"head.weight": torch.zeros(1)}
    assert torch_factory._unwrapped(more, plain) is more
    if prefix == "module.":
        assert set(torch_factory._unwrapped(state, torch.nn.DataParallel(plain))) == set(state)


@pytest.mark.parametrize("beside", [False, True])
def test_a_model_of_more_than_two_gigabytes_is_refused_before_it_is_read(tmp_path, beside):
    path = tmp_path / "model.onnx"
    if beside:
        weights = onnx.TensorProto(name="w", dims=[2**30], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
        weights.external_data.add(key="location", value="w.bin")
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Mul", ["x", "w"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info("x", 1, ["n", 1])],
            [onnx.helper.make_tensor_value_info("y", 1, ["n", 2**30])],
            initializer=[weights],
        )
        path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with (tmp_path / ("w.bin" if beside else "model.onnx")).open("wb") as file:
        file.truncate(2**32)  # holes, which take no room
    with pytest.raises(SourceError, match="at most 2 GiB"):
        own_model.inspect(path)
