"""How many draws a second a device makes in batches of some size, and whether a bundle should declare another one.

A bundle declares the rows of a batch, for results may depend on them; a device says here what they cost it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from certify.claims.procedures import SLICE
from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.bundle.schema import LARGEST_BATCH
from serving.runtimes.device_driver import Driver
from serving.runtimes.device_lane import Lane, Network
from serving.runtimes.device_noise import NoiseSource
from serving.runtimes.noise_kernel import Draws

_SECONDS, _LEAST_BATCHES = 0.2, 4
_WORTH_IT = 1.05
_MOST_ROWS = 4_096
_KEY = bytes(16)


class Rate:
    """Draws a second of networks on one device: noise, network and results, two batches in flight, as they are served."""

    def __init__(
        self,
        driver: Driver,
        code: bytes,
        law: RoundedGaussian,
        coordinates: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        driver.enter()
        self._driver, self._law, self._coordinates, self._clock = driver, law, coordinates, clock
        self._kernels = driver.kernels(code, ("add_noise", "gather_results"))

    def of(self, network: Network, rows: int) -> float:
        """Of this network, which is made for batches of `rows`. All that it takes of the device is given back."""
        noise, gather = self._kernels["add_noise"], self._kernels["gather_results"]
        source = NoiseSource(self._driver, noise, self._law, self._coordinates, np.dtype(network.input_type))
        lanes = [Lane(self._driver, source.batch(rows), gather, network) for _ in range(2)]
        part = [Draws(_KEY, 0, rows, np.zeros(self._coordinates, np.int32))]
        for lane in lanes:
            lane.start(part)
            lane.finish()
        return self._made(lanes, part) * rows

    def _made(self, lanes: Sequence[Lane], part: Sequence[Draws]) -> float:
        """Batches a second."""
        began, made = self._clock(), 0
        for lane in lanes:
            lane.start(part)
        while made < _LEAST_BATCHES or self._clock() - began < _SECONDS:
            lane = lanes[made % len(lanes)]
            lane.finish()
            made += 1
            lane.start(part)
        took = self._clock() - began
        for lane in lanes:
            lane.finish()
        return made / took


def neighbours(declared: int, coordinates: int) -> list[int]:
    """Half and twice as many rows, where a bundle may declare them."""
    return [
        rows
        for rows in (declared // 2, declared * 2)
        if rows % SLICE == 0 and 0 < rows <= _MOST_ROWS and rows * coordinates <= LARGEST_BATCH
    ]


def advice(rates: Mapping[int, float], declared: int) -> str:
    """What other batches would give, in a line, where one is worth another export; empty otherwise."""
    best = max(rates, key=lambda rows: rates[rows])
    if rates[best] <= _WORTH_IT * rates[declared]:
        return ""
    return (
        f"its batches of {declared} rows make {rates[declared]:,.0f} draws a second on this device, {best} rows would make"
        f" {rates[best]:,.0f}: declare batch_rows {best} and export again; it is served as declared"
    )
