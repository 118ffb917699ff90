"""Sessions of ONNX Runtime, by the provider that is asked for and no other.

A provider that is asked for and absent is refused: ONNX Runtime itself would run on the CPU without a word.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from importlib.metadata import distributions
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import; it would report to its makers
import onnxruntime

from serving.runtimes.runtime import ProviderError

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
    "onnx-tensorrt": ("TensorrtExecutionProvider", {"trt_engine_cache_enable": "1"}),
}
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


def version() -> str:
    """Of ONNX Runtime."""
    return str(onnxruntime.__version__)


def check_one_distribution() -> None:
    """Refuse to start beside a second build of ONNX Runtime: they write into one folder and break each other."""
    found = sorted({d.metadata["Name"] for d in distributions() if d.metadata["Name"] in _DISTRIBUTIONS})
    if len(found) > 1:
        raise ProviderError(f"{' and '.join(found)} are both installed; remove all of them and install one")


def check_available(provider: str) -> str:
    """ONNX Runtime's own name of a provider that this build of it has. Raises `ProviderError`."""
    name, _ = PROVIDERS[provider]
    if name not in onnxruntime.get_available_providers():
        raise _absent(name, "a build without it")
    return name


def open_session(graph: bytes, provider: str, settings: Mapping[str, str]) -> Any:
    """A session of one thread that runs `graph` by this provider, with these settings beside the provider's own.

    Raises `ProviderError` where another would run it; ONNX Runtime's own errors pass.
    """
    name = check_available(provider)
    if provider != "cpu":
        with contextlib.redirect_stdout(io.StringIO()):  # what is missing is said below, in one line
            onnxruntime.preload_dlls(directory="")  # the libraries of CUDA that were installed as packages
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what is wrong is raised, and said in one line
    session = onnxruntime.InferenceSession(graph, options, providers=_providers(provider, settings))
    if session.get_providers()[0] != name:
        raise _absent(name, session.get_providers()[0])
    return session


def _providers(provider: str, settings: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The provider and, below TensorRT, CUDA on the same stream, for what TensorRT does not take."""
    name, own = PROVIDERS[provider]
    providers = [(name, {**own, **settings})]
    if provider == "onnx-tensorrt":
        cuda, below = PROVIDERS["cuda"]
        stream = {key: value for key, value in settings.items() if key == "user_compute_stream"}
        providers.append((cuda, {**below, **stream}))
    return providers


def unsynchronised() -> Any:
    """Options of a run that returns before the device is done: whoever asked waits for the stream."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def _absent(wanted: str, found: str) -> ProviderError:
    return ProviderError(
        f"{wanted} was asked for, but ONNX Runtime offers {found}: on a machine with a GPU, pip uninstall onnxruntime and"
        " pip install 'certserve[gpu]', which brings onnxruntime-gpu with its CUDA libraries, or serve with --provider cpu"
    )
