"""Sessions of ONNX Runtime on the fake device: the processor computes, when the stream comes to it, on the bound buffers.

The provider of TensorRT has the real one's fault: it reads its input when it is asked, whatever the stream has still to do.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
import onnxruntime


class _Binding:
    """What `onnxruntime.IOBinding` is told; outputs without a buffer are the binding's own."""

    def __init__(self) -> None:
        self.inputs: dict[str, tuple] = {}
        self.outputs: dict[str, tuple] = {}
        self.found: dict[str, np.ndarray] = {}

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr) -> None:
        self.inputs[name] = (device_type, device_id, np.dtype(element_type), tuple(shape), buffer_ptr)

    def bind_output(self, name, device_type="cpu", device_id=0, element_type=None, shape=None, buffer_ptr=None) -> None:
        kind = None if element_type is None else np.dtype(element_type)
        self.outputs[name] = (device_type, device_id, kind, None if shape is None else tuple(shape), buffer_ptr)

    def copy_outputs_to_cpu(self):
        return [self.found[name] for name in self.outputs]


def _place(kind, shape, address):
    size = kind.itemsize * int(np.prod(shape))
    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), kind).reshape(shape)


class FakeSession:
    def __init__(self, driver, graph: bytes, provider: str, settings) -> None:
        self.provider, self.settings, self._driver = provider, dict(settings), driver
        self._stream = driver.stream_of(int(settings["user_compute_stream"]))
        self._session = onnxruntime.InferenceSession(graph)
        self.bindings: list[_Binding] = []
        self.failing: str | None = None

    def io_binding(self) -> _Binding:
        self.bindings.append(_Binding())
        return self.bindings[-1]

    def run_with_iobinding(self, binding: _Binding, options=None) -> None:
        if self.failing:
            raise RuntimeError(self.failing)
        ((device, _, kind, shape, address),) = binding.inputs.values()
        assert device == "cuda", "inputs are on the device"
        lattice = _place(kind, shape, address)
        given = lattice.copy() if self.provider == "onnx-tensorrt" else lattice

        def work() -> None:
            names = list(binding.outputs)
            for name, value in zip(names, self._session.run(names, {"lattice": given}), strict=True):
                self._put(binding, name, value)

        self._driver.network(self._stream, work)
        if options is None or options.get_run_config_entry("disable_synchronize_execution_providers") != "1":
            self._driver.wait(self._stream)

    def _put(self, binding, name, value) -> None:
        _, _, kind, shape, address = binding.outputs[name]
        if address is None:
            binding.found[name] = value
            return
        assert (value.dtype, value.shape) == (kind, shape)
        _place(kind, shape, address)[...] = value


class FakeSessions(SimpleNamespace):
    """`onnx_session.open_session`, on a device; it keeps the sessions that were opened."""

    def __init__(self, driver) -> None:
        super().__init__(driver=driver, opened=[])

    def __call__(self, graph: bytes, provider: str, settings) -> FakeSession:
        self.opened.append(FakeSession(self.driver, graph, provider, settings))
        return self.opened[-1]
