"""The log of every process of the server: warnings and errors, on standard error; Ray brings it from its processes."""

from __future__ import annotations

import logging
from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is worked at, as its client knows it; each wire sets it."""


def start() -> None:
    """Begin to log in this process."""
    logging.basicConfig(level="WARNING", format="%(asctime)s %(name)s %(levelname)s %(message)s")
