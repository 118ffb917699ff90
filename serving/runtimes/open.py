"""The only place where a runtime is made: by the name of its provider."""

from __future__ import annotations

from collections.abc import Callable

from export.bundle import Bundle
from serving.runtimes.runtime import ProviderError, Runtime

Opener = Callable[[Bundle, str, int], Runtime]
"""Opens a bundle for a provider and a number of rows in a batch of base predictions."""


def _processor(bundle: Bundle, provider: str, base_rows: int) -> Runtime:
    from serving.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(bundle, base_rows)


def _onnx_device(bundle: Bundle, provider: str, base_rows: int) -> Runtime:
    from serving.runtimes.onnx_device import open_onnx

    return open_onnx(bundle, provider, base_rows)


def _tensorrt(bundle: Bundle, provider: str, base_rows: int) -> Runtime:
    from serving.runtimes.tensorrt import open_tensorrt

    return open_tensorrt(bundle, provider, base_rows)


RUNTIMES: dict[str, Opener] = {
    "cpu": _processor,
    "cuda": _onnx_device,
    "tensorrt": _tensorrt,
    "onnx-tensorrt": _onnx_device,
}
"""One line for each provider; what it needs is imported when it is opened."""


def open_runtime(bundle: Bundle, provider: str = "cpu", base_rows: int = 1) -> Runtime:
    """What runs a bundle by this provider. Base predictions go `base_rows` at a time.

    Raises `ProviderError` where the provider is unknown or cannot be used here, `GraphError` for a graph that is not to be
    served.
    """
    opener = RUNTIMES.get(provider)
    if opener is None:
        raise ProviderError(f"unknown provider {provider!r}; expected one of {', '.join(RUNTIMES)}")
    return opener(bundle, provider, base_rows)
