from __future__ import annotations

import numpy as np
import pytest

from serving.proof import ProofError, prove
from serving.runtimes.onnx_runtime import OnnxRuntime, ProviderError, tensorrt_settings
from tests.half_space import write_half_space


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


class Altered:
    """The real runtime with one alteration of what it puts out."""

    description = "altered"

    def __init__(self, bundle, noisy=lambda votes, scores: (votes, scores), base=lambda p: p):
        self._real, self._noisy, self._base = OnnxRuntime(bundle), noisy, base

    def base(self, lattice):
        return self._base(self._real.base(lattice))

    def noisy(self, lattice):
        return self._noisy(*self._real.noisy(lattice))


def test_the_real_runtime_is_proven(bundle):
    prove(bundle, OnnxRuntime(bundle), 8)


@pytest.mark.parametrize(
    ("alterations", "message"),
    [
        ({"noisy": lambda v, s: (1 - v, s)}, "golden votes differ"),
        ({"noisy": lambda v, s: (v, s * 1.01)}, "golden scores"),
        ({"noisy": lambda v, s: (v, s * np.float32(np.nan))}, "depends on its place|golden scores"),
        ({"base": lambda p: p + 0.01}, "golden probabilities"),
        ({"noisy": lambda v, s: (v, s + np.arange(s.size, dtype=s.dtype))}, "depends on its place"),
        ({"noisy": lambda v, s: (v, s + s.mean())}, "depends on its place"),
        ({"base": lambda p: p - p.mean(axis=0) + 0.5}, "depends on its place"),
        ({"noisy": lambda v, s: (np.roll(v, 1), np.roll(s, 1))}, "depends on its place"),
        ({"base": lambda p: np.roll(p, 1, axis=0)}, "depends on its place"),
    ],
    ids=["votes", "scores", "nan", "probabilities", "slot", "mates", "base-mates", "shifted", "base-shifted"],
)
def test_a_runtime_that_computes_something_else_is_refused(bundle, alterations, message):
    with pytest.raises(ProofError, match=message):
        prove(bundle, Altered(bundle, **alterations), 8)


def test_an_absent_provider_is_refused_instead_of_served_on_the_cpu(bundle):
    with pytest.raises(ProviderError, match="CUDAExecutionProvider was asked for"):
        OnnxRuntime(bundle, provider="cuda")
    with pytest.raises(ProviderError, match="expected one of cpu, cuda, tensorrt"):
        OnnxRuntime(bundle, provider="gpu")


def test_a_tensorrt_profile_has_one_shape(bundle, tmp_path):
    settings = tensorrt_settings(bundle, 128, tmp_path)
    shapes = {value for key, value in settings.items() if key.endswith("_shapes")}
    assert shapes == {"lattice:128x4"}
    assert bundle.digest[7:23] in settings["trt_engine_cache_path"]


@pytest.mark.gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_the_gpu_reproduces_the_golden_outputs(bundle, provider):
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("no GPU build of ONNX Runtime here")
    prove(bundle, OnnxRuntime(bundle, provider=provider), 8)
