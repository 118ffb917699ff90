"""The engine alone (noise, model, counting, statistics) over bare ONNX Runtime, and where the difference goes.

python -m benchmarks.engine [cnn | fashion-mnist | resnet20 ...]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

from benchmarks import rates
from benchmarks.measure import in_turns, main, ratio
from benchmarks.networks import NAMES, bundle, pictures
from benchmarks.row import Row
from export.bundle import Bundle
from serving.engine.engine import Engine, Served
from serving.engine.job import Job, SliceResult
from serving.engine.scheduler import Scheduler
from serving.engine.workload import Workload
from serving.runtimes.noise_kernel import Draws, add_draws
from serving.runtimes.onnx_runtime import OnnxRuntime

BOUNDS = {"cnn": (0.80, 0.92), "fashion-mnist": (0.88, 0.94), "resnet20": (0.95, 0.98)}
DRAWS, SECONDS, ROUNDS = 1_000, 2.0, 5


def rows() -> list[Row]:
    return [row for name in sys.argv[1:] or NAMES for row in _of(name)]


def _of(name: str) -> list[Row]:
    model = bundle(name)
    runtime = OnnxRuntime(model)
    ours = _Ours()
    engine = Engine([Served(model, runtime)], Scheduler(), rates.THREADS, 10_000_000)
    try:
        rate = rates.bare(model, runtime, 1.0)
        requests = max(2 * rates.CLIENTS, int(rate * SECONDS / DRAWS))
        rates.engine(model, engine, DRAWS, rates.CLIENTS)  # compiles the noise
        ours.seconds = 0.0
        values = in_turns(
            ROUNDS,
            {
                "bare": lambda: rates.bare(model, runtime, SECONDS),
                "engine": lambda: ours.run(lambda: rates.engine(model, engine, DRAWS, requests)),
            },
        )
    finally:
        engine.close()
        ours.end()
    gate, aim = BOUNDS[name]
    drawn, ceiling = median(values["engine"]), median(values["bare"])
    share = ratio(values["engine"], values["bare"])
    figure = f"engine alone, {name}, n={DRAWS:,}"
    print(f"{name}: {_profile(model, runtime)}", flush=True)
    own = ours.seconds / (rates.THREADS * ours.wall)
    ceiling_row = f"bare ONNX Runtime {ceiling:,.0f}/s"
    return [
        Row(figure, f"{drawn:,.0f} draws/s", ceiling_row, share, gate, aim),
        Row(
            f"scheduler and statistics, {name}", f"{ours.seconds:.2f} s", "of the workers' time", own, 0.05, 0.02, True
        ),
    ]


class _Ours:
    """Seconds of processor time that an engine's workers spend planning, counting and composing answers, until `end`."""

    _STEPS = ("next_batch", "deliver_base", "deliver_noisy", "take_outcomes")

    def __init__(self) -> None:
        self.seconds, self.wall = 0.0, 0.0
        self._honest = {name: getattr(Workload, name) for name in self._STEPS}
        for name, method in self._honest.items():
            setattr(Workload, name, self._timed(method))

    def end(self) -> None:
        for name, method in self._honest.items():
            setattr(Workload, name, method)

    def _timed(self, method: Callable[..., object]) -> Callable[..., object]:
        def timed(*arguments: object) -> object:  # under the engine's lock
            began = time.thread_time()
            try:
                return method(*arguments)
            finally:
                self.seconds += time.thread_time() - began

        return timed

    def run(self, side: Callable[[], float]) -> float:
        began = time.perf_counter()
        found = side()
        self.wall += time.perf_counter() - began
        return found


def _profile(model: Bundle, runtime: OnnxRuntime) -> str:
    """Microseconds of each step of one batch, on one thread alone."""
    rows = model.manifest.batch_rows
    shape, size = model.manifest.input.shape, model.manifest.input.size
    lattice, batch = pictures(shape, 1)[0], pictures(shape, rows)
    flat, key = batch.reshape(rows, size), bytes(16)
    votes, scores = runtime.passes(batch)
    parts = [SliceResult(32, votes[at : at + 32], scores[at : at + 32]) for at in range(0, rows, 32)]
    job = Job(model, rates.task(model, lattice[None], "fixed", 100_000), 0)
    drawn = iter(range(0, 100_000, 32))

    def noise() -> None:
        parts = [Draws(key, start, 32, lattice.reshape(-1)) for start in range(0, rows, 32)]
        add_draws(model.law.table, parts, flat)

    def count() -> None:
        for part in parts:
            job.receive(next(drawn), part)

    steps = {
        "noise": noise,
        "model": lambda: runtime.passes(batch),
        "counting": count,
    }
    return f"microseconds a batch of {rows}: " + ", ".join(
        f"{name} {_microseconds(run):.0f}" for name, run in steps.items()
    )


def _microseconds(run) -> float:
    times = []
    for _ in range(200):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
        if sum(times) > 3:
            break
    return median(times) * 1e6


if __name__ == "__main__":
    main("engine", rows)
