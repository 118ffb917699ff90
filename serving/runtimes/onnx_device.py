"""A bundle on a device by ONNX Runtime, behind the runtime protocol: noise and results as with any network of a device.

Its own TensorRT provider is an option, and the slower one: by an open fault it may read a bound input before that is
complete, whatever the stream says. So each batch is waited for once more, before the network, and nothing hides behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.graphs.prepared import Prepared, prepare
from export.graphs.reading import place
from serving import cache
from serving.runtimes.cuda_driver import CudaDriver
from serving.runtimes.device_driver import DeviceFacts, Driver
from serving.runtimes.device_program import compiled
from serving.runtimes.device_runtime import DeviceRuntime, NotKept, open_on
from serving.runtimes.onnx_network import OnnxNetwork
from serving.runtimes.onnx_session import PROVIDERS, check_available, check_one_distribution, open_session, version
from serving.runtimes.plans import PlanKey

_TENSORRT = "onnx-tensorrt"
_COMPUTING = {
    "cuda": ("nvidia-cublas", "nvidia-cudnn-cu13"),
    _TENSORRT: ("nvidia-cublas", "nvidia-cudnn-cu13", "tensorrt-cu13"),
}
Sessions = Callable[[bytes, str, Mapping[str, str]], Any]
"""Opens a session for a graph, a provider and its settings: `onnx_session.open_session`."""


def open_onnx(bundle: Bundle, provider: str, base_rows: int) -> DeviceRuntime:
    """The bundle on the first device. Raises `ProviderError` where it, the provider or a package is missing, `GraphError`
    for a graph that is not to be served.
    """
    check_one_distribution()
    check_available(provider)
    driver = CudaDriver()
    kernels = partial(compiled, architecture=driver.facts.architecture, folder=cache.folder("kernels"))
    return on_device(bundle, provider, open_session, driver, kernels, base_rows, cache.folder("onnx-tensorrt"))


def on_device(
    bundle: Bundle,
    provider: str,
    sessions: Sessions,
    driver: Driver,
    kernels: Callable[[int], bytes],
    base_rows: int,
    folder: Path,
) -> DeviceRuntime:
    """The bundle on this device, with the `kernels` for the type that its graph takes. The engines that the TensorRT
    provider builds are kept in `folder`; it builds none for the sake of a measurement.
    """

    def network(file: str, rows: int) -> tuple[Prepared, OnnxNetwork]:
        if provider == _TENSORRT and rows not in (bundle.manifest.batch_rows, base_rows):
            raise NotKept
        graph, shape = prepare(bundle, file), (rows, *bundle.manifest.input.shape)
        profile = tensorrt_settings(graph.data, shape, driver.facts, folder) if provider == _TENSORRT else {}
        opener = partial(_open, sessions, provider, profile)
        return graph, OnnxNetwork(opener, driver, graph, shape, place(bundle, file), waits=provider == _TENSORRT)

    return open_on(bundle, driver, kernels, network, base_rows, _libraries(provider))


def tensorrt_settings(graph: bytes, shape: tuple[int, ...], facts: DeviceFacts, folder: Path) -> dict[str, str]:
    """A profile of one fixed shape, so that nothing is built inside a request, and a cache keyed by what it is for: the
    provider itself takes an engine of another graph, device or TensorRT.
    """
    text = "x".join(map(str, shape))
    key = PlanKey.of(graph, shape[0], text, _libraries(_TENSORRT), facts)
    return {
        **{f"trt_profile_{kind}_shapes": f"lattice:{text}" for kind in ("min", "opt", "max")},
        "trt_engine_cache_path": str(folder / Path(key.name).stem),
    }


def _open(sessions: Sessions, provider: str, profile: Mapping[str, str], graph: bytes, more: Mapping[str, str]) -> Any:
    return sessions(graph, provider, {**profile, **more})


def _libraries(provider: str) -> str:
    """ONNX Runtime, the provider, and what computes below it, each with its version: all of them may change a result."""
    below = " ".join(f"{name} {_version_of(name)}" for name in _COMPUTING[provider])
    return f"onnxruntime {version()} {PROVIDERS[provider][0]} {below}"


def _version_of(package: str) -> str:
    """Of what was installed as a package; what came otherwise has none that could be asked."""
    try:
        return installed(package)
    except PackageNotFoundError:
        return "of the system"
