"""ONNX Runtime behind the runtime protocol: CPU here, CUDA and TensorRT execution providers by configuration.

A provider that is asked for and absent is refused: ONNX Runtime itself would run on the CPU without a word. So is a graph
that cannot run, or in which a row's answer could depend on other rows, in one line that names bundle and file.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import; it would report to its makers
import onnxruntime
from numpy.typing import NDArray

from export.bundle import Bundle
from export.bundle.files import BASE, NOISY
from export.graphs.prepared import Prepared, prepare
from export.graphs.reading import GraphError, one_line, place
from serving import cache
from serving.runtimes.host_noise import HostBatches
from serving.runtimes.runtime import DrawRange, FinishedPasses, Passes, ProviderError

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
    "onnx-tensorrt": ("TensorrtExecutionProvider", {"trt_engine_cache_enable": "1"}),
}
_INSTRUCTIONS = {
    *("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "amx_int8"),
    *("asimddp", "i8mm", "bf16", "sve"),
}
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


class OnnxRuntime:
    """The two graphs of a bundle in sessions of one thread each: the workers of the engine are the threads.

    Raises `ProviderError`, or `GraphError` for a graph that is not to be served.
    """

    ahead = 1  # a worker that waits for one batch cannot run another

    def __init__(self, bundle: Bundle, provider: str = "cpu", base_rows: int = 1) -> None:
        check_one_distribution()
        rows = bundle.manifest.batch_rows

        def profile(rows: int) -> dict[str, str]:
            return tensorrt_settings(bundle, rows, cache.folder("tensorrt")) if provider == "onnx-tensorrt" else {}

        self._base = _Session(bundle, BASE, provider, profile(base_rows))
        one = bundle.noisy == bundle.base
        self._noisy = self._base if one else _Session(bundle, NOISY, provider, profile(rows))
        self._base.try_out(base_rows)
        self._noisy.try_out(rows)
        self._base_rows, self._batches = base_rows, HostBatches(rows, bundle.manifest.input.shape)
        used = self._noisy.provider
        self._description = f"onnxruntime {onnxruntime.__version__} {used}, {_device(used)}"

    @property
    def description(self) -> str:
        """ONNX Runtime's version, the provider in use and what is known of the device that may change a result."""
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
        rows, padding = self._base_rows, -len(lattice) % self._base_rows
        padded = np.concatenate([lattice, np.zeros((padding, *lattice.shape[1:]), np.int32)]) if padding else lattice
        parts = [self._base.run(["probabilities"], padded[at : at + rows])[0] for at in range(0, len(padded), rows)]
        return np.concatenate(parts)[: len(lattice)]

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

    def __init__(self, bundle: Bundle, file: str, provider: str, profile: dict[str, str]) -> None:
        self.graph: Prepared = prepare(bundle, file)
        self._shape, self._where = bundle.manifest.input.shape, place(bundle, file)
        try:
            self._session = _session(self.graph.data, provider, profile)
        except ProviderError:
            raise
        except Exception as error:  # ONNX Runtime's kinds have no parent but this
            raise GraphError(f"{self._where} cannot be opened by ONNX Runtime: {one_line(error)}; mend it") from error
        self.provider = self._session.get_providers()[0]

    def run(self, outputs: Sequence[str], lattice: NDArray[np.int32]) -> list[NDArray[Any]]:
        """These outputs; whatever goes wrong is a `GraphError` that names the file."""
        try:
            return [np.asarray(each) for each in self._session.run(outputs, {"lattice": lattice})]
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
    session = _session(graph, "cpu", {})
    (name,) = (each.name for each in session.get_inputs())
    return lambda lattice: list(session.run(None, {name: lattice}))


def check_one_distribution() -> None:
    """Refuse to start beside a second build of ONNX Runtime: they write into one folder and break each other."""
    found = sorted({d.metadata["Name"] for d in distributions() if d.metadata["Name"] in _DISTRIBUTIONS})
    if len(found) > 1:
        raise ProviderError(f"{' and '.join(found)} are both installed; remove all of them and install one")


def _session(graph: bytes, provider: str, profile: dict[str, str]) -> onnxruntime.InferenceSession:
    if provider not in PROVIDERS:
        raise ProviderError(f"unknown provider {provider!r}; expected one of {', '.join(PROVIDERS)}")
    name, settings = PROVIDERS[provider]
    if name not in onnxruntime.get_available_providers():
        raise _absent(name, "a build without it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what is wrong is raised, and said in one line
    providers: list[Any] = [(name, settings | profile)]
    if provider == "onnx-tensorrt":
        providers.append(PROVIDERS["cuda"])
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    if session.get_providers()[0] != name:
        raise _absent(name, session.get_providers()[0])
    return session


def _device(provider: str) -> str:
    """The instructions of the processor that decide which kernels run, or the makers' numbers of the accelerators."""
    if provider != "CPUExecutionProvider":
        found = [each.device for each in onnxruntime.get_ep_devices() if each.ep_name == provider]
        return ", ".join(sorted({f"device {each.vendor_id:04x}:{each.device_id:04x}" for each in found})) or "unknown"
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    return " ".join([platform.machine(), *sorted(words & _INSTRUCTIONS)])


def _absent(wanted: str, found: str) -> ProviderError:
    return ProviderError(
        f"{wanted} was asked for, but ONNX Runtime offers {found}: install onnxruntime-gpu with its CUDA libraries on a"
        " machine with a GPU, or serve with --provider cpu"
    )


def tensorrt_settings(bundle: Bundle, rows: int, folder: Path) -> dict[str, str]:
    """A profile of one fixed shape, so that nothing is built inside a request, and a cache keyed by what it is for."""
    shape = "x".join(map(str, (rows, *bundle.manifest.input.shape)))
    return {
        **{f"trt_profile_{kind}_shapes": f"lattice:{shape}" for kind in ("min", "opt", "max")},
        "trt_engine_cache_path": str(folder / f"{bundle.digest[7:23]}-{onnxruntime.__version__}-{rows}"),
    }
