"""Goodput under overload: decisions within the deadline at ten times what the engine can decide, over its best.

Arrivals do not wait for answers. An answer counts if it comes in time and its target was proven or refuted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import numpy as np

from benchmarks import rates
from benchmarks.clients import demo_pictures
from benchmarks.measure import Row, in_turns, main, ratio
from benchmarks.networks import DEMO, bundle
from export.bundle import Bundle
from serving.engine import Engine, Served
from serving.errors import Overloaded
from serving.messages import Prediction, Reply
from serving.runtimes import noise_kernel
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.scheduler import Scheduler

TARGET, MAX_DRAWS, DEADLINE_S = 0.25, 10_000, 1.0
SECONDS, ROUNDS, TIMES, AT_EASE = 6.0, 3, 10, 8


def rows() -> list[Row]:
    model = bundle(DEMO)
    engine = Engine([Served(model, OnnxRuntime(model))], Scheduler(), rates.THREADS, 2_000_000)
    pictures = demo_pictures(1_000)
    noise_kernel.prove(model.noise, model.manifest.input.size)  # compiles it
    try:
        rate = asyncio.run(_at_ease(model, engine, pictures))
        values = in_turns(
            ROUNDS,
            {
                "best": lambda: asyncio.run(_at_ease(model, engine, pictures)),
                "flooded": lambda: asyncio.run(_flooded(model, engine, pictures, TIMES * rate)),
            },
        )
    finally:
        engine.close()
    flooded, best = (float(np.median(values[name])) for name in ("flooded", "best"))
    share = ratio(values["flooded"], values["best"])
    figure = f"decisions in time at {TIMES} times the load"
    return [Row(figure, f"{flooded:,.0f} a second", f"at ease {best:,.0f} a second", share, 0.90, 0.97)]


async def _at_ease(model: Bundle, engine: Engine, pictures: np.ndarray) -> float:
    """Decisions a second where `AT_EASE` clients each wait for their answers."""
    until, places = time.perf_counter() + SECONDS, iter(range(10**9))

    async def client() -> int:
        decided = []
        while time.perf_counter() < until:
            decided.append(await _decides(model, engine, pictures[next(places) % len(pictures)]))
        return sum(decided)

    return sum(await asyncio.gather(*(client() for _ in range(AT_EASE)))) / SECONDS


async def _flooded(model: Bundle, engine: Engine, pictures: np.ndarray, rate: float) -> float:
    """Decisions a second where requests arrive at `rate`, whatever becomes of them."""
    ends: Counter[str] = Counter()

    async def one(place: int) -> None:
        try:
            ends["decided" if await _decides(model, engine, pictures[place % len(pictures)]) else "undecided"] += 1
        except Overloaded:
            ends["refused"] += 1

    began, asked = time.perf_counter(), []
    while (now := time.perf_counter() - began) < SECONDS:
        asked += [asyncio.create_task(one(place)) for place in range(len(asked), int(rate * now))]
        await asyncio.sleep(0.01)
    await asyncio.gather(*asked)
    print(f"at {rate:,.0f} requests a second: {dict(ends)}", flush=True)
    return ends["decided"] / (time.perf_counter() - began)


async def _decides(model: Bundle, engine: Engine, picture: np.ndarray) -> bool:
    task = rates.task(model, picture[None], "target", MAX_DRAWS, TARGET, DEADLINE_S)
    reply: Reply[Prediction] = await engine.predict(task)
    certificate = reply.rows[0].certificate
    return certificate is not None and certificate.status != "undecided"


if __name__ == "__main__":
    main("overload", rows)
