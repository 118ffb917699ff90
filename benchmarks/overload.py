"""Goodput under overload: decisions within the deadline at ten times what the engine can decide, over its best.

Arrivals do not wait for answers. An answer counts if it comes in time and its target was proven or refuted.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks import rates
from benchmarks.clients import demo_pictures
from benchmarks.measure import in_turns, main, ratio
from benchmarks.networks import DEMO, bundle
from benchmarks.row import Row
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.errors import Overloaded
from serving.messages import Task
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.runtime import DrawRange

TARGET, MAX_DRAWS, DEADLINE_S = 0.25, 10_000, 1.0
SECONDS, ROUNDS, TIMES, AT_EASE = 6.0, 3, 10, 8


def rows() -> list[Row]:
    model = bundle(DEMO)
    engine = Engine([Served(model, OnnxRuntime(model))], Scheduler(), rates.THREADS, 2_000_000)
    # They come from elsewhere: to make them is no part of the load.
    tasks = [
        rates.task(model, picture[None], "target", MAX_DRAWS, TARGET, DEADLINE_S) for picture in demo_pictures(1_000)
    ]
    OnnxRuntime(model).noisy(
        [DrawRange(model.law.at(model.golden.base_input[0]), bytes(16), 0, 32)]
    )  # compiles the noise
    try:
        rate = asyncio.run(at_ease(engine, tasks, Counter()))
        values = in_turns(
            ROUNDS,
            {
                "best": lambda: asyncio.run(at_ease(engine, tasks, Counter())),
                "flooded": lambda: asyncio.run(_flooded(engine, tasks, TIMES * rate)),
            },
        )
    finally:
        engine.close()
    flooded, best = (float(np.median(values[name])) for name in ("flooded", "best"))
    share = ratio(values["flooded"], values["best"])
    figure = f"decisions in time at {TIMES} times the load"
    return [Row(figure, f"{flooded:,.0f} a second", f"at ease {best:,.0f} a second", share, 0.90, 0.97)]


async def at_ease(engine: Engine, tasks: Sequence[Task], ends: Counter[str]) -> float:
    """Decisions a second where `AT_EASE` clients each wait for their answers; `ends` counts how each ended."""

    async def client(first: int) -> None:
        for place in itertools.count(first, AT_EASE):
            await _ask(engine, tasks[place % len(tasks)], ends)

    clients = [asyncio.create_task(client(first)) for first in range(AT_EASE)]
    await asyncio.sleep(SECONDS)
    return await _ended(clients, ends)


async def _flooded(engine: Engine, tasks: Sequence[Task], rate: float) -> float:
    """Decisions a second where requests arrive at `rate`, whatever becomes of them."""
    ends: Counter[str] = Counter()
    began, asked = time.perf_counter(), list[asyncio.Task[None]]()
    while (now := time.perf_counter() - began) < SECONDS:
        for place in range(len(asked), int(rate * now)):
            asked.append(asyncio.create_task(_ask(engine, tasks[place % len(tasks)], ends)))
        await asyncio.sleep(0.01)
    return await _ended(asked, ends)


async def _ended(asked: list[asyncio.Task[None]], ends: Counter[str]) -> float:
    """Decisions a second until now; what is still in flight leaves, and counts for neither side."""
    counted = dict(ends)
    for each in asked:
        each.cancel()
    await asyncio.wait(asked)
    for each in asked:
        if not each.cancelled():
            each.result()  # what failed must not pass for what was not decided
    print(counted, flush=True)
    return counted.get("decided", 0) / SECONDS


async def _ask(engine: Engine, task: Task, ends: Counter[str]) -> None:
    try:
        certificate = (await engine.predict(task)).rows[0].certificate
    except Overloaded:
        ends["refused"] += 1
        return
    assert certificate is not None
    ends["undecided" if certificate.status == "undecided" else "decided"] += 1


if __name__ == "__main__":
    main("overload", rows)
