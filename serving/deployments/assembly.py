"""Bundles to a proven engine: what both homes of the server do before they are ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from export.bundle import Bundle
from serving import metrics, processors
from serving.config import Settings
from serving.engine.engine import Engine
from serving.engine.scheduler import Scheduler
from serving.engine.served import Served
from serving.models.proof import prove
from serving.runtimes.open import open_runtime
from serving.security.secret import read_signing_key
from serving.security.signing import Signer

_BASE_ROWS, _ON_A_GPU = {"cpu": 1}, 8
"""Base predictions in a batch: a second row takes as long as the first on a processor, and hardly any time on a GPU."""


def base_rows(provider: str) -> int:
    """How many base predictions go in a batch."""
    return _BASE_ROWS.get(provider, _ON_A_GPU)


def build_engine(bundles: Sequence[Bundle], settings: Settings, say: Callable[[str], None] = lambda _: None) -> Engine:
    """An engine that serves every bundle, each proven on this machine first. Raises `ProofError` and its like."""
    scheduler = Scheduler(base_rows=base_rows(settings.provider))
    served = []
    for bundle in bundles:
        runtime = open_runtime(bundle, settings.provider, scheduler.base_rows)
        say(f"proving {bundle.manifest.name}/{bundle.manifest.version} on {runtime.description}")
        prove(bundle, runtime, scheduler.base_rows)
        served.append(Served(bundle, runtime))
    metrics.MODELS.set(len(served))
    threads = settings.threads or processors.usable()
    file = settings.signing_key_file
    signer = Signer(read_signing_key(file)) if file else None
    return Engine(served, scheduler, threads, settings.limits.max_pending_draws, signer)
