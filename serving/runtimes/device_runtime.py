"""The networks of a bundle on a device, behind the runtime protocol: it draws, runs and gathers, two batches at a time.

Which library runs the networks is not known here: `tensorrt` makes them. Draws of the bundle's own noise are made on the
device; those of any other law, and inputs that are given, go there as the host has them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.lattice_gaussian import LatticeGaussian, LatticeGaussianAt, RoundedGaussian
from export.bundle import Bundle
from export.bundle.files import BASE, NOISY
from export.graphs.prepared import Prepared
from export.graphs.reading import one_line
from serving.runtimes.device_batch import AsTheyAre, DevicePart, element_kind
from serving.runtimes.device_driver import Driver
from serving.runtimes.device_lane import Network
from serving.runtimes.device_line import LANES, DeviceLine
from serving.runtimes.device_program import DeviceError
from serving.runtimes.device_rate import Rate, advice, neighbours
from serving.runtimes.noise_kernel import Draws
from serving.runtimes.runtime import DrawRange, FinishedPasses, InFlight, Passes, portions


class WholeNetwork(Network, Protocol):
    """A network that can also be asked for all its outputs at once."""

    def run(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """All outputs for one batch (rows, *shape) of its shape, which is waited for."""
        ...


_log = logging.getLogger("certserve.device")
Make = Callable[[str, int], tuple[Prepared, WholeNetwork]]
"""The network of a file of the bundle for batches of so many rows; raises `NotKept` where that would take too long."""


class NotKept(Exception):
    """A network that serves nothing yet would have to be built first."""


def open_on(
    bundle: Bundle, driver: Driver, compiled: Callable[[int], bytes], make: Make, base_rows: int, library: str
) -> DeviceRuntime:
    """The bundle on a device: `compiled` gives its kernels, `make` its networks. The log tells of better batches.

    Raises `DeviceError`, or what `make` does for the batches that are served.
    """
    noisy, base = make(NOISY, bundle.manifest.batch_rows), make(BASE, base_rows)
    code = compiled(_element(bundle, noisy[1]))
    _measure(bundle, Rate(driver, code, _table(bundle), bundle.manifest.input.size), noisy[1], make)
    return DeviceRuntime(bundle, driver, code, noisy, base, base_rows, library)


def _table(bundle: Bundle) -> RoundedGaussian:
    """What the kernel on the device draws from."""
    if not isinstance(bundle.law, LatticeGaussian):
        raise DeviceError(f"{bundle.key}: no kernel draws the law {bundle.law.name!r} on a device; use --provider cpu")
    return bundle.law.table


def _element(bundle: Bundle, network: WholeNetwork) -> int:
    return element_kind(_table(bundle), 0, bundle.manifest.input.top, network.input_type)


def _measure(bundle: Bundle, rate: Rate, noisy: WholeNetwork, make: Make) -> None:
    """What is declared is served, whatever is found: results may depend on the shape of a batch."""
    declared = bundle.manifest.batch_rows
    rates = {declared: rate.of(noisy, declared)}
    for rows in neighbours(declared, bundle.manifest.input.size):
        try:
            rates[rows] = rate.of(make(NOISY, rows)[1], rows)
        except NotKept:
            continue
        except Exception as error:  # as a rule it does not fit into the device
            _log.warning("%s: batches of %d rows cannot be measured: %s", bundle.key, rows, one_line(error))
    if said := advice(rates, declared):
        _log.warning("%s: %s", bundle.key, said)


class DeviceRuntime:
    """See `Runtime`. Raises `DeviceError` where the device cannot be used or draws other noise than the law's."""

    ahead = LANES

    def __init__(
        self,
        bundle: Bundle,
        driver: Driver,
        code: bytes,
        noisy: tuple[Prepared, WholeNetwork],
        base: tuple[Prepared, WholeNetwork],
        base_rows: int,
        library: str,
    ) -> None:
        shape, self._base_rows, self._rows = bundle.manifest.input.shape, base_rows, bundle.manifest.batch_rows
        self._shape, self._size, self._table = shape, bundle.manifest.input.size, _table(bundle)
        (self._noisy_graph, self._noisy), (self._base_graph, self._base) = noisy, base
        last = bundle.manifest.last_vote
        self._line = DeviceLine(driver, code, self._noisy, self._table, self._rows, self._size, last)
        self._description = f"{library}, {driver.facts}, {self._rows} rows"

    @property
    def description(self) -> str:
        """The library, the device with its driver, and the shape of a batch: all that may change a result."""
        return self._description

    @property
    def multiplications(self) -> float:
        """See `Runtime.multiplications`."""
        return max(self._noisy_graph.multiplications, self._base_graph.multiplications)

    @property
    def suspects(self) -> Sequence[str]:
        """See `Runtime.suspects`."""
        return list(dict.fromkeys([*self._noisy_graph.suspects, *self._base_graph.suspects]))

    def base(self, lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Runtime.base`."""
        return self._clean(["probabilities"], lattice)

    def weighted(self, lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Runtime.weighted`."""
        return self._clean(["probabilities", "weight"], lattice)

    def _clean(self, outputs: Sequence[str], lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        padded = np.concatenate([lattice, np.zeros((-len(lattice) % self._base_rows, *self._shape), np.int32)])
        starts = range(0, len(padded), self._base_rows)
        self._line.check()
        try:
            parts = [self._base.run(padded[at : at + self._base_rows]) for at in starts]
        except Exception as error:
            raise self._line.lose(error) from error
        return np.concatenate([np.column_stack([part[name] for name in outputs]) for part in parts])[: len(lattice)]

    def noisy(self, draws: Sequence[DrawRange]) -> Passes:
        """See `Runtime.noisy`."""
        flying: deque[InFlight] = deque()
        found: list[Passes] = [(np.empty(0, np.int64), np.empty(0, np.float32))]
        for portion in portions(draws, self._rows):
            flying.append(self._line.submit(self._parts(portion)))
            if len(flying) > LANES:
                found.append(flying.popleft().result())
        found += [each.result() for each in flying]
        return np.concatenate([vote for vote, _ in found]), np.concatenate([score for _, score in found])

    def submit(self, draws: Sequence[DrawRange]) -> InFlight:
        """See `Runtime.submit`; what fills more than one batch is waited for."""
        if 0 < sum(map(len, draws)) <= self._rows:
            return self._line.submit(self._parts(draws))
        return FinishedPasses.of(lambda: self.noisy(draws))

    def drawn(self, draws: Sequence[DrawRange]) -> NDArray[np.int32]:
        """See `Runtime.drawn`."""
        parts = [self._line.inputs(self._parts(portion)) for portion in portions(draws, self._rows)]
        return np.concatenate([np.empty((0, self._size), np.int32), *parts]).reshape(-1, *self._shape)

    def base_evidence(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """See `Runtime.base_evidence`."""
        return _by_row(self._base_graph, self._base.run(lattice))

    def noisy_evidence(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """See `Runtime.noisy_evidence`."""
        return {"score": np.zeros(len(lattice), np.float32)} | _by_row(self._noisy_graph, self._noisy.run(lattice))

    def close(self) -> None:
        """See `Runtime.close`; memory and streams go with the last reference to them."""
        self._line.close()

    def _parts(self, draws: Sequence[DrawRange]) -> list[DevicePart]:
        return [_part(each, self._table) for each in draws]


def _part(draw: DrawRange, table: RoundedGaussian) -> DevicePart:
    law = draw.law
    if isinstance(law, LatticeGaussianAt) and law.law.table is table:
        return Draws(draw.key, draw.start, len(draw), law.lattice.reshape(-1))
    rows = np.asarray(law.sample(draw.key, draw.start, draw.stop), dtype=np.int32)
    if len(rows) != len(draw):
        raise ValueError(f"expected {len(draw)} perturbed inputs, got {len(rows)}")
    return AsTheyAre(rows.reshape(len(draw), -1))


def _by_row(graph: Prepared, outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.moveaxis(outputs[name], axis, 0) for name, axis in graph.axes.items()}
