"""Noise, one core, slices of 32 draws of 784: the compiled kernel beside the reference and beside numpy's raw words."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.measure import in_turns, main
from benchmarks.row import Row
from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.build.noise_table import rounded_gaussian_tails
from serving.runtimes.noise_kernel import Draws, add_draws

ROWS, COORDINATES, SIGMA_STEPS = 32, 784, 63.75
KEY = bytes(range(16))


def rows() -> list[Row]:
    law = RoundedGaussian(SIGMA_STEPS, rounded_gaussian_tails(SIGMA_STEPS))
    lattice, out = np.zeros(COORDINATES, np.int32), np.empty((ROWS, COORDINATES), np.int32)
    words = np.frombuffer(KEY, "<u8")
    sides = {
        "kernel": lambda start: add_draws(law, [Draws(KEY, start, ROWS, lattice)], out),
        "reference": lambda start: np.add(law.sample(KEY, start, start + ROWS, COORDINATES), lattice, out=out),
        "words": lambda start: np.random.Philox(key=words, counter=[start, 0, 0, 0]).random_raw(out.size // 4),
    }
    values = in_turns(300, {name: lambda side=side: _nanoseconds(side) for name, side in sides.items()})
    kernel, reference, raw = (float(np.median(values[name])) for name in sides)
    return [
        Row("noise, ns a sample, X + Z", f"{kernel:.2f} ns", "limit 1 ns", kernel, 2.0, 0.6, less_is_better=True),
        Row("noise, kernel over reference", f"{kernel:.2f} ns", f"numpy {reference:.2f} ns", reference / kernel),
        Row("noise, share of numpy's bare Philox", f"{kernel:.2f} ns", f"random_raw {raw:.2f} ns", raw / kernel),
    ]


def _nanoseconds(side) -> float:
    began = time.perf_counter()
    for start in range(0, 5 * ROWS, ROWS):
        side(start)
    return (time.perf_counter() - began) / (5 * ROWS * COORDINATES) * 1e9


if __name__ == "__main__":
    main("noise", rows)
