"""Batches of noisy draws on a device, two in flight: noise, network and results of one are queued while the other runs.

A *lane* is a batch's place: a stream, buffers and the work on them, captured once. The host hands over 32 bytes a row and
the lattices of the parts, and takes 8 bytes a row; it waits once a batch, for the results. A lane belongs to one batch from
its submission until its results are taken, so that nothing of it is written while the device may still read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from certify.smoothing.keys import KEY_BYTES
from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.graphs.reading import one_line
from serving.runtimes.device_batch import (
    RESULT,
    THREADS,
    NoiseTables,
    describe,
    grid,
    read_results,
    results_grid,
)
from serving.runtimes.device_driver import Driver, HostMemory, Memory, Stream
from serving.runtimes.device_program import DeviceError
from serving.runtimes.noise_kernel import Draws

LANES = 2
_KERNELS = ("add_noise", "gather_results")
_PROVEN_VALUES = 10**6
_ROW_BYTES = 32

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
    """A batch under way."""

    def __init__(self, line: DeviceLine, lane: _Lane, filled: int) -> None:
        self._line, self._lane, self._filled = line, lane, filled
        self._results: Results | None = None
        self._once = threading.Lock()

    def result(self) -> Results:
        """Votes and scores of all its draws, in their order; waits for them. Raises `DeviceError` if the device fails."""
        with self._once:
            if self._results is None:
                self._results = self._line._finish(self._lane, self._filled)
            return self._results


class DeviceLine:
    """The noisy passes of one bundle on one device. Safe to call from several threads.

    Compiles, runs and captures everything when it is made, and compares a million values of its noise with the law: raises
    `DeviceError` where they differ.
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
        self._failure: str | None = None
        driver.enter()
        kernels = driver.kernels(code, _KERNELS)
        tables = _on_device(driver, NoiseTables.of(law))
        self._lanes = [_Lane(driver, kernels, tables, law.largest, network, rows, coordinates) for _ in range(LANES)]
        for lane in self._lanes:
            _prove(lane, law, rows, coordinates)
        self._free, self._changed = list(self._lanes), threading.Condition()

    def submit(self, draws: Sequence[Draws]) -> Pending:
        """Begin a batch. Waits while both lanes are taken, so that a thread takes results before it submits a third."""
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._failure)
            self._refuse_if_lost()
            lane = self._free.pop(0)
        try:
            return Pending(self, lane, lane.start(draws))
        except ValueError:  # of the caller's making, and nothing was queued
            self._give_back(lane)
            raise
        except Exception as error:
            raise self._lost(error) from error

    def _finish(self, lane: _Lane, filled: int) -> Results:
        try:
            results = read_results(lane.finish(), filled, self._classes)
        except Exception as error:
            raise self._lost(error) from error
        self._give_back(lane)
        return results

    def _give_back(self, lane: _Lane) -> None:
        with self._changed:
            self._free.append(lane)
            self._changed.notify()

    def _refuse_if_lost(self) -> None:
        if self._failure is not None:
            raise DeviceError(f"the device failed before: {self._failure}; start this replica again")

    def _lost(self, error: Exception) -> DeviceError:
        """Nothing is asked of a device that failed once: a context does not recover."""
        reason = one_line(error)
        with self._changed:
            self._failure = self._failure or reason
            self._changed.notify_all()
        return DeviceError(f"the device failed: {reason}")


class _Lane:
    """One batch's stream, buffers and work."""

    def __init__(
        self,
        driver: Driver,
        kernels: Mapping[str, Any],
        tables: Sequence[Memory],
        largest: int,
        network: Network,
        rows: int,
        coordinates: int,
    ) -> None:
        self._driver, self._kernels, self._tables, self._largest = driver, kernels, tables, np.uint32(largest)
        self._shape, self._network = (rows, coordinates), network
        self._element = np.dtype(network.input_type)
        self._stream = driver.stream()
        self._given, self._rows = _both(driver, rows * _ROW_BYTES)
        self._wanted, self._lattices = _both(driver, rows * coordinates * 4)
        self._taken, self._results = _both(driver, rows * RESULT.itemsize)
        self._batch = driver.on_device(rows * coordinates * self._element.itemsize)
        self._votes, self._scores = driver.on_device(rows * 8), driver.on_device(rows * 4)
        addresses = {"lattice": self._batch.address, "vote": self._votes.address, "score": self._scores.address}
        self._run = network.execution(addresses, self._stream)
        self._given.bytes.fill(255)  # rows of nobody
        self._queue(self._stream)  # once by hand, so that whatever the network sets up is there before it is captured
        driver.wait(self._stream)
        self._captured = driver.capture(self._queue) if network.capturable else None

    def start(self, parts: Sequence[Draws]) -> int:
        """Queue a batch; how many of its rows are draws. Raises `ValueError`, and queues nothing, for what does not fit."""
        filled = self._hand_over(parts)
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

    def noise(self, parts: Sequence[Draws]) -> NDArray[np.generic]:
        """The batch that the network would be given, and no network: (rows, coordinates)."""
        self._hand_over(parts)
        self._queue_noise(self._stream)
        rows, coordinates = self._shape
        seen = self._driver.on_host(rows * coordinates * self._element.itemsize)
        self._driver.copy(seen.address, self._batch.address, seen.bytes.size, self._stream)
        self._driver.wait(self._stream)
        return seen.bytes.view(self._element).reshape(self._shape).copy()

    def _hand_over(self, parts: Sequence[Draws]) -> int:
        coordinates = self._shape[1]
        if any(part.lattice.size != coordinates for part in parts):
            raise ValueError(f"expected lattices of {coordinates} coordinates")
        filled = describe(parts, self._given.bytes.view(np.uint64).reshape(-1, 4))
        lattices = self._wanted.bytes.view(np.int32).reshape(self._shape)
        for place, part in enumerate(parts):
            lattices[place] = part.lattice.reshape(-1)
        self._driver.enter()
        size = len(parts) * coordinates * 4
        self._driver.copy(self._lattices.address, self._wanted.address, size, self._stream)
        return filled

    def _queue(self, stream: Stream) -> None:
        """All that a batch is, whatever it holds: sizes and addresses never change."""
        rows = self._shape[0]
        self._queue_noise(stream)
        if self._network.waits:
            self._driver.wait(stream)
        self._run(stream)
        arguments: list[int | np.uint32] = [
            self._votes.address,
            self._scores.address,
            np.uint32(rows),
            self._results.address,
        ]
        self._driver.launch(self._kernels["gather_results"], results_grid(rows), THREADS, arguments, stream)
        self._driver.copy(self._taken.address, self._results.address, rows * RESULT.itemsize, stream)

    def _queue_noise(self, stream: Stream) -> None:
        rows, coordinates = self._shape
        self._driver.copy(self._rows.address, self._given.address, rows * _ROW_BYTES, stream)
        arguments: list[int | np.uint32] = [
            self._rows.address,
            self._lattices.address,
            *(each.address for each in self._tables),
            self._largest,
            np.uint32(coordinates),
            self._batch.address,
        ]
        self._driver.launch(self._kernels["add_noise"], grid(rows, coordinates), THREADS, arguments, stream)


def _both(driver: Driver, size: int) -> tuple[HostMemory, Memory]:
    return driver.on_host(size), driver.on_device(size)


def _on_device(driver: Driver, tables: NoiseTables) -> list[Memory]:
    stream, kept = driver.stream(), []
    for table in (tables.values, tables.above, tables.edges):
        host, device = _both(driver, table.nbytes)
        host.bytes[:] = table.reshape(-1).view(np.uint8)
        driver.copy(device.address, host.address, table.nbytes, stream)
        driver.wait(stream)
        kept.append(device)
    return kept


def _prove(lane: _Lane, law: RoundedGaussian, rows: int, coordinates: int) -> None:
    """A million values and more, at indices that need more than 32 bits, around a lattice that is not constant."""
    lattice = np.arange(coordinates, dtype=np.int32) % 251
    for turn in range(-(-_PROVEN_VALUES // (rows * coordinates))):
        part = Draws(bytes(range(turn % 240, turn % 240 + KEY_BYTES)), 2**33 + 5 + turn * rows, rows, lattice)
        expected = law.sample(part.key, part.start, part.start + rows, coordinates) + lattice
        if not np.array_equal(lane.noise([part]).astype(np.int64), expected):
            raise DeviceError(
                "the noise of the device differs from certify.smoothing.lattice_gaussian: serve with --provider cpu, and"
                " report which device and driver this was"
            )
