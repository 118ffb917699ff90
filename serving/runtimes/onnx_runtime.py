"""ONNX Runtime behind the runtime protocol: CPU here, CUDA and TensorRT execution providers by configuration.

A provider that is asked for and absent is refused: ONNX Runtime itself would run on the CPU without a word.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import; it would report to its makers
import onnxruntime
from numpy.typing import NDArray

from export.bundle import Bundle

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
    "tensorrt": ("TensorrtExecutionProvider", {"trt_engine_cache_enable": "1"}),
}
_INSTRUCTIONS = {
    *("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "amx_int8"),
    *("asimddp", "i8mm", "bf16", "sve"),
}
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


class ProviderError(RuntimeError):
    """The configured execution provider cannot be used on this machine."""


class OnnxRuntime:
    """The two graphs of a bundle in sessions of one thread each: the workers of the engine are the threads."""

    def __init__(
        self,
        bundle: Bundle,
        provider: str = "cpu",
        base_rows: int = 1,
        cache: Path | None = None,
    ) -> None:
        check_one_distribution()
        self._base = _session(bundle.base, provider, tensorrt_settings(bundle, base_rows, cache))
        one = bundle.noisy == bundle.base
        fixed = tensorrt_settings(bundle, bundle.manifest.batch_rows, cache)
        self._noisy = self._base if one else _session(bundle.noisy, provider, fixed)
        used = self._noisy.get_providers()[0]
        self._description = f"onnxruntime {onnxruntime.__version__} {used}, {_device(used)}"

    @property
    def description(self) -> str:
        """ONNX Runtime's version, the provider in use and what is known of the device that may change a result."""
        return self._description

    def base(self, lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Runtime.base`."""
        (probabilities,) = self._base.run(["probabilities"], {"lattice": lattice})
        return np.asarray(probabilities)

    def noisy(self, lattice: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `Runtime.noisy`."""
        vote, score = self._noisy.run(["vote", "score"], {"lattice": lattice})
        return np.asarray(vote), np.asarray(score)


def open_graph(graph: bytes) -> Callable[[NDArray[np.int32]], list[NDArray[np.generic]]]:
    """Any graph of one input on the CPU, as a function from its input to all its outputs."""
    session = _session(graph, "cpu", {})
    (name,) = (each.name for each in session.get_inputs())
    return lambda lattice: list(session.run(None, {name: lattice}))


def check_one_distribution() -> None:
    """Refuse to start beside a second build of ONNX Runtime: they write into one folder and break each other."""
    found = sorted({d.metadata["Name"] for d in distributions() if d.metadata["Name"] in _DISTRIBUTIONS})
    if len(found) > 1:
        raise ProviderError(f"{' and '.join(found)} are both installed; remove all of them and install one")


def _session(graph: bytes, provider: str, profile: dict[str, str]) -> onnxruntime.InferenceSession:
    if provider not in PROVIDERS:
        raise ProviderError(f"unknown provider {provider!r}; expected one of {', '.join(PROVIDERS)}")
    name, settings = PROVIDERS[provider]
    if name not in onnxruntime.get_available_providers():
        raise _absent(name, "a build without it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    if provider == "tensorrt":
        settings = settings | profile
    providers: list[Any] = [(name, settings)]
    if provider == "tensorrt":
        providers.append(PROVIDERS["cuda"])
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    if session.get_providers()[0] != name:
        raise _absent(name, session.get_providers()[0])
    return session


def _device(provider: str) -> str:
    """The instructions of the processor that decide which kernels run, or the makers' numbers of the accelerators."""
    if provider != "CPUExecutionProvider":
        found = [each.device for each in onnxruntime.get_ep_devices() if each.ep_name == provider]
        return ", ".join(sorted({f"device {each.vendor_id:04x}:{each.device_id:04x}" for each in found})) or "unknown"
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    return " ".join([platform.machine(), *sorted(words & _INSTRUCTIONS)])


def _absent(wanted: str, found: str) -> ProviderError:
    return ProviderError(
        f"{wanted} was asked for, but ONNX Runtime offers {found}: install onnxruntime-gpu with its CUDA libraries on a"
        " machine with a GPU, or serve with --provider cpu"
    )


def tensorrt_settings(bundle: Bundle, rows: int, cache: Path | None) -> dict[str, str]:
    """A profile of one fixed shape, so that nothing is built inside a request, and a cache keyed by what it is for."""
    shape = "x".join(map(str, (rows, *bundle.manifest.input.shape)))
    place = (cache or Path(tempfile.gettempdir())) / f"tensorrt-{bundle.digest[7:23]}-{onnxruntime.__version__}-{rows}"
    return {
        **{f"trt_profile_{kind}_shapes": f"lattice:{shape}" for kind in ("min", "opt", "max")},
        "trt_engine_cache_path": str(place),
    }
