"""TensorRT's Python API as far as it is called, on the fake device: a plan is a graph that ONNX Runtime runs on the host."""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace

import numpy as np
import onnxruntime

_TYPES = {
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
}


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class _Context:
    def __init__(self, engine) -> None:
        self._engine, self.addresses = engine, {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 256 == 0
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        engine, driver = self._engine, self._engine.driver
        if engine.refuses:
            return False
        places = {name: engine.place(name, address) for name, address in self.addresses.items()}
        assert places.keys() == engine.tensors.keys(), "every tensor has an address"

        def run() -> None:
            outputs = [name for name in places if name != "lattice"]
            for name, value in zip(outputs, engine.session.run(outputs, {"lattice": places["lattice"]}), strict=True):
                places[name][...] = value

        driver.network(driver.stream_of(handle), run)
        return True


class _Engine:
    def __init__(self, driver, plan: bytes, rows: int) -> None:
        self.driver, self.session, self.refuses = driver, onnxruntime.InferenceSession(plan), False
        self.contexts: list[_Context] = []
        given = [*self.session.get_inputs(), *self.session.get_outputs()]
        self._inputs = [each.name for each in self.session.get_inputs()]
        (lattice,) = self.session.get_inputs()
        zeros = np.zeros((rows, *lattice.shape[1:]), _TYPES[lattice.type])
        found = dict(
            zip(
                [each.name for each in self.session.get_outputs()],
                self.session.run(None, {"lattice": zeros}),
                strict=True,
            )
        )
        self.tensors = {
            e.name: (_TYPES[e.type], found[e.name].shape if e.name in found else zeros.shape) for e in given
        }
        self.num_io_tensors = len(self.tensors)

    def place(self, name: str, address: int):
        kind, shape = self.tensors[name]
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        return np.frombuffer((ctypes.c_ubyte * size).from_address(address), kind).reshape(shape)

    def get_tensor_name(self, place: int) -> str:
        return list(self.tensors)[place]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str):
        return self.tensors[name][0]

    def get_tensor_shape(self, name: str):
        return self.tensors[name][1]

    def create_execution_context(self) -> _Context | None:
        self.contexts.append(_Context(self))
        return self.contexts[-1]


class _Builder:
    """Builds a plan that is the graph itself, behind the number of its rows."""

    def __init__(self, log) -> None:
        pass

    def create_network(self, flags: int):
        given = SimpleNamespace(name="lattice", shape=(-1,))
        return SimpleNamespace(num_inputs=1, given=given, get_input=lambda place: given, graph=b"")

    def create_builder_config(self):
        cache = SimpleNamespace(serialize=lambda: b"what was timed")
        return SimpleNamespace(
            set_flag=lambda flag: None,
            clear_flag=lambda flag: None,
            create_timing_cache=lambda content: cache,
            set_timing_cache=lambda cache, ignore_mismatch: True,
        )

    def build_serialized_network(self, network, config) -> bytes:
        config.progress_monitor.phase_start("Building engine", None, 1)
        return plan_of(network.given.shape[0], network.graph)


class _Parser:
    num_errors = 1

    def __init__(self, network, log) -> None:
        self._network = network

    def parse(self, graph: bytes) -> bool:
        self._network.graph = graph
        return True


class _Base:
    class Severity:
        ERROR = INTERNAL_ERROR = 1


def plan_of(rows: int, graph: bytes) -> bytes:
    return b"plan" + rows.to_bytes(8, "little") + graph


class FakeTensorRt(SimpleNamespace):
    """The module, on a device; it counts the engines that were loaded."""

    TensorIOMode, Builder, OnnxParser, ILogger, IProgressMonitor = TensorIOMode, _Builder, _Parser, _Base, _Base
    BuilderFlag = SimpleNamespace(DISTRIBUTIVE_INDEPENDENCE=1, STRICT_NANS=2, TF32=3)
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    __version__ = "11.4.0.106"

    class Logger:
        INTERNAL_ERROR = 0

        def __init__(self, severity: int) -> None:
            pass

    def __init__(self, driver) -> None:
        self.engines: list[_Engine] = []

        def deserialize(plan: bytes):
            if not plan.startswith(b"plan"):
                return None
            self.engines.append(_Engine(driver, plan[12:], int.from_bytes(plan[4:12], "little")))
            return self.engines[-1]

        self.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=deserialize)
        self.nptype = lambda kind: kind
