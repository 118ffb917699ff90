"""The noisy inputs of a batch, made on the device: its buffers, what is handed over for it, and the proof of the noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.keys import KEY_BYTES
from certify.smoothing.lattice_gaussian import RoundedGaussian
from serving.runtimes.device_batch import (
    LARGEST_BATCH,
    THREADS,
    DeviceBatchError,
    DevicePart,
    NoiseTables,
    check,
    describe,
    fits,
    grid,
)
from serving.runtimes.device_driver import Driver, HostMemory, Memory, Stream
from serving.runtimes.device_program import DeviceError
from serving.runtimes.noise_kernel import Draws

_PROVEN_VALUES = 10**6
_ROW_BYTES = 32


class NoiseSource:
    """The noise of one law around inputs of so many coordinates, written as `element`; its tables lie on the device."""

    def __init__(
        self, driver: Driver, kernel: Any, law: RoundedGaussian, coordinates: int, element: np.dtype[Any]
    ) -> None:
        self._driver, self._kernel, self._law = driver, kernel, law
        self._coordinates, self._element = coordinates, element
        tables = NoiseTables.of(law)
        self._tables = [_on_device(driver, each) for each in (tables.values, tables.above, tables.edges)]

    def batch(self, rows: int) -> DeviceNoise:
        """Buffers for batches of so many rows."""
        shape = (rows, self._coordinates)
        return DeviceNoise(self._driver, self._kernel, self._tables, self._law, shape, self._element)

    def prove(self) -> None:
        """Compare a million values and more with the law, around a lattice that is not constant.

        The indices need more than 32 bits, every turn has another key, and a row of nobody follows. Raises `DeviceError`.
        """
        rows = min(-(-_PROVEN_VALUES // self._coordinates), LARGEST_BATCH - 1)
        lattice = np.arange(self._coordinates, dtype=np.int32) % 251
        tried, stream = self.batch(rows + 1), self._driver.stream()
        for turn in range(-(-_PROVEN_VALUES // (rows * self._coordinates))):
            part = Draws(bytes(range(turn, turn + KEY_BYTES)), 2**33 + 5 + turn * rows, rows, lattice)
            expected = self._law.sample(part.key, part.start, part.start + rows, self._coordinates) + lattice
            found = tried.read([part], stream).astype(np.int64)
            if not np.array_equal(found[:rows], expected) or found[rows].any():
                raise DeviceError(
                    "the noise of the device differs from certify.smoothing.lattice_gaussian: serve with --provider cpu,"
                    " and report which device and driver this was"
                )


class DeviceNoise:
    """A batch of noisy inputs (rows, coordinates) on the device, and what its rows are described by."""

    def __init__(
        self,
        driver: Driver,
        kernel: Any,
        tables: Sequence[Memory],
        law: RoundedGaussian,
        shape: tuple[int, int],
        element: np.dtype[Any],
    ) -> None:
        self._driver, self._kernel, self._tables, self._law = driver, kernel, tables, law
        self._shape, self._element = shape, element
        rows, coordinates = shape
        self.rows = rows
        self._given, self._rows = _both(driver, rows * _ROW_BYTES)
        self._wanted, self._lattices = _both(driver, rows * coordinates * 4)
        self.batch = driver.on_device(rows * coordinates * element.itemsize)
        self._given.bytes.fill(255)  # rows of nobody

    def check(self, parts: Sequence[DevicePart]) -> None:
        """Raises `DeviceBatchError`, which is a `ValueError`, where these parts are no batch."""
        check(parts, *self._shape)
        if self._element != np.int32 and not fits(self._law, parts, self._element):
            raise DeviceBatchError(f"noisy inputs would leave what {self._element} holds exactly: export with int32")

    def hand_over(self, parts: Sequence[DevicePart], stream: Stream) -> int:
        """Describe the rows of these parts and queue their lattices; how many rows there are."""
        rows = self._given.bytes.view(np.uint64).reshape(-1, 4)
        filled, used = describe(parts, rows, self._wanted.bytes.view(np.int32).reshape(self._shape))
        self._driver.enter()
        self._driver.copy(self._lattices.address, self._wanted.address, used * self._shape[1] * 4, stream)
        return filled

    def queue(self, stream: Stream) -> None:
        """Fill the batch with what was described."""
        rows, coordinates = self._shape
        self._driver.copy(self._rows.address, self._given.address, rows * _ROW_BYTES, stream)
        arguments: list[int | np.uint32] = [
            self._rows.address,
            self._lattices.address,
            *(each.address for each in self._tables),
            np.uint32(self._law.largest),
            np.uint32(coordinates),
            self.batch.address,
        ]
        self._driver.launch(self._kernel, grid(rows, coordinates), THREADS, arguments, stream)

    def read(self, parts: Sequence[DevicePart], stream: Stream) -> NDArray[Any]:
        """The batch itself, on the host; waits for it. Raises as `check` does."""
        self.check(parts)
        self.hand_over(parts, stream)
        self.queue(stream)
        return self.seen(stream)

    def seen(self, stream: Stream) -> NDArray[Any]:
        """What lies in the batch now, on the host; waits for it."""
        rows, coordinates = self._shape
        seen = self._driver.on_host(rows * coordinates * self._element.itemsize)
        self._driver.copy(seen.address, self.batch.address, seen.bytes.size, stream)
        self._driver.wait(stream)
        return seen.bytes.view(self._element).reshape(self._shape).copy()


def _both(driver: Driver, size: int) -> tuple[HostMemory, Memory]:
    return driver.on_host(size), driver.on_device(size)


def _on_device(driver: Driver, table: NDArray[Any]) -> Memory:
    stream = driver.stream()
    host, device = _both(driver, table.nbytes)
    host.bytes[:] = table.view(np.uint8)
    driver.copy(device.address, host.address, table.nbytes, stream)
    driver.wait(stream)
    return device
