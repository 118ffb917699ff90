"""The log of every process of the server: warnings and errors, on standard error; Ray brings it from its processes."""

from __future__ import annotations

import logging


def start() -> None:
    """Begin to log in this process."""
    logging.basicConfig(level="WARNING", format="%(asctime)s %(name)s %(levelname)s %(message)s")
