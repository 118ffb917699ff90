"""What every runtime has to do, whichever device it runs on: one suite, on the exact model and on the bundled one."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from export.bundle import load
from serving.models.proof import prove
from serving.runtimes.onnx_runtime import PROVIDERS, OnnxRuntime, ProviderError, check_one_distribution
from tests.half_space import CUT, write_half_space
from tests.servers import ROOT

AVAILABLE = onnxruntime.get_available_providers()


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu), pytest.param("tensorrt", marks=pytest.mark.gpu)]
)
def provider(request):
    if PROVIDERS[request.param][0] not in AVAILABLE:
        pytest.skip(f"this build of ONNX Runtime has no {request.param}")
    return request.param


@pytest.fixture(params=["half-space", "fashion-mnist"])
def bundle(request, tmp_path):
    return (
        write_half_space(tmp_path) if request.param == "half-space" else load(ROOT / "models" / "fashion-mnist" / "1")
    )


def test_it_is_proven(provider, bundle):
    prove(bundle, OnnxRuntime(bundle, provider), 8)


def test_a_row_is_answered_alike_in_batches_of_every_size(bundle):
    """On the CPU any batch shape will do; on a GPU the engine keeps to one."""
    runtime = OnnxRuntime(bundle)
    rows = np.random.default_rng(0).integers(-300, 600, (256, *bundle.manifest.input.shape)).astype(np.int32)
    votes, scores = runtime.noisy(rows)
    for size in (1, 32, 128):
        parts = [runtime.noisy(rows[start : start + size]) for start in range(0, 128, size)]
        assert np.array_equal(np.concatenate([vote for vote, _ in parts]), votes[:128])
        assert np.array_equal(np.concatenate([score for _, score in parts]), scores[:128])


def test_shapes_types_and_the_description(provider, bundle):
    runtime = OnnxRuntime(bundle, provider)
    votes, scores = runtime.noisy(np.zeros((128, *bundle.manifest.input.shape), np.int32))
    probabilities = runtime.base(np.zeros((8, *bundle.manifest.input.shape), np.int32))
    assert (votes.dtype, votes.shape, scores.dtype, scores.shape) == (np.int64, (128,), np.float32, (128,))
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (8, len(bundle.manifest.labels)))
    assert onnxruntime.__version__ in runtime.description
    assert not runtime.description.endswith(("unknown", ", "))


def test_the_lattice_is_never_clipped(tmp_path):
    """Values far outside the grid reach the network as they are."""
    runtime = OnnxRuntime(write_half_space(tmp_path))
    votes, scores = runtime.noisy(np.array([[-5_000, 0, 0, 0], [9_000, 0, 0, 0], [CUT, 0, 0, 0]], np.int32))
    assert (votes.tolist(), scores.tolist()) == ([0, 1, 0], [-5_000.0, 9_000.0, float(CUT)])


def test_two_builds_of_onnx_runtime_are_refused_by_name(tmp_path, monkeypatch):
    other = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    check_one_distribution()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ProviderError, match="onnxruntime and onnxruntime-gpu are both installed"):
        check_one_distribution()
