"""Work on ranges of rows, spread over the workers of Ray Data. What a worker does is handed in; rows do not cross Ray.

Each worker makes its answering once and reads its own rows, so that data of any size stay where they are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

RowsToLines = Callable[[int, int], Sequence[str]]
"""The lines that come of the rows from one number to another."""


class OnRayError(RuntimeError):
    """A worker could not do its part; the message is its own."""


def spread(make: Callable[[], RowsToLines], rows: int, together: int, workers: int) -> Iterator[str]:
    """The lines of all rows, in order of their parts, `together` rows a part. `make` is called once in each worker.

    Uses the cluster that RAY_ADDRESS names, or starts Ray on this machine and stops it again.
    """
    import ray

    ours = not ray.is_initialized()
    if ours:
        alone: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        where = {} if os.environ.get("RAY_ADDRESS") else alone
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        parts = -(-rows // together)
        # Made here, not by tasks: those would wait for ever for a processor that the workers keep.
        numbers = ray.data.from_items([{"id": part} for part in range(parts)], override_num_blocks=parts)
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
        done = numbers.map_batches(
            _RayWorker, fn_constructor_args=(make, rows, together), batch_size=1, compute=pool, num_cpus=1
        )
        waiting: dict[int, list[str]] = {}
        ahead = 0
        for row in done.iter_rows():
            if row["error"]:
                raise OnRayError(row["error"])
            waiting.setdefault(int(row["part"]), []).append(str(row["line"]))
            while len(waiting.get(ahead, ())) == min(together, rows - ahead * together):
                yield from waiting.pop(ahead)
                ahead += 1
    finally:
        if ours:
            ray.shutdown()


class _RayWorker:
    """In a process of Ray's: one engine for many parts."""

    def __init__(self, make: Callable[[], RowsToLines], rows: int, together: int) -> None:
        self._part, self._rows, self._together = make(), rows, together

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        part = int(batch["id"][0])
        start = part * self._together
        try:
            lines = self._part(start, min(self._rows, start + self._together))
        except Exception as error:  # as a value: Ray wraps what is raised in a text with its traceback
            return {"part": [part], "line": [""], "error": [str(error) or type(error).__name__]}
        return {"part": [part] * len(lines), "line": list(lines), "error": [""] * len(lines)}
