"""What cannot be served is refused when the model is looked at, by the node that is at fault."""

from __future__ import annotations

import numpy as np
import pytest

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


@pytest.mark.parametrize(("factory", "reason"), [("needs_an_argument", "without arguments"), ("raises", "KeyError")])
def test_a_factory_that_fails_is_named(factory, reason):
    with pytest.raises(SourceError, match=reason):
        own_model.inspect(f"{__name__}:{factory}", samples=ROWS)


def test_weights_of_a_wrapped_module_are_taken_for_the_module():
    import torch

    plain = torch.nn.Linear(4, 3)
    state = {f"module.{name}": tensor for name, tensor in plain.state_dict().items()}
    assert set(torch_factory._unwrapped(state, plain)) == set(plain.state_dict())
    wrapped = torch.nn.DataParallel(plain)
    assert torch_factory._unwrapped(state, wrapped) is state
