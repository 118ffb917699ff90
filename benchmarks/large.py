"""A network of 224x224x3: draws of the engine over bare ONNX Runtime, and the memory that serving it takes beside the model.

python -m benchmarks.large
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import torch

from benchmarks import rates
from benchmarks.measure import in_turns, machine, ratio
from benchmarks.networks import Large, write_random
from export.bundle import load
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.runtimes.onnx_runtime import OnnxRuntime

ROUNDS, SECONDS = 3, 6.0
_STATUS = Path("/proc/self/status")


def main() -> None:
    print(machine(), flush=True)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        write_random(Path(folder), "large", Large().eval(), tried=96, golden_tried=8)
        model = load(Path(folder) / "large" / "1")
    runtime = OnnxRuntime(model)
    before = _megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what came before
    engine = Engine([Served(model, runtime)], Scheduler(), rates.THREADS, 10_000_000)
    try:
        draws = max(64, int(rates.bare(model, runtime, 2.0) * SECONDS / rates.CLIENTS))
        values = in_turns(
            ROUNDS,
            {
                "bare": lambda: rates.bare(model, runtime, SECONDS),
                "engine": lambda: rates.engine(model, engine, draws, rates.CLIENTS),
            },
        )
    finally:
        engine.close()
    print("| rows a batch | bare, draws/s | engine, draws/s | engine over bare | memory beside the model, MB |")
    print("|-|-|-|-|-|")
    print(
        f"| {model.manifest.batch_rows} | {median(values['bare']):,.1f} | {median(values['engine']):,.1f} |"
        f" {ratio(values['engine'], values['bare']):.3f} | {_megabytes('VmHWM') - before:,.0f} |"
    )


def _megabytes(name: str) -> float:
    return int(next(line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith(name))) / 1024


if __name__ == "__main__":
    main()
