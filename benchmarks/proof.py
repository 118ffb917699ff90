"""Seconds that a bundle takes to be opened and proven before it is ready: the demo, and a network of 224x224x3.

One core, and the least of three runs for the demo, since other programs only add; the last column is the processor's time,
which they hardly change. What is tried is counted, not timed.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.measure import machine
from benchmarks.networks import DEMO, Large, write_random
from export.bundle import Bundle, load
from serving.models.probes import Effort
from serving.models.proof import prove
from serving.runtimes.onnx_runtime import OnnxRuntime

_DEMO = Path(__file__).resolve().parent.parent / "models" / DEMO / "1"


def line(bundle: Bundle, runs: int) -> str:
    opened, proven, work, runtime = [], [], [], None
    for _ in range(runs):
        began = time.perf_counter()
        runtime = OnnxRuntime(bundle)
        opened.append(time.perf_counter() - began)
        began, busy = time.perf_counter(), time.process_time()
        prove(bundle, runtime, 1)
        proven.append(time.perf_counter() - began)
        work.append(time.process_time() - busy)
    assert runtime is not None
    effort = Effort.of(runtime.multiplications)
    return (
        f"| {bundle.key} | {runtime.multiplications / 1e6:.0f} | {bundle.manifest.batch_rows} | {effort.random} |"
        f" {effort.everywhere} | {min(opened):.2f} | {min(proven):.2f} | {min(work):.2f} |"
    )


def main() -> None:
    print(machine(), flush=True)
    print(
        "| bundle | million products a row | rows a batch | random rows | rows in every slot | open, s | prove, s | CPU, s |"
    )
    print("|-|-|-|-|-|-|-|-|")
    print(line(load(_DEMO), 3), flush=True)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        write_random(Path(folder), "large", Large().eval(), tried=96, golden_tried=8)
        print(line(load(Path(folder) / "large" / "1"), 1), flush=True)


if __name__ == "__main__":
    main()
