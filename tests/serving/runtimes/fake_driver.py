"""A device of the host: it records what is asked for, and does it later than it was asked, stream by stream.

Work waits in its stream until somebody waits for it, or until chance moves it on, as on a device. So what the host writes
too early, or reads too soon, is seen in the results.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from serving.runtimes.device_batch import SOURCE
from serving.runtimes.device_driver import DeviceFacts
from tests.serving.runtimes import host_kernels

GARBAGE = 0xA5
ELEMENT = b"// ELEMENT "


@dataclass(eq=False)
class FakeStream:
    handle: int
    waiting: deque = field(default_factory=deque)


class FakeMemory:
    def __init__(self, size: int) -> None:
        self._all = np.full(size + 256, GARBAGE, np.uint8)
        skip = -self._all.ctypes.data % 256
        self.bytes = self._all[skip : skip + size]
        self.address = self.bytes.ctypes.data


class FakeDriver:
    """`calls` are (what, stream, detail), in the order in which they were made; captured ones among them."""

    def __init__(self, seed: int = 0, element: int = 0) -> None:
        self.facts = DeviceFacts("a fake", "sm_90", "13.0")
        self.calls: list[tuple] = []
        self.memories: list[FakeMemory] = []
        self.failing: str | None = None
        self._chance, self._element, self._streams = np.random.default_rng(seed), element, []
        self._captured: list[FakeStream] = []
        self._one_device = threading.RLock()

    def enter(self) -> None:
        pass

    def stream(self) -> FakeStream:
        self._streams.append(FakeStream(1000 + len(self._streams)))
        return self._streams[-1]

    def stream_of(self, handle: int) -> FakeStream:
        return next(each for each in [*self._streams, *self._captured] if each.handle == handle)

    def on_device(self, size: int) -> FakeMemory:
        self.memories.append(FakeMemory(size))
        return self.memories[-1]

    on_host = on_device

    def kernels(self, code: bytes, names) -> dict[str, str]:
        source, _, element = code.partition(ELEMENT)
        assert source == SOURCE.read_bytes(), "the fake compiles for itself"
        self._element = int(element or self._element)
        return {name: name for name in names}

    def copy(self, target: int, source: int, size: int, stream: FakeStream) -> None:
        self._ask("copy", stream, (target, source, size), lambda: ctypes.memmove(target, source, size))

    def launch(self, kernel: str, grid, threads: int, arguments, stream: FakeStream) -> None:
        assert threads == 128
        given = [each if isinstance(each, int) else ctypes.c_uint(each) for each in arguments]
        self._ask(kernel, stream, (grid, arguments), lambda: host_kernels.launch(self._element, kernel, grid, *given))

    def network(self, stream: FakeStream, work) -> None:
        """What a library queues on a stream that it was given."""
        self._ask("network", stream, (), work)

    def capture(self, work) -> FakeStream:
        kept = FakeStream(-1 - len(self._captured))
        self._captured.append(kept)
        work(kept)
        return kept

    def replay(self, captured: FakeStream, stream: FakeStream) -> None:
        work = list(captured.waiting)
        self._ask("replay", stream, tuple(what for what, _ in work), lambda: [each() for _, each in work])

    def after(self, stream: FakeStream, earlier: FakeStream) -> None:
        """An event behind all that waits in `earlier`, and work of `stream` that cannot go on before it."""
        reached = []
        with self._one_device:
            earlier.waiting.append(("event", lambda: reached.append(True)))

        def until() -> None:
            while not reached:
                earlier.waiting.popleft()[1]()

        self._ask("after", stream, (earlier.handle,), until)

    def wait(self, stream: FakeStream) -> None:
        self.calls.append(("wait", stream.handle, ()))
        self._fail("wait")
        with self._one_device:
            while stream.waiting:
                stream.waiting.popleft()[1]()

    def _ask(self, what: str, stream: FakeStream, detail: tuple, work) -> None:
        self._fail(what)
        with self._one_device:
            self.calls.append((what, stream.handle, detail))
            stream.waiting.append((what, work))
            for other in self._streams:
                while other.waiting and self._chance.random() < 0.2:
                    other.waiting.popleft()[1]()

    def _fail(self, what: str) -> None:
        if self.failing == what:
            raise RuntimeError(f"the CUDA driver answered CUDA_ERROR_ILLEGAL_ADDRESS\nat {what}")


class FakeNetwork:
    """Votes and scores that depend on every coordinate of their row."""

    def __init__(self, driver: FakeDriver, rows: int, coordinates: int, classes: int, kind=np.int32, **traits) -> None:
        self._driver, self._rows, self._coordinates, self._classes = driver, rows, coordinates, classes
        self.input_type, self.capturable, self.waits = kind, True, False
        self.executions: list[dict[str, int]] = []
        self.runs = 0
        self.__dict__.update(traits)

    def execution(self, addresses, stream):
        self.executions.append(dict(addresses))
        places = {name: (ctypes.c_ubyte * size).from_address(addresses[name]) for name, size in self._sizes().items()}
        lattice = np.frombuffer(places["lattice"], self.input_type).reshape(self._rows, self._coordinates)
        vote, score = np.frombuffer(places["vote"], np.int64), np.frombuffer(places["score"], np.float32)

        def run() -> None:
            self.runs += 1
            vote[:], score[:] = self.answer(lattice)

        return lambda stream: self._driver.network(stream, run)

    def run(self, lattice):
        """All outputs, at once."""
        return dict(zip(("vote", "score"), self.answer(lattice), strict=True))

    def answer(self, lattice):
        weights = np.arange(1, self._coordinates + 1)
        total = lattice.astype(np.int64) @ weights
        return total % (self._classes + 1), np.asarray(total, np.float32) / 7

    def _sizes(self):
        batch = self._rows * self._coordinates * np.dtype(self.input_type).itemsize
        return {"lattice": batch, "vote": self._rows * 8, "score": self._rows * 4}
