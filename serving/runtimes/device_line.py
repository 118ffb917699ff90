"""Batches of noisy draws on a device, two in flight: noise, network and results of one are queued while the other runs.

A lane (`device_lane`) belongs to one batch from its start until its results are taken, so that nothing of it is written
while the device may still read.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.graphs.reading import one_line
from serving.runtimes.device_batch import DevicePart, read_results
from serving.runtimes.device_driver import Driver
from serving.runtimes.device_lane import Lane, Network, prove_lane
from serving.runtimes.device_noise import NoiseSource
from serving.runtimes.device_program import DeviceError
from serving.runtimes.runtime import DeviceLost

LANES = 2
_KERNELS = ("add_noise", "gather_results")

Results = tuple[NDArray[np.int64], NDArray[np.float32]]


class Pending:
    """A batch that was submitted."""

    def __init__(self, line: DeviceLine, parts: Sequence[DevicePart]) -> None:
        self._line, self.parts, self.filled, self.claimed = line, parts, 0, False
        self.lane: Lane | None = None
        self.results: Results | None = None
        self.error: DeviceLost | None = None

    @property
    def done(self) -> bool:
        """Whether there are results, or never will be."""
        return self.results is not None or self.error is not None

    def result(self) -> Results:
        """Votes and scores of all its draws, in their order; waits for them. Raises `DeviceLost` if the device fails."""
        self._line._until(self)
        if self.results is None:
            raise self.error or DeviceLost("there are no results")
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
        last_vote: int,
    ) -> None:
        self._driver, self._last_vote = driver, last_vote
        self._refusal, self._lost = "", False  # what is said to whoever submits, and whether a failure is the reason
        driver.enter()
        kernels = driver.kernels(code, _KERNELS)
        source = NoiseSource(driver, kernels["add_noise"], law, coordinates, np.dtype(network.input_type))
        source.prove()
        self._free = [Lane(driver, source.batch(rows), kernels["gather_results"], network) for _ in range(LANES)]
        for lane in self._free:
            prove_lane(lane, law, rows, coordinates)
        self._shown = source.batch(rows)
        self._shown_once, self._shown_stream = threading.Lock(), driver.stream()
        self._changed = threading.Condition()
        self._flying: list[Pending] = []
        self._waiting: deque[Pending] = deque()

    def submit(self, parts: Sequence[DevicePart]) -> Pending:
        """Begin a batch, or have it wait for its turn. Raises `ValueError` for what is no batch, `DeviceLost`."""
        self._shown.check(parts)
        pending = Pending(self, parts)
        with self._changed:
            self._refuse()
            self._waiting.append(pending)
            self._start_waiting()
        if pending.error:
            raise pending.error
        return pending

    def check(self) -> None:
        """Raises as `submit` does where nothing is to be asked of the device any more."""
        with self._changed:
            self._refuse()

    def _refuse(self) -> None:
        """Under the lock."""
        if self._refusal:
            raise (DeviceLost if self._lost else DeviceError)(self._refusal)

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
            results = read_results(lane.finish(), pending.filled, self._last_vote)
        except Exception as error:
            self.lose(error)
            return
        with self._changed:
            pending.results, pending.lane, pending.parts = results, None, ()
            self._flying.remove(pending)
            self._free.append(lane)
            self._start_waiting()
            self._changed.notify_all()

    def _start_waiting(self) -> None:
        """Under the lock."""
        while self._waiting and self._free:
            pending, lane = self._waiting.popleft(), self._free.pop(0)
            pending.lane = lane
            self._flying.append(pending)
            try:
                pending.filled = lane.start(pending.parts)
            except Exception as error:
                self.lose(error)

    def lose(self, error: Exception) -> DeviceLost:
        """Nothing is asked of a device that failed once: a context does not recover. What is to be raised."""
        with self._changed:
            lost = DeviceLost(f"the device failed: {one_line(error)}")
            if not self._lost:
                self._refusal = f"the device failed before: {one_line(error)}; start this replica again"
            self._lost = True
            for pending in [*self._flying, *self._waiting]:
                pending.error = lost
            self._flying.clear()
            self._waiting.clear()
            self._changed.notify_all()
        return lost
