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

from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.graphs.reading import one_line
from serving.runtimes.device_batch import RESULT, THREADS, read_results, results_grid
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
        source = NoiseSource(driver, kernels["add_noise"], law, coordinates, np.dtype(network.input_type))
        source.prove()
        self._free = [_Lane(driver, source.batch(rows), kernels["gather_results"], network) for _ in range(LANES)]
        self._changed = threading.Condition()

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

    def __init__(self, driver: Driver, noise: DeviceNoise, gather: Any, network: Network) -> None:
        self._driver, self._noise, self._gather, self._waits = driver, noise, gather, network.waits
        rows = noise.rows
        self._stream = driver.stream()
        self._taken, self._results = driver.on_host(rows * RESULT.itemsize), driver.on_device(rows * RESULT.itemsize)
        self._votes, self._scores = driver.on_device(rows * 8), driver.on_device(rows * 4)
        addresses = {"lattice": noise.batch.address, "vote": self._votes.address, "score": self._scores.address}
        self._run = network.execution(addresses, self._stream)
        self._queue(self._stream)  # once by hand, so that whatever the network sets up is there before it is captured
        driver.wait(self._stream)
        self._captured = driver.capture(self._queue) if network.capturable else None

    def start(self, parts: Sequence[Draws]) -> int:
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
