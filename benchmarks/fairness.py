"""What eight clients who want decisions keep of their rate beside the largest requests that are allowed.

Beside one request of 1,024 rows, and beside 200 of one row, each for its largest radius in 100,000 draws a row.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import numpy as np

from benchmarks import rates
from benchmarks.clients import demo_pictures
from benchmarks.measure import in_turns, main, ratio
from benchmarks.networks import DEMO, bundle
from benchmarks.overload import DEADLINE_S, MAX_DRAWS, TARGET, at_ease
from benchmarks.row import Row
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.messages import Task
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.runtime import DrawRange

LARGE_DRAWS, LARGE_ROWS, MANY, LARGE_S, ROUNDS = 100_000, 1_000, 200, 60.0, 3


def rows() -> list[Row]:
    model, pictures = bundle(DEMO), demo_pictures(1_000)
    OnnxRuntime(model).noisy(
        [DrawRange(model.law.at(model.golden.base_input[0]), bytes(16), 0, 32)]
    )  # compiles the noise
    engine = Engine([Served(model, OnnxRuntime(model))], Scheduler(), rates.THREADS, 2_000_000)
    tasks = [rates.task(model, picture[None], "target", MAX_DRAWS, TARGET, 10 * DEADLINE_S) for picture in pictures]
    large = [rates.task(model, pictures[:LARGE_ROWS], "best", LARGE_DRAWS, TARGET, LARGE_S)]
    many = [rates.task(model, picture[None], "best", LARGE_DRAWS, TARGET, LARGE_S) for picture in pictures[:MANY]]
    try:
        values = in_turns(
            ROUNDS,
            {
                "alone": lambda: asyncio.run(_beside(engine, tasks, [])),
                "large": lambda: asyncio.run(_beside(engine, tasks, large)),
                "many": lambda: asyncio.run(_beside(engine, tasks, many)),
            },
        )
    finally:
        engine.close()
    return [_row(values, "large", f"one of {LARGE_ROWS} rows"), _row(values, "many", f"{MANY} of one row")]


def _row(values: dict[str, list[float]], name: str, what: str) -> Row:
    beside, alone = (float(np.median(values[each])) for each in (name, "alone"))
    share = ratio(values[name], values["alone"])
    return Row(f"decisions beside {what}", f"{beside:,.0f} a second", f"alone {alone:,.0f} a second", share, 0.5, 0.75)


async def _beside(engine: Engine, tasks: list[Task], others: list[Task]) -> float:
    asked = [asyncio.ensure_future(engine.predict(task)) for task in others]
    await asyncio.sleep(1.0)
    ends: Counter[str] = Counter()
    found = await at_ease(engine, tasks, ends)
    assert not ends["refused"], ends
    for each in asked:
        assert not each.done()
        each.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*asked, return_exceptions=True)
    return found


if __name__ == "__main__":
    main("fairness", rows)
