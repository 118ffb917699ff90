"""How many rows a batch of noisy passes has: chosen by time and by memory, each number tried in a process of its own.

More rows cost less each until the caches are full, and then as much or more; their intermediate numbers take memory in
proportion. A network of few multiplications takes neither, and is not measured.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.sources.running import open_graph
from export.sources.source import SourceError

MOST_BYTES = 750_000_000
"""What a batch may take beside the model: a worker on each of two cores stays within 1.5 GB."""
LIGHT = 2**21
"""Multiplications of a row, up to which a batch of the most rows takes some milliseconds at most."""
TRIED = (32, 64, 128)
_FASTER = 0.95
"""More rows are taken where they cost less than this share, each."""
_RUNS, _SECONDS = 3, 2.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a batch: seconds for each of its rows, and bytes beside the model."""

    rows: int
    seconds: float
    bytes: int


def chosen(
    graph: bytes, shape: tuple[int, ...], multiplications: float, tell: Callable[[str], None], rows: int | None = None
) -> int:
    """`rows` where they are said, else as measured; `tell` is told what was. Raises `SourceError`."""
    if rows is not None:
        if rows % TRIED[0] or not TRIED[0] <= rows <= 4_096:
            raise SourceError(f"--batch-rows: expected a multiple of {TRIED[0]} up to 4096; got {rows}")
        return rows
    if multiplications <= LIGHT:
        return TRIED[-1]
    costs = measured(graph, shape)
    found = best(costs)
    for each in costs:
        mark = "  <- batch_rows" if each.rows == found else ""
        tell(f"batches of {each.rows} rows: {1e3 * each.seconds:.2f} ms a row, {each.bytes / 1e6:,.0f} MB{mark}")
    if costs[0].bytes > MOST_BYTES:
        tell(f"warning: the smallest batch takes {costs[0].bytes / 1e9:.1f} GB beside the model")
    return found


def best(costs: Sequence[Cost]) -> int:
    """The fewest rows that are about as fast, each, as any that fit into memory."""
    found = costs[0]
    for each in costs[1:]:
        if each.bytes <= MOST_BYTES and each.seconds < _FASTER * found.seconds:
            found = each
    return found.rows


def measured(graph: bytes, shape: tuple[int, ...]) -> list[Cost]:
    """The cost of batches of each size, up to the first that takes more memory than it may."""
    found: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        file.write_bytes(graph)
        for rows in TRIED:
            if found and found[-1].bytes * rows > MOST_BYTES * found[-1].rows:
                break
            found.append(_in_own_process(file, shape, rows))
    return found


def _in_own_process(file: Path, shape: tuple[int, ...], rows: int) -> Cost:
    command = [sys.executable, "-m", "export.build.batch_rows", str(file), str(rows), *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise SourceError(f"a batch of {rows} rows cannot be run: {said[0]}")
    return Cost(rows, **json.loads(done.stdout))


def _measure(file: Path, rows: int, shape: tuple[int, ...]) -> dict[str, float]:
    """What is there once the graph is open is the model and the libraries."""
    run = open_graph(file.read_bytes(), file.name)
    before = _kilobytes("VmRSS")
    _forget_peak()
    batch = np.zeros((rows, *shape), np.int32)
    times: list[float] = []
    while len(times) < 1 + _RUNS and sum(times) < _SECONDS:
        started = time.perf_counter()
        run(batch)
        times.append(time.perf_counter() - started)
    return {"seconds": min(times[1:] or times) / rows, "bytes": 1024 * max(0, _kilobytes("VmHWM") - before)}


def _forget_peak() -> None:
    """Opening a graph may have taken more than a batch does."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _kilobytes(name: str) -> int:
    """Of this process, as Linux counts; elsewhere the most that it ever had."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith(name)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]), int(sys.argv[2]), tuple(map(int, sys.argv[3:])))))
