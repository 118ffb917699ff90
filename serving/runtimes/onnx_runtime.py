"""ONNX Runtime on the processor, behind the runtime protocol.

A graph that cannot run, or in which a row's answer could depend on other rows, is refused in one line that names bundle and
file.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from export.bundle.files import BASE, NOISY
from export.graphs.prepared import Prepared, prepare
from export.graphs.reading import GraphError, one_line, place
from serving.runtimes.host_noise import HostBatches
from serving.runtimes.onnx_session import PROVIDERS, check_one_distribution, open_session, version
from serving.runtimes.runtime import DrawRange, FinishedPasses, Passes, ProviderError

_INSTRUCTIONS = {
    *("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "amx_int8"),
    *("asimddp", "i8mm", "bf16", "sve"),
}


class OnnxRuntime:
    """The two graphs of a bundle in sessions of one thread each: the workers of the engine are the threads.

    Raises `ProviderError`, or `GraphError` for a graph that is not to be served.
    """

    ahead = 1  # a worker that waits for one batch cannot run another

    def __init__(self, bundle: Bundle, base_rows: int = 1) -> None:
        check_one_distribution()
        rows = bundle.manifest.batch_rows
        self._base = _Session(bundle, BASE)
        self._noisy = self._base if bundle.noisy == bundle.base else _Session(bundle, NOISY)
        self._base.try_out(base_rows)
        self._noisy.try_out(rows)
        self._base_rows, self._batches = base_rows, HostBatches(rows, bundle.manifest.input.shape)
        self._description = f"onnxruntime {version()} {PROVIDERS['cpu'][0]}, {_processor()}"

    @property
    def description(self) -> str:
        """ONNX Runtime's version, and what is known of the processor that may change a result."""
        return self._description

    @property
    def multiplications(self) -> float:
        """See `Runtime.multiplications`."""
        return max(self._noisy.graph.multiplications, self._base.graph.multiplications)

    @property
    def suspects(self) -> Sequence[str]:
        """See `Runtime.suspects`."""
        return list(dict.fromkeys([*self._noisy.graph.suspects, *self._base.graph.suspects]))

    def base(self, lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Runtime.base`."""
        return self._clean(["probabilities"], lattice)

    def weighted(self, lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Runtime.weighted`."""
        return self._clean(["probabilities", "weight"], lattice)

    def _clean(self, outputs: Sequence[str], lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        rows, padding = self._base_rows, -len(lattice) % self._base_rows
        padded = np.concatenate([lattice, np.zeros((padding, *lattice.shape[1:]), np.int32)]) if padding else lattice
        parts = [self._base.run(outputs, padded[at : at + rows]) for at in range(0, len(padded), rows)]
        if len(parts) == len(parts[0]) == 1:
            return parts[0][0][: len(lattice)]
        return np.concatenate([np.column_stack(part) if len(part) > 1 else part[0] for part in parts])[: len(lattice)]

    def noisy(self, draws: Sequence[DrawRange]) -> Passes:
        """See `Runtime.noisy`."""
        votes, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for count, batches in self._batches.portions(draws):
            found = [self.passes(batch) for batch in batches]
            votes.append(np.concatenate([vote for vote, _ in found])[:count])
            scores.append(np.concatenate([score for _, score in found])[:count])
        return np.concatenate(votes), np.concatenate(scores)

    def passes(self, batch: NDArray[np.int32]) -> Passes:
        """The votes and scores of one batch (rows, *shape) as it is: the network alone."""
        if "score" not in self._noisy.graph.declared:
            (vote,) = self._noisy.run(["vote"], batch)
            return vote, np.zeros(len(vote), np.float32)
        vote, score = self._noisy.run(["vote", "score"], batch)
        return vote, score

    def submit(self, draws: Sequence[DrawRange]) -> FinishedPasses:
        """See `Runtime.submit`; all is done when it returns."""
        return FinishedPasses.of(lambda: self.noisy(draws))

    def drawn(self, draws: Sequence[DrawRange]) -> NDArray[np.int32]:
        """See `Runtime.drawn`."""
        return self._batches.drawn(draws)

    def close(self) -> None:
        """See `Runtime.close`; the sessions go with the last reference to them."""

    def base_evidence(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """See `Runtime.base_evidence`."""
        return self._base.evidence(lattice)

    def noisy_evidence(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """See `Runtime.noisy_evidence`."""
        evidence = self._noisy.evidence(lattice)
        return {"score": np.zeros(len(lattice), np.float32)} | evidence


class _Session:
    """One graph of a bundle in ONNX Runtime: the very session that serves puts out what its decisions are made from."""

    def __init__(self, bundle: Bundle, file: str) -> None:
        self.graph: Prepared = prepare(bundle, file)
        self._shape, self._where = bundle.manifest.input.shape, place(bundle, file)
        try:
            self._session = open_session(self.graph.data, "cpu", {})
        except ProviderError:
            raise
        except Exception as error:  # ONNX Runtime's kinds have no parent but this
            raise GraphError(f"{self._where} cannot be opened by ONNX Runtime: {one_line(error)}; mend it") from error

    def run(self, outputs: Sequence[str], lattice: NDArray[np.int32]) -> list[NDArray[Any]]:
        """These outputs; whatever goes wrong is a `GraphError` that names the file."""
        try:
            given = lattice.astype(self.graph.input_type, copy=False)
            return [np.asarray(each) for each in self._session.run(outputs, {"lattice": given})]
        except Exception as error:
            raise GraphError(f"{self._where} cannot be run on {len(lattice)} rows: {one_line(error)}") from error

    def evidence(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """All outputs by name, with the rows on the first axis."""
        axes = self.graph.axes
        found = self.run(list(axes), lattice)
        return {name: np.moveaxis(each, axes[name], 0) for name, each in zip(axes, found, strict=True)}

    def try_out(self, rows: int) -> None:
        """One batch, so that a graph that cannot run, or gives other shapes or types than declared, is refused now."""
        names = list(self.graph.declared)
        for name, found in zip(names, self.run(names, np.zeros((rows, *self._shape), np.int32)), strict=True):
            kind, shape = self.graph.declared[name]
            if found.dtype != kind or found.shape != (rows, *shape):
                raise GraphError(
                    f"{self._where} gives {name!r} as {found.dtype} of shape {found.shape} for {rows} rows; expected"
                    f" {np.dtype(kind)} of shape {(rows, *shape)}: export it so"
                )


def open_graph(graph: bytes) -> Callable[[NDArray[np.int32]], list[NDArray[np.generic]]]:
    """Any graph of one input on the CPU, as a function from its input to all its outputs."""
    session = open_session(graph, "cpu", {})
    (name,) = (each.name for each in session.get_inputs())
    return lambda lattice: list(session.run(None, {name: lattice}))


def _processor() -> str:
    """The instructions that decide which kernels run."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    return " ".join([platform.machine(), *sorted(words & _INSTRUCTIONS)])
