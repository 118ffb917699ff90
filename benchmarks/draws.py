"""How many draws a decision takes at a cap of 10^4, and how many of the certificates of n = 10^5 it keeps.

On the demo's test pictures, target R = sigma, alpha = .001, by the engine itself. n = 10^5 is the `fixed` procedure:
Clopper-Pearson at the whole alpha. It is run where the cap left a picture undecided; a picture that 10^4 draws have
certified counts as certified at 10^5, and a refuted one as not, which the proofs of both allow.
"""

from __future__ import annotations

import asyncio

import numpy as np

from benchmarks import rates
from benchmarks.clients import demo_pictures
from benchmarks.measure import main
from benchmarks.networks import DEMO, bundle
from benchmarks.row import Row
from export.bundle import Bundle
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.messages import Prediction
from serving.runtimes.onnx_runtime import OnnxRuntime

CAP, MANY = 10_000, 100_000
PICTURES = 200


def rows() -> list[Row]:
    model = bundle(DEMO)
    engine = Engine([Served(model, OnnxRuntime(model))], Scheduler(), rates.THREADS, 10**9)
    images = demo_pictures(PICTURES)
    try:
        few = asyncio.run(_certified(engine, model, images, "target", CAP))
        statuses = [each.certificate.status for each in few]
        open_ones = images[[status == "undecided" for status in statuses]]
        many = asyncio.run(_certified(engine, model, open_ones, "fixed", MANY))
    finally:
        engine.close()
    spent, kept = float(np.mean([each.draws for each in few])), statuses.count("certified")
    lost = sum(each.certificate.radius >= model.law.sigma for each in many)
    said = ", ".join(f"{statuses.count(name)} {name}" for name in ("certified", "refuted", "undecided"))
    return [
        Row(
            f"mean draws, cap {CAP:,}, R = sigma, {PICTURES} pictures ({said})",
            *(f"{spent:,.0f} draws", "limit 1 draw", spent, 1_000, 600, True),
        ),
        Row(
            f"certificates of n={MANY:,} kept at cap {CAP:,}, {PICTURES} pictures",
            *(f"{kept}", f"{kept + lost} at n={MANY:,}", kept / (kept + lost), 0.94, 0.96),
        ),
    ]


async def _certified(engine: Engine, model: Bundle, images: np.ndarray, mode: str, draws: int) -> list[Prediction]:
    gate = asyncio.Semaphore(rates.CLIENTS)

    async def one(picture: np.ndarray) -> Prediction:
        async with gate:
            reply = await engine.predict(rates.task(model, picture[None], mode, draws, target_radius=model.law.sigma))
        return reply.rows[0]

    return await asyncio.gather(*map(one, images))


if __name__ == "__main__":
    main("draws", rows)
