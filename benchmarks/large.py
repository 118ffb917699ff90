"""Networks of 224x224x3: draws of the engine over bare ONNX Runtime, and the memory that they take beside the model.

python -m benchmarks.large [large | resnet18 ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from benchmarks import rates
from benchmarks.measure import in_turns, machine, ratio
from benchmarks.networks import Large, ResNet18, write_random
from export.bundle import Bundle, load
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.runtimes.onnx_runtime import OnnxRuntime

NETWORKS = {"large": Large, "resnet18": ResNet18}
ROUNDS, SECONDS = 3, 6.0
_REQUESTS = 2
_STATUS = Path("/proc/self/status")


def main() -> None:
    print(machine(), flush=True)
    print(
        "| network | rows a batch | bare, draws/s | engine, draws/s | engine over bare | memory beside the model, MB |\n"
        "|-|-|-|-|-|-|"
    )
    for name in sys.argv[1:] or NETWORKS:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            write_random(Path(folder), name, NETWORKS[name]().eval(), tried=96, golden_tried=4)
            model = load(Path(folder) / name / "1")
        print(_row(name, model), flush=True)


def _row(name: str, model: Bundle) -> str:
    runtime = OnnxRuntime(model)
    before = _megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what came before
    engine = Engine([Served(model, runtime)], Scheduler(), rates.THREADS, 10_000_000)
    try:
        draws = _draws(rates.bare(model, runtime, 2.0), model.manifest.batch_rows)
        # All draws for the largest radius: `fixed` would make some more, for the score, which nobody counts here.
        rates.engine(model, engine, draws, _REQUESTS, "best")  # compiles the noise
        values = in_turns(
            ROUNDS,
            {
                "bare": lambda: rates.bare(model, runtime, SECONDS),
                "engine": lambda: rates.engine(model, engine, draws, _REQUESTS, "best"),
            },
        )
    finally:
        engine.close()
    return (
        f"| {name} | {model.manifest.batch_rows} | {median(values['bare']):,.1f} | {median(values['engine']):,.1f} |"
        f" {ratio(values['engine'], values['bare']):.3f} | {_megabytes('VmHWM') - before:,.0f} |"
    )


def _draws(rate: float, rows: int) -> int:
    """Of one request, in whole batches, and as many of these for each thread: at the end of a run none waits for another."""
    each = rates.THREADS * rows
    return each * max(1, round(rate * SECONDS / _REQUESTS / each))


def _megabytes(name: str) -> float:
    return int(next(line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith(name))) / 1024


if __name__ == "__main__":
    main()
