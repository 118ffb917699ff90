"""Answers by an engine in this process, without a wire: for commands that examine what a server would say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.bounds.anytime import MAX_DRAWS
from export.bundle import Bundle
from serving.config import Limits, Settings
from serving.deployments.assembly import build_engine
from serving.gateway.gateway import Gateway
from serving.inputs.file_rows import FileRows
from serving.messages import PredictRequest
from serving.wires import options as wire_options
from serving.wires.kserve_v1 import instances_json

Answers = Callable[[NDArray[np.integer]], Sequence[Mapping[str, Any]]]
"""Grid inputs [n, *shape] to `predictions` of the friendly route, one a row."""

_DAY_MS = 86_400_000
# Nobody else is served here: no request has to leave anything to another.
_LIMITS = Limits(max_draws=MAX_DRAWS, max_deadline_ms=_DAY_MS, max_pending_draws=2**31 - 1)


@contextmanager
def answers(bundle: Bundle, options: Mapping[str, object], secret: bytes, *, whole: bool = False) -> Iterator[Answers]:
    """An engine of the bundle, proven, for as long as the context is open.

    `options` are those of a request; with `whole`, no deadline cuts an answer short.
    """
    asked = {name: str(value) for name, value in options.items()} | ({"deadline_ms": str(_DAY_MS)} if whole else {})
    chosen = wire_options.build(wire_options.from_query(asked.items()))
    settings = Settings(models=Path(), limits=_LIMITS)
    engine = build_engine([bundle], settings)
    gateway = Gateway(engine.catalogue, engine, secret, settings.limits)

    def ask(rows: NDArray[np.integer]) -> Sequence[Mapping[str, Any]]:
        request = PredictRequest(
            model=bundle.manifest.name,
            version=bundle.manifest.version,
            inputs=rows.astype(np.int32).view(FileRows),  # of the grid, as files give them
            options=chosen,
        )
        document: Any = instances_json.encode(asyncio.run(gateway.predict(request)), chosen)
        found: Sequence[Mapping[str, Any]] = document["predictions"]
        return found

    try:
        yield ask
    finally:
        engine.close()
