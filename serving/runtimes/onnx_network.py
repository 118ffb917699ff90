"""A session of ONNX Runtime as a network on a device: its inputs and outputs are buffers of the device, bound once.

A session runs on one stream for ever, which is given to it when it is made. So the network has a stream of its own, and
what asks for it, on whatever stream, is put in order with that by the device: the host waits for neither. It has never run
on a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.prepared import Prepared
from export.graphs.reading import GraphError, one_line
from serving.runtimes.device_driver import Driver, Stream
from serving.runtimes.onnx_session import unsynchronised
from serving.runtimes.runtime import ProviderError

_DEVICE = ("cuda", 0)
Open = Callable[[bytes, Mapping[str, str]], Any]
"""Opens a session for a graph, with these settings of its provider."""


class OnnxNetwork:
    """A graph in batches of `shape`, whose first number is the rows. `where` names it in errors.

    With `waits` its input is complete before it is asked to run, for a provider that does not keep to the order of its
    stream. Raises `ProviderError`, or `GraphError` for a graph that ONNX Runtime does not open.
    """

    capturable = False  # the library may allocate, or ask the host, in any of its runs

    def __init__(
        self,
        open_session: Open,
        driver: Driver,
        graph: Prepared,
        shape: tuple[int, ...],
        where: str,
        waits: bool = False,
    ) -> None:
        driver.enter()
        self._driver, self._graph, self._shape, self._where, self.waits = driver, graph, shape, where, waits
        self._stream = driver.stream()
        try:
            self._session = open_session(graph.data, {"user_compute_stream": str(self._stream.handle)})
        except ProviderError:
            raise
        except Exception as error:  # ONNX Runtime's kinds have no parent but this
            raise GraphError(f"{where} cannot be opened by ONNX Runtime: {one_line(error)}; mend it") from error
        self._kind = np.dtype(graph.input_type)
        self._one_at_a_time = threading.Lock()  # the handles of its libraries belong to its stream
        self._options = unsynchronised()
        self._own: Callable[[NDArray[Any]], dict[str, NDArray[Any]]] | None = None

    @property
    def input_type(self) -> np.dtype[Any]:
        """What it takes the lattice as."""
        return self._kind

    def execution(self, addresses: Mapping[str, int], stream: Stream) -> Callable[[Stream], None]:
        """See `Network.execution`; of its outputs it puts out those that have an address."""
        binding = self._binding(addresses["lattice"])
        for name in self._graph.declared.keys() & addresses.keys():
            kind, shape = self._graph.declared[name]
            binding.bind_output(name, *_DEVICE, np.dtype(kind), (self._shape[0], *shape), addresses[name])

        def queue(stream: Stream) -> None:
            with self._one_at_a_time:
                self._driver.after(self._stream, stream)
                self._session.run_with_iobinding(binding, self._options)
                self._driver.after(stream, self._stream)

        return queue

    def run(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """All outputs for one batch (rows, *shape), which is waited for, by the session that serves."""
        if lattice.shape != self._shape:
            raise ValueError(f"{self._where} is served for {self._shape}; got {lattice.shape}")
        with self._one_at_a_time:
            self._own = self._own or self._own_run()
            return self._own(lattice.astype(self._kind))

    def _own_run(self) -> Callable[[NDArray[Any]], dict[str, NDArray[Any]]]:
        """On buffers of the network's own; ONNX Runtime brings the outputs to the host."""
        size = self._kind.itemsize * int(np.prod(self._shape))
        host, device = self._driver.on_host(size), self._driver.on_device(size)
        binding, names = self._binding(device.address), list(self._graph.axes)
        for name in names:
            binding.bind_output(name, "cpu")

        def run(lattice: NDArray[Any]) -> dict[str, NDArray[Any]]:
            self._driver.enter()
            host.bytes[:] = np.ascontiguousarray(lattice).reshape(-1).view(np.uint8)
            self._driver.copy(device.address, host.address, size, self._stream)
            self._driver.wait(self._stream)
            self._session.run_with_iobinding(binding)
            return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))

        return run

    def _binding(self, address: int) -> Any:
        binding = self._session.io_binding()
        binding.bind_input("lattice", *_DEVICE, self._kind, self._shape, address)
        return binding
