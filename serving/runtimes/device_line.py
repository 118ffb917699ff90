"""Batches of noisy draws on a device, two in flight: noise, network and results of one are queued while the other runs.

A *lane* is a batch's place: a stream, buffers and the work on them, captured once. The host hands over 32 bytes a row and
the lattices of the parts, and takes 8 bytes a row; it waits once a batch, for the results. A lane belongs to one batch from
its start until its results are taken, so that nothing of it is written while the device may still read.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from certify.smoothing.keys import KEY_BYTES
from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.graphs.reading import one_line
from serving.runtimes.device_batch import RESULT, THREADS, DevicePart, read_results, results_grid
from serving.runtimes.device_driver import Driver, Stream
from serving.runtimes.device_noise import DeviceNoise, NoiseSource
from serving.runtimes.device_program import DeviceError
from serving.runtimes.noise_kernel import Draws

LANES = 2
_KERNELS = ("add_noise", "gather_results")

Results = tuple[NDArray[np.int64], NDArray[np.float32]]


class Network(Protocol):
    """The noisy graph of a bundle, for one shape of a batch, on a device."""

    @property
    def input_type(self) -> DTypeLike:
        """What it takes the lattice as."""
        ...

    @property
    def capturable(self) -> bool:
        """Whether what it queues may be captured; else it is queued anew for each batch."""
        ...

    @property
    def waits(self) -> bool:
        """Whether its input has to be complete on the device before it is asked to run: one synchronisation more."""
        ...

    def execution(self, addresses: Mapping[str, int], stream: Stream) -> Callable[[Stream], None]:
        """The network on these buffers (`lattice`, `vote`, `score`): a function that queues it, here or in a capture."""
        ...


class Pending:
    """A batch that was submitted."""

    def __init__(self, line: DeviceLine, parts: Sequence[DevicePart]) -> None:
        self._line, self.parts, self.filled, self.claimed = line, parts, 0, False
        self.lane: _Lane | None = None
        self.results: Results | None = None
        self.error: DeviceError | None = None

    @property
    def done(self) -> bool:
        """Whether there are results, or never will be."""
        return self.results is not None or self.error is not None

    def result(self) -> Results:
        """Votes and scores of all its draws, in their order; waits for them. Raises `DeviceError` if the device fails."""
        self._line._until(self)
        if self.results is None:
            raise self.error or DeviceError("there are no results")
        return self.results


class DeviceLine:
    """The noisy passes of one bundle on one device. Safe to call from several threads.

    Compiles, runs and captures everything when it is made, and compares a million values of its noise with the law: raises
    `DeviceError` where they differ.

    Any number of batches may be submitted; two are on the device, the others wait in order. Whoever asks for a result
    takes those before it off the device, so that nobody waits for results that nobody asks for.
    """

    def __init__(
        self,
        driver: Driver,
        code: bytes,
        network: Network,
        law: RoundedGaussian,
        rows: int,
        coordinates: int,
        classes: int,
    ) -> None:
        self._driver, self._classes = driver, classes
        self._refusal: str | None = None  # what is said to whoever submits
        self._failed = False
        driver.enter()
        kernels = driver.kernels(code, _KERNELS)
        source = NoiseSource(driver, kernels["add_noise"], law, coordinates, np.dtype(network.input_type))
        source.prove()
        self._free = [_Lane(driver, source.batch(rows), kernels["gather_results"], network) for _ in range(LANES)]
        for lane in self._free:
            _prove_lane(lane, law, rows, coordinates)
        self._shown = source.batch(rows)
        self._shown_once, self._shown_stream = threading.Lock(), driver.stream()
        self._changed = threading.Condition()
        self._flying: list[Pending] = []
        self._waiting: deque[Pending] = deque()

    def submit(self, parts: Sequence[DevicePart]) -> Pending:
        """Begin a batch, or have it wait for its turn. Raises `ValueError` for what is no batch."""
        self._shown.check(parts)
        pending = Pending(self, parts)
        with self._changed:
            if self._refusal is not None:
                raise DeviceError(self._refusal)
            self._waiting.append(pending)
            self._start_waiting()
        if pending.error:
            raise pending.error
        return pending

    def inputs(self, parts: Sequence[DevicePart]) -> NDArray[np.int32]:
        """What the network would be given for these parts: (draws, coordinates)."""
        with self._shown_once:
            rows = self._shown.read(parts, self._shown_stream)
        return rows[: sum(part.rows for part in parts)].astype(np.int32)

    def close(self) -> None:
        """Wait for all that was submitted; nothing is taken any more."""
        with self._changed:
            self._refusal = self._refusal or "this runtime was closed"
        while True:
            with self._changed:
                under_way = [*self._flying, *self._waiting]
            if not under_way:
                return
            self._until(under_way[0])

    def _until(self, pending: Pending) -> None:
        while True:
            with self._changed:
                if pending.done:
                    return
                wanted = pending if pending in self._flying else self._flying[0]
                if wanted.claimed:
                    self._changed.wait()
                    continue
                wanted.claimed = True
            self._take(wanted)

    def _take(self, pending: Pending) -> None:
        """Wait for a batch on the device, and give its lane to the next."""
        lane = pending.lane
        assert lane is not None
        try:
            results = read_results(lane.finish(), pending.filled, self._classes)
        except Exception as error:
            self._lose(error)
            return
        with self._changed:
            pending.results, pending.lane, pending.parts = results, None, ()
            self._flying.remove(pending)
            self._free.append(lane)
            self._start_waiting()
            self._changed.notify_all()

    def _start_waiting(self) -> None:
        """Under the lock."""
        while self._waiting and self._free and not self._failed:
            pending, lane = self._waiting.popleft(), self._free.pop(0)
            pending.lane = lane
            self._flying.append(pending)
            try:
                pending.filled = lane.start(pending.parts)
            except Exception as error:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Nothing is asked of a device that failed once: a context does not recover."""
        with self._changed:
            reason, self._failed = one_line(error), True
            self._refusal = f"the device failed before: {reason}; start this replica again"
            for pending in [*self._flying, *self._waiting]:
                pending.error = DeviceError(f"the device failed: {reason}")
            self._flying.clear()
            self._waiting.clear()
            self._changed.notify_all()


class _Lane:
    """One batch's stream, buffers and work."""

    def __init__(self, driver: Driver, noise: DeviceNoise, gather: Any, network: Network) -> None:
        self._driver, self._noise, self._gather, self._waits = driver, noise, gather, network.waits
        rows = noise.rows
        self._stream = driver.stream()
        self._taken, self._results = driver.on_host(rows * RESULT.itemsize), driver.on_device(rows * RESULT.itemsize)
        self._votes, self._scores = driver.on_device(rows * 8), driver.on_device(rows * 4)
        addresses = {"lattice": noise.batch.address, "vote": self._votes.address, "score": self._scores.address}
        self._clear_scores(rows * 4)
        self._run = network.execution(addresses, self._stream)
        self._queue(self._stream)  # once by hand, so that whatever the network sets up is there before it is captured
        driver.wait(self._stream)
        self._captured = driver.capture(self._queue) if network.capturable else None

    def _clear_scores(self, size: int) -> None:
        """A graph without a score leaves zeros."""
        zeros = self._driver.on_host(size)
        zeros.bytes.fill(0)
        self._driver.copy(self._scores.address, zeros.address, size, self._stream)
        self._driver.wait(self._stream)

    def start(self, parts: Sequence[DevicePart]) -> int:
        """Queue a batch; how many of its rows are draws. Raises `ValueError`, and queues nothing, for what does not fit."""
        filled = self._noise.hand_over(parts, self._stream)
        if self._captured is None:
            self._queue(self._stream)
        else:
            self._driver.replay(self._captured, self._stream)
        return filled

    def finish(self) -> NDArray[np.void]:
        """A copy of the results, once they are there."""
        self._driver.enter()
        self._driver.wait(self._stream)
        return self._taken.bytes.view(RESULT).copy()

    def given(self, parts: Sequence[DevicePart]) -> NDArray[Any]:
        """The rows that the network is given in a whole batch of these parts."""
        self.start(parts)
        self.finish()
        return self._noise.seen(self._stream)

    def _queue(self, stream: Stream) -> None:
        """All that a batch is, whatever it holds: sizes and addresses never change."""
        rows = self._noise.rows
        self._noise.queue(stream)
        if self._waits:
            self._driver.wait(stream)
        self._run(stream)
        arguments: list[int | np.uint32] = [
            self._votes.address,
            self._scores.address,
            np.uint32(rows),
            self._results.address,
        ]
        self._driver.launch(self._gather, results_grid(rows), THREADS, arguments, stream)
        self._driver.copy(self._taken.address, self._results.address, rows * RESULT.itemsize, stream)


def _prove_lane(lane: _Lane, law: RoundedGaussian, rows: int, coordinates: int) -> None:
    """As it will serve, captured and all, a lane has to give the network what the law draws."""
    draws = Draws(bytes(range(KEY_BYTES)), 2**33 + 5, rows, np.arange(coordinates, dtype=np.int32) % 251)
    expected = law.sample(draws.key, draws.start, draws.start + rows, coordinates) + draws.lattice
    if not np.array_equal(lane.given([draws]).astype(np.int64), expected):
        raise DeviceError(
            "the device gives its network other rows than the law draws: serve with --provider cpu, and report which device"
            " and driver this was"
        )
