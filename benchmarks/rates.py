"""Passes per second of the bare runtime and of the engine around it, on the same session and number of threads."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import numpy as np

from benchmarks.networks import pictures
from certify.claims.procedures import PROCEDURES, made
from certify.smoothing.ball import parse
from export.bundle import Bundle
from serving import processors
from serving.engine.engine import Engine
from serving.messages import Task
from serving.runtimes.onnx_runtime import OnnxRuntime

THREADS = processors.usable()
CLIENTS = 8
_NICENESS = 10  # of the threads of the engine: what else runs on the machine takes as much from either side


def bare(bundle: Bundle, runtime: OnnxRuntime, seconds: float) -> float:
    """Noisy rows that were ready beforehand, in full batches of the served shape, a thread a core: the ceiling."""
    found, rows = [0.0] * THREADS, bundle.manifest.batch_rows
    batches = [pictures(bundle.manifest.input.shape, rows, place) for place in range(THREADS)]

    def work(place: int) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        count, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            runtime.passes(batches[place])
            count += rows
        found[place] = count / (time.perf_counter() - began)  # its own time: threads do not end together

    threads = [threading.Thread(target=work, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found)


def engine(bundle: Bundle, engine: Engine, draws: int, requests: int, mode: str = "fixed") -> float:
    """Draws a second over `requests` tasks of `draws` each, `CLIENTS` of them in flight."""
    tasks = [task(bundle, picture[None], mode, draws) for picture in pictures(bundle.manifest.input.shape, requests)]

    async def all_of_them() -> None:
        gate = asyncio.Semaphore(CLIENTS)

        async def one(each: Task) -> None:
            async with gate:
                await engine.predict(each)

        await asyncio.gather(*map(one, tasks))

    began = time.perf_counter()
    asyncio.run(all_of_them())
    return requests * draws / (time.perf_counter() - began)


def task(
    bundle: Bundle, rows: np.ndarray, mode: str, draws: int, target_radius: float = 0.0, timeout_s: float = 300.0
) -> Task:
    spec = bundle.manifest
    keys = tuple(np.random.default_rng(abs(hash(row.tobytes()))).bytes(16) for row in rows)
    return Task(
        model=spec.name,
        version=spec.version,
        digest=bundle.digest,
        rows=rows,
        keys=keys,
        procedure=made(PROCEDURES[mode], parse(spec.formulas.parts, target_radius), None, draws),
        max_draws=draws,
        alpha=0.001,
        timeout_s=timeout_s,
        parts=frozenset(("probabilities", "certificate", "ood", "mixture")),
    )
