"""`make gpu`: what has to be seen on a GPU, in parts that each run alone, one table, under eight minutes.

    kernel       the noise of the device against its definition, bit for bit
    noise        ns a value at 224x224x3, beside the host's compiled kernel
    captured     answers of a ResNet-20 in two batches at once, captured where it can be, against its own on the host's noise
    draws        draws a second, noise and results included, over the bare network: ResNet-50 and ResNet-20, FP16
    certificate  the time of 1,000 draws of ResNet-50
    waits        how often the host waits for the device in one batch

A part that cannot run says why in one line. Networks run by TensorRT, by ONNX Runtime where that is absent, else by torch;
weights are random.
None of this has ever run: nobody who built it had a GPU.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import table
from benchmarks.row import Row
from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.build.noise_table import rounded_gaussian_tails
from serving.runtimes import device_program, noise_kernel
from serving.runtimes.cuda_driver import CudaDriver
from serving.runtimes.device_driver import Driver
from serving.runtimes.device_line import DeviceLine
from serving.runtimes.device_noise import NoiseSource
from serving.runtimes.device_program import DeviceError
from serving.runtimes.noise_kernel import Draws
from serving.runtimes.runtime import ProviderError

KEY = bytes(range(16))
ROWS = {"resnet50": 128, "resnet20": 512}
PROVEN = (1, 17, 784, 2_049, 150_528)
LATTICE = np.dtype(np.int32)


@dataclass(frozen=True)
class Device:
    """A device, its kernels, and how a network of a name is had on it: with the shape of its input and its classes."""

    driver: Driver
    code: bytes
    network: Callable[[str, int], tuple[Any, tuple[int, ...], int]]
    sigma: float = 63.75
    batches: int = 40

    @property
    def law(self) -> RoundedGaussian:
        return RoundedGaussian(self.sigma, rounded_gaussian_tails(self.sigma))

    def source(self, coordinates: int) -> NoiseSource:
        kernel = self.driver.kernels(self.code, ["add_noise"])["add_noise"]
        return NoiseSource(self.driver, kernel, self.law, coordinates, LATTICE)

    def line(self, name: str, driver: Driver | None = None) -> tuple[DeviceLine, Any, tuple[int, ...]]:
        """The network's line, itself, and the shape of its input."""
        network, shape, classes = self.network(name, ROWS[name])
        size = math.prod(shape)
        line = DeviceLine(driver or self.driver, self.code, network, self.law, ROWS[name], size, classes)
        return line, network, shape


def kernel(device: Device) -> list[Row]:
    for coordinates in PROVEN:
        device.source(coordinates).prove()
    values = f"{len(PROVEN)} x 1,000,000 values"
    return [Row("noise equals its definition", values, "certify.smoothing", 1.0, gate=1.0, aim=1.0)]


def noise(device: Device, coordinates: int = 150_528, rows: int = 128) -> list[Row]:
    batch, stream = device.source(coordinates).batch(rows), device.driver.stream()
    part = Draws(KEY, 0, rows, np.zeros(coordinates, LATTICE))
    batch.hand_over([part], stream)

    def ours() -> None:
        for _ in range(device.batches):
            batch.queue(stream)
        device.driver.wait(stream)

    few = Draws(KEY, 0, 4, part.lattice)
    host = np.empty((4, coordinates), LATTICE)
    on_device = _seconds(ours) / (device.batches * rows * coordinates) * 1e9
    on_host = _seconds(lambda: noise_kernel.add_draws(device.law, [few], host)) / host.size * 1e9
    figure = Row(
        "noise, ns a value", f"{on_device:.4f} ns", f"{on_host:.2f} ns on one core", on_device, None, 0.02, True
    )
    return [figure]


def captured(device: Device, name: str = "resnet20") -> list[Row]:
    line, network, shape = device.line(name)
    lattice, rows = np.arange(math.prod(shape), dtype=LATTICE) % 256, ROWS[name]
    parts = [Draws(KEY, start * rows, rows, lattice) for start in range(4)]
    flying = [line.submit([part]) for part in parts]
    equal: list[bool] = []
    for part, pending in zip(parts, flying, strict=True):
        noisy = device.law.sample(part.key, part.start, part.start + rows, lattice.size) + lattice
        own = network.run(noisy.astype(LATTICE).reshape(rows, *shape))
        votes, scores = pending.result()
        equal += list((votes == own["vote"]) & (scores == own["score"]))
    said = f"{sum(equal):,} of {len(equal):,}"
    return [
        Row(f"answers of {name} in flight equal its own", said, "the network", float(np.mean(equal)), gate=1.0, aim=1.0)
    ]


def draws(device: Device) -> list[Row]:
    return [_draws(device, name) for name in ROWS]


def _draws(device: Device, name: str) -> Row:
    line, network, shape = device.line(name)
    rows, driver = ROWS[name], device.driver
    places = [driver.on_device(rows * size) for size in (math.prod(shape) * 4, 8, 4)]
    stream = driver.stream()
    run = network.execution(dict(zip(("lattice", "vote", "score"), (p.address for p in places), strict=True)), stream)
    run(stream)
    driver.wait(stream)
    again = partial(driver.replay, driver.capture(run)) if network.capturable else run

    def bare() -> None:
        for _ in range(device.batches):
            again(stream)
        driver.wait(stream)

    ours, beside = (device.batches * rows / _seconds(each) for each in (lambda: _draw(line, device, name), bare))
    return Row(f"draws, {name} over bare", f"{ours:,.0f}/s", f"{beside:,.0f}/s", ours / beside, gate=0.90, aim=0.98)


def _draw(line: DeviceLine, device: Device, name: str, total: int | None = None) -> None:
    """So many draws of one request, two batches in flight."""
    rows, lattice = ROWS[name], np.zeros(math.prod(device.network(name, ROWS[name])[1]), LATTICE)
    total, flying = total or device.batches * rows, []
    for start in range(0, total, rows):
        flying.append(line.submit([Draws(KEY, start, min(rows, total - start), lattice)]))
        if len(flying) == 2:
            flying.pop(0).result()
    for pending in flying:
        pending.result()


def certificate(device: Device) -> list[Row]:
    line, _, _ = device.line("resnet50")
    took = _seconds(lambda: _draw(line, device, "resnet50", 1_000)) * 1e3
    return [Row("1,000 draws of resnet50, ms", f"{took:.1f} ms", "-", took, gate=40, aim=25, less_is_better=True)]


class _Counting:
    """A driver whose waits are counted."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self.waits = driver, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def wait(self, stream: Any) -> None:
        self.waits += 1
        self._driver.wait(stream)


def waits(device: Device) -> list[Row]:
    counting = _Counting(device.driver)
    line, _, _ = device.line("resnet20", counting)
    before = counting.waits
    _draw(line, device, "resnet20")
    each = (counting.waits - before) / device.batches
    return [Row("waits of the host in a batch", f"{each:g}", "-", each, gate=1, aim=1, less_is_better=True)]


PARTS: dict[str, Callable[[Device], list[Row]]] = {
    each.__name__: each for each in (kernel, noise, captured, draws, certificate, waits)
}


def _seconds(work: Callable[[], None]) -> float:
    """The least of three, after one that warms up."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _network(driver: Driver) -> Callable[[str, int], tuple[Any, tuple[int, ...], int]]:
    kept: dict[tuple[str, int], Any] = {}

    def make(name: str, rows: int) -> Any:
        from benchmarks import gpu_networks

        for library, made in (
            ("TensorRT", lambda: gpu_networks.tensorrt_network(name, driver, rows, lambda phase: None)),
            ("ONNX Runtime", lambda: gpu_networks.onnx_network(name, driver, rows)),
        ):
            try:
                return made()
            except ProviderError as error:
                print(f"{name} is not run by {library}: {error}")
        print(f"{name} is run by torch, as a stand-in")
        return gpu_networks.TorchNetwork(name, rows)

    def network(name: str, rows: int) -> tuple[Any, tuple[int, ...], int]:
        from benchmarks import gpu_networks

        if (name, rows) not in kept:
            kept[name, rows] = make(name, rows)
        return kept[name, rows], gpu_networks.SHAPES[name], gpu_networks.CLASSES[name]

    return network


def open_device() -> Device:
    """The first GPU. Raises `DeviceError` where there is none."""
    driver = CudaDriver()
    with tempfile.TemporaryDirectory() as folder:
        code = device_program.compiled(0, driver.facts.architecture, Path(folder))
    return Device(driver, code, _network(driver))


def run(parts: Sequence[str], device: Device) -> tuple[list[Row], list[str]]:
    """The rows of all parts that ran, and a line for each that did not."""
    rows, said = [], []
    for name in parts:
        try:
            rows += PARTS[name](device)
        except Exception as error:  # the other parts run all the same
            said.append(f"{name}: did not run: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return rows, said


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What has to be seen on a GPU.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    chosen = parser.parse_args(arguments).parts or list(PARTS)
    if unknown := sorted(set(chosen) - PARTS.keys()):
        parser.error(f"unknown part {unknown[0]!r}; expected {', '.join(PARTS)}")
    try:
        device = open_device()
    except DeviceError as error:
        print("\n".join(f"{name}: cannot run here: {error}" for name in chosen))
        return 0
    rows, said = run(chosen, device)
    print(f"\n{time.strftime('%Y-%m-%d')}, {device.driver.facts}\n\n{table(rows)}\n")
    print("\n".join(said))
    return 1 if said or any(row.verdict == "missed" for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
