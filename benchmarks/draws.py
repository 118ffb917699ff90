"""How many draws a decision takes at a cap of 10^4, and how many of the certificates of n = 10^5 it keeps.

On the demo's test pictures, target R = sigma, alpha = .001, by the engine itself. n = 10^5 is the `fixed` procedure:
Clopper-Pearson at the whole alpha.
"""

from __future__ import annotations

import asyncio

import numpy as np

from benchmarks import rates
from benchmarks.clients import demo_pictures
from benchmarks.measure import Row, main
from benchmarks.networks import DEMO, bundle
from export.bundle import Bundle
from serving.engine import Engine, Served
from serving.messages import Prediction
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.scheduler import Scheduler

CAP, MANY = 10_000, 100_000
PICTURES, COMPARED = 1_000, 100


def rows() -> list[Row]:
    model = bundle(DEMO)
    engine = Engine([Served(model, OnnxRuntime(model))], Scheduler(), rates.THREADS, 10**9)
    images = demo_pictures(PICTURES)
    compared = images[:: PICTURES // COMPARED]
    try:
        few = asyncio.run(_certified(engine, model, images, "target", CAP))
        many = asyncio.run(_certified(engine, model, compared, "fixed", MANY))
    finally:
        engine.close()
    spent = float(np.mean([each.draws for each in few]))
    statuses = {name: sum(each.certificate.status == name for each in few) for name in ("certified", "refuted")}
    proven = [each.certificate.radius >= model.sigma for each in many]
    kept = [one.certificate.status == "certified" for one in few[:: PICTURES // COMPARED]]
    both = sum(a and b for a, b in zip(proven, kept, strict=True))
    said = ", ".join(f"{count} {name}" for name, count in statuses.items())
    return [
        Row(
            f"mean draws, cap {CAP:,}, R = sigma, {PICTURES:,} pictures ({said})",
            f"{spent:,.0f} draws",
            "limit 1 draw",
            spent,
            1_000,
            600,
            less_is_better=True,
        ),
        Row(
            f"certificates of n={MANY:,} kept at cap {CAP:,}, {COMPARED} pictures",
            f"{both} certificates",
            f"{sum(proven)} at n={MANY:,}",
            both / sum(proven),
            0.94,
            0.96,
        ),
    ]


async def _certified(engine: Engine, model: Bundle, images: np.ndarray, mode: str, draws: int) -> list[Prediction]:
    gate = asyncio.Semaphore(rates.CLIENTS)

    async def one(picture: np.ndarray) -> Prediction:
        async with gate:
            reply = await engine.predict(rates.task(model, picture[None], mode, draws, target_radius=model.sigma))
        return reply.predictions[0]

    return await asyncio.gather(*map(one, images))


if __name__ == "__main__":
    main("draws", rows)
