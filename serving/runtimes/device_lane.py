"""A batch's place on a device: a stream, buffers, and the work on them, captured once: noise, network, results.

The host hands over 32 bytes a row and the lattices of the parts, and takes 8 bytes a row; it waits once a batch, for the
results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from certify.smoothing.keys import KEY_BYTES
from certify.smoothing.lattice_gaussian import RoundedGaussian
from serving.runtimes.device_batch import RESULT, THREADS, DevicePart, results_grid
from serving.runtimes.device_driver import Driver, Stream
from serving.runtimes.device_noise import DeviceNoise
from serving.runtimes.device_program import DeviceError
from serving.runtimes.noise_kernel import Draws


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


class Lane:
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


def prove_lane(lane: Lane, law: RoundedGaussian, rows: int, coordinates: int) -> None:
    """As it will serve, captured and all, a lane has to give the network what the law draws."""
    draws = Draws(bytes(range(KEY_BYTES)), 2**33 + 5, rows, np.arange(coordinates, dtype=np.int32) % 251)
    expected = law.sample(draws.key, draws.start, draws.start + rows, coordinates) + draws.lattice
    if not np.array_equal(lane.given([draws]).astype(np.int64), expected):
        raise DeviceError(
            "the device gives its network other rows than the law draws: serve with --provider cpu, and report which device"
            " and driver this was"
        )
