"""A plan of TensorRT as a network on a device: queued on a stream for the batches of a line, or run at once for others.

Each execution has a context of its own, so that several may be under way at once; all share the plan and so the kernels, and
what is proven of one holds for the others. It has never run on a GPU.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtimes.device_driver import Driver, Stream
from serving.runtimes.device_program import DeviceError


class TensorRtNetwork:
    """The engine of a plan. `where` names the graph in errors. Raises `DeviceError` for a plan that cannot be loaded."""

    capturable, waits = True, False

    def __init__(self, trt: Any, driver: Driver, plan: bytes, where: str) -> None:
        driver.enter()
        self._driver, self._where = driver, where
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))  # has to outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise DeviceError(f"TensorRT does not load the plan of {where}: remove it, and build it on this device")
        names = [self._engine.get_tensor_name(place) for place in range(self._engine.num_io_tensors)]
        self._tensors = {name: self._tensor(trt, name) for name in names}
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        if inputs != ["lattice"] or any(-1 in shape for _, shape in self._tensors.values()):
            raise DeviceError(f"the plan of {where} has other inputs than a lattice of one fixed shape: build it again")
        self._once = threading.Lock()
        self._own: _Own | None = None

    @property
    def input_type(self) -> np.dtype[Any]:
        """What it takes the lattice as."""
        return self._tensors["lattice"][0]

    def execution(self, addresses: Mapping[str, int], stream: Stream) -> Callable[[Stream], None]:
        """See `Network.execution`; outputs without an address get a place of their own."""
        self._driver.enter()
        context = self._engine.create_execution_context()
        if context is None:
            raise DeviceError(f"TensorRT has no memory for another run of {self._where}: serve smaller batches")
        own = {name: self._driver.on_device(self._size(name)) for name in self._tensors if name not in addresses}
        for name in self._tensors:
            context.set_tensor_address(name, addresses[name] if name in addresses else own[name].address)

        def queue(stream: Stream) -> None:
            if not context.execute_async_v3(stream.handle):
                raise DeviceError(f"TensorRT did not run {self._where}")

        queue.own = own  # type: ignore[attr-defined]  # as long as the execution
        return queue

    def run(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """All outputs for one batch (rows, *shape), which is waited for."""
        kind, shape = self._tensors["lattice"]
        if lattice.shape != shape:
            raise ValueError(f"{self._where} is built for {shape}; got {lattice.shape}")
        with self._once:
            if self._own is None:
                self._own = _Own(self, self._driver)
            return self._own.run(lattice.astype(kind))

    def _tensor(self, trt: Any, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        kind = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        return kind, tuple(self._engine.get_tensor_shape(name))

    def _size(self, name: str) -> int:
        kind, shape = self._tensors[name]
        return max(1, kind.itemsize * math.prod(shape))


class _Own:
    """Buffers and a stream of the network's own, for whoever waits for the results."""

    def __init__(self, network: TensorRtNetwork, driver: Driver) -> None:
        self._driver, self._stream, self._tensors = driver, driver.stream(), network._tensors
        sizes = {name: network._size(name) for name in self._tensors}
        self._device = {name: driver.on_device(size) for name, size in sizes.items()}
        self._host = {name: driver.on_host(size) for name, size in sizes.items()}
        self._queue = network.execution({name: each.address for name, each in self._device.items()}, self._stream)

    def run(self, lattice: NDArray[Any]) -> dict[str, NDArray[Any]]:
        self._driver.enter()
        self._host["lattice"].bytes[: lattice.nbytes] = np.ascontiguousarray(lattice).reshape(-1).view(np.uint8)
        self._copy("lattice", to_device=True)
        self._queue(self._stream)
        outputs = [name for name in self._tensors if name != "lattice"]
        for name in outputs:
            self._copy(name, to_device=False)
        self._driver.wait(self._stream)
        return {name: self._read(name) for name in outputs}

    def _copy(self, name: str, to_device: bool) -> None:
        host, device = self._host[name], self._device[name]
        ends = (device.address, host.address) if to_device else (host.address, device.address)
        self._driver.copy(*ends, host.bytes.size, self._stream)

    def _read(self, name: str) -> NDArray[Any]:
        kind, shape = self._tensors[name]
        return self._host[name].bytes[: kind.itemsize * math.prod(shape)].view(kind).reshape(shape).copy()
