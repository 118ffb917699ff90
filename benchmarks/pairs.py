"""This checkout against another one, in alternating pairs: was anything lost?

python -m benchmarks.pairs OTHER [--pairs 10] [plain | plain-ray | engine | latency | throughput ...]

`plain` and `plain-ray` start the server of each checkout in turn and ask it for plain predictions, with the same clients for
both. Any other name is a benchmark, which each checkout runs by its own code and, where it has one, by its own environment
(`make bench` there makes it); figures that both have are compared. The
interval is that of the median ratio between order statistics, exact for any distribution; a loss counts if it lies wholly
beyond 5 %.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from statistics import median

import grpc
import numpy as np

from benchmarks.clients import demo_pictures, over_http, png
from benchmarks.measure import machine, percentile
from benchmarks.networks import DEMO
from protos.inference import open_inference_pb2 as pb
from protos.inference import open_inference_pb2_grpc
from tests.servers import ROOT, Address, command_line

LOSS = 1.05
REQUESTS, WARM = 400, 50
Figures = dict[str, float]
"""Seconds, milliseconds or shares by what they are; the smaller, the better."""


def compare(other: Path, pairs: int, measure: Callable[[Path], Figures]) -> list[str]:
    """A line for each figure that both checkouts have; `measure` takes the checkout."""
    found: list[tuple[Figures, Figures]] = []
    for place in range(pairs):
        taken = {checkout: measure(checkout) for checkout in ((other, ROOT) if place % 2 else (ROOT, other))}
        found.append((taken[other], taken[ROOT]))
        print(f"pair {place + 1} of {pairs}: before {taken[other]}, now {taken[ROOT]}", file=sys.stderr, flush=True)
    shared = [name for name in found[0][0] if all(name in side for pair in found for side in pair)]
    return [_line(name, [before[name] for before, _ in found], [now[name] for _, now in found]) for name in shared]


def _line(name: str, before: list[float], now: list[float]) -> str:
    ratios = sorted(mine / other for mine, other in zip(now, before, strict=True))
    low, high = interval(ratios)
    verdict = "loss" if low > LOSS else "gain" if high < 1 / LOSS else "-"
    columns = (
        name,
        f"{median(before):.4g}",
        f"{median(now):.4g}",
        f"{median(ratios):.3f}",
        f"{low:.3f} to {high:.3f}",
        verdict,
    )
    return f"| {' | '.join(columns)} |"


def interval(ratios: list[float]) -> tuple[float, float]:
    """At 95 %, for the median of what the sorted `ratios` are a sample of; fewer than six have none, and give infinity."""
    count, beyond, place = len(ratios), 0.0, -1
    while beyond + math.comb(count, place + 1) / 2**count <= 0.025:
        place += 1
        beyond += math.comb(count, place) / 2**count
    return (ratios[place], ratios[-1 - place]) if place >= 0 else (-math.inf, math.inf)


def plain(checkout: Path, local: bool) -> Figures:
    """Milliseconds of plain predictions of the demo, over HTTP (a PNG) and the Open Inference Protocol's gRPC."""
    program = (sys.executable, "-c", f"import sys; from {_entry(checkout)} import main; sys.exit(main())")
    with command_line(checkout / "models", local=local, program=program, checkout=checkout) as address:
        picture = demo_pictures(1)
        body = png(picture[0])
        path = f"/v1/models/{DEMO}:predict"
        http = over_http(address.http, path, certify="off", outputs="probabilities")
        wires = {"HTTP": (lambda: http(body)), "gRPC": _open_inference(address, picture)}
        return {
            f"p{share * 100:.0f} of a plain prediction, ms, {wire}": percentile(times, share)
            for wire, ask in wires.items()
            for times in [_milliseconds(ask)]
            for share in (0.5, 0.99)
        }


def _entry(checkout: Path) -> str:
    script: str = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["scripts"]["certserve"]
    return script.partition(":")[0]


def _open_inference(address: Address, picture: np.ndarray) -> Callable[[], object]:
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address.grpc))
    request = pb.ModelInferRequest(model_name=DEMO, raw_input_contents=[picture.astype(np.uint8).tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=list(picture.shape))
    request.outputs.add(name="probabilities")
    return lambda: stub.ModelInfer(request)


def _milliseconds(ask: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(WARM + REQUESTS):
        began = time.perf_counter()
        ask()
        times.append(1e3 * (time.perf_counter() - began))
    return times[WARM:]


def benchmark(name: str, arguments: list[str]) -> Callable[[Path], Figures]:
    """What a checkout's own benchmark says, turned so that less is better."""

    def run(checkout: Path) -> Figures:
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        own = checkout / ".venv" / "bin" / "python"
        command = [str(own) if own.exists() else sys.executable, "-m", f"benchmarks.{name}", *arguments]
        subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
        rows = json.loads((checkout / "benchmarks" / "out" / f"{name}.json").read_text())
        return {row["figure"]: row["ratio"] if row["less_is_better"] else 1 / row["ratio"] for row in rows}

    return run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=__doc__)
    parser.add_argument("other", type=Path, help="a checkout of the repository, which is the one before")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument(
        "figures", nargs="*", default=["plain"], help="plain, plain-ray, or benchmarks: latency:local ..."
    )
    chosen = parser.parse_intermixed_args()
    print(machine(), flush=True)
    print("| figure, less is better | before | now | median ratio | its 95 % | verdict |\n|-|-|-|-|-|-|", flush=True)
    for figure in chosen.figures:
        name, *arguments = figure.split(":")
        measure = benchmark(name, arguments)
        if name in ("plain", "plain-ray"):
            measure = lambda checkout, local=name == "plain": plain(checkout, local)  # noqa: E731
        print("\n".join(compare(chosen.other.resolve(), chosen.pairs, measure)), flush=True)


if __name__ == "__main__":
    main()
