"""The process that runs Ray, between the one that was started and all that Ray starts.

It has no terminal and gets no signal: Ray would answer one by ending itself after three seconds, whatever is in flight. It
does what it is told over a connection, whose file descriptor is its argument. Where that breaks off it ends, with
everything below it.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from serving import log
from serving.config import Settings
from serving.deployments import family


@dataclass(frozen=True, slots=True)
class Order:
    """What the process is to serve, and the folder for all its files."""

    settings: Settings
    folder: Path


@dataclass(frozen=True, slots=True)
class Said:
    """Something for whoever watches the start."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot be served, for this reason; the process ends."""

    reason: str


class Ready:
    """Every model is proven."""


class Finish:
    """The order to answer what was accepted and take nothing more."""


class Finished:
    """That is done: what is left can be killed."""


def main() -> None:
    """Serve as ordered until told to finish."""
    link = Connection(int(sys.argv[1]))
    os.set_inheritable(link.fileno(), False)
    family.adopt_orphans()
    log.start()
    order: Order = link.recv()
    told = threading.Event()
    threading.Thread(target=_listen, args=(link, told, order.folder), daemon=True).start()
    try:
        _serve(order, link, told)
    except Exception as error:
        link.send(Failed(_reason(error)))
    threading.Event().wait()  # for the connection to end


def _serve(order: Order, link: Connection, told: threading.Event) -> None:
    from serving.deployments import on_ray  # Ray reads its environment when it is imported

    on_ray.start(
        order.settings, order.folder, lambda text: link.send(Said(text)), lambda reason: link.send(Failed(reason))
    )
    link.send(Ready())
    told.wait()
    on_ray.finish(order.settings)
    link.send(Finished())


def _listen(link: Connection, told: threading.Event, folder: Path) -> None:
    try:
        while isinstance(link.recv(), Finish):
            told.set()
    except (EOFError, OSError):
        pass
    family.end()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _reason(error: Exception) -> str:
    """In one line: Ray's texts hold tracebacks, whose last line is what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
