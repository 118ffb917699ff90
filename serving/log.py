"""The log of every process of the server: warnings and errors, on standard error; Ray brings it from its processes.

Every line names the request that it is about, if it is about one, and the trace that this belongs to.
"""

from __future__ import annotations

import logging
import os
from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is worked at, as its client knows it; each wire sets it."""
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
"""The trace that this request belongs to: see `serving.wires.trace`."""


def start() -> None:
    """Begin to log in this process: before gRPC is imported, for its core writes a line about every head that it refuses."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.basicConfig(level="WARNING", format="%(asctime)s %(name)s %(levelname)s %(about)s%(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(named)


def about(request_id: str, trace_id: str) -> dict[str, str]:
    """The `extra` of a line about a request that is not the one worked at here."""
    return {"request_id": request_id, "trace_id": trace_id}


def named(record: logging.LogRecord) -> bool:
    """A filter that lets every line through, and gives it its `about`."""
    request = getattr(record, "request_id", REQUEST_ID.get())
    trace = getattr(record, "trace_id", TRACE_ID.get())
    record.about = f"[request {request} trace {trace}] " if request else ""
    return True
