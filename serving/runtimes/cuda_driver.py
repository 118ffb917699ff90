"""A CUDA device through `cuda.core` and `cuda.bindings`: see `device_driver.Driver`. It has never run on a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.reading import one_line
from serving.runtimes.device_driver import DeviceFacts, HostMemory, Memory, Stream
from serving.runtimes.device_program import DeviceError, versions

_CUDA = 13
"""The major version that the packages of the extra `gpu` are for."""


class CudaDriver:
    """The device of this number among those that the process may see. Raises `DeviceError` where there is none."""

    def __init__(self, number: int = 0) -> None:
        versions()
        try:
            from cuda.bindings import driver
            from cuda.core import Device

            self._api, self._number = driver, number
            version = _driver_version(driver)
            device = Device(number)
            device.set_current()
            self._facts = DeviceFacts(device.name, f"sm_{device.arch}", version)
        except Exception as error:  # no library, no driver, no device: all of kinds of their own
            raise DeviceError(
                f"no CUDA device {number} can be used: {one_line(error)}; install NVIDIA's driver for"
                f" CUDA {_CUDA} on a machine with a GPU, or serve with --provider cpu"
            ) from error
        self._allocating = self.stream()

    @property
    def facts(self) -> DeviceFacts:
        """See `Driver.facts`."""
        return self._facts

    def enter(self) -> None:
        """See `Driver.enter`."""
        self._device().set_current()

    def stream(self) -> Stream:
        """See `Driver.stream`."""
        return _CudaStream(self._device().create_stream())

    def on_device(self, size: int) -> Memory:
        """See `Driver.on_device`."""
        buffer = self._device().memory_resource.allocate(size, stream=_inner(self._allocating))
        self.wait(self._allocating)  # allocated in the order of a stream, and used on others
        return _DeviceMemory(buffer)

    def on_host(self, size: int) -> HostMemory:
        """See `Driver.on_host`."""
        from cuda.core import LegacyPinnedMemoryResource

        return _PinnedMemory(LegacyPinnedMemoryResource().allocate(size), size)

    def kernels(self, code: bytes, names: Sequence[str]) -> dict[str, Any]:
        """See `Driver.kernels`."""
        from cuda.core import ObjectCode

        module = ObjectCode.from_cubin(code)
        return {name: module.get_kernel(name) for name in names}

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        """See `Driver.copy`."""
        _done(self._api.cuMemcpyAsync(target, source, size, stream.handle))

    def launch(
        self, kernel: Any, grid: tuple[int, int], threads: int, arguments: Sequence[int | np.uint32], stream: Stream
    ) -> None:
        """See `Driver.launch`."""
        from cuda.core import LaunchConfig, launch

        launch(_inner(stream), LaunchConfig(grid=grid, block=threads), kernel, *arguments)

    def capture(self, work: Callable[[Stream], None]) -> Any:
        """See `Driver.capture`."""
        builder = self._device().create_graph_builder().begin_building("thread_local")
        work(_CudaStream(builder))
        return builder.end_building().complete()

    def replay(self, captured: Any, stream: Stream) -> None:
        """See `Driver.replay`."""
        captured.launch(_inner(stream))

    def after(self, stream: Stream, earlier: Stream) -> None:
        """See `Driver.after`."""
        _inner(stream).wait(_inner(earlier))

    def wait(self, stream: Stream) -> None:
        """See `Driver.wait`."""
        _inner(stream).sync()

    def _device(self) -> Any:
        from cuda.core import Device

        return Device(self._number)  # one object a thread


def _driver_version(api: Any) -> str:
    """Of CUDA, which the driver is made for."""
    major, minor = divmod(_done(api.cuDriverGetVersion()), 1000)
    if major < _CUDA:
        raise RuntimeError(f"its driver is for CUDA {major}.{minor // 10}, and {_CUDA} or newer is needed")
    return f"{major}.{minor // 10}"


class _CudaStream:
    """A stream, or the builder of a graph, which stands for the stream that it captures."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def handle(self) -> int:
        return int(self.inner.__cuda_stream__()[1])


class _DeviceMemory:
    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    @property
    def address(self) -> int:
        return int(self._buffer.handle)


class _PinnedMemory(_DeviceMemory):
    def __init__(self, buffer: Any, size: int) -> None:
        super().__init__(buffer)
        self._bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))

    @property
    def bytes(self) -> NDArray[np.uint8]:
        return self._bytes


def _inner(stream: Stream) -> Any:
    assert isinstance(stream, _CudaStream)
    return stream.inner


def _done(answer: Sequence[Any]) -> Any:
    """What a call of the driver gave, if it did; `cuda.bindings` puts the error first."""
    error, *values = answer
    if int(error) != 0:
        raise RuntimeError(f"the CUDA driver answered {error.name}")
    return values[0] if values else None
