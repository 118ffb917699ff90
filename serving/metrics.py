"""What the whole server counts, for Prometheus on a port of its own.

One process keeps its counts in memory. Several on one host (Ray's replicas) share a folder, named by
`PROMETHEUS_MULTIPROC_DIR` before this module is imported: prometheus_client then keeps every count in a file there, and
whichever process serves the port adds them up. Labels are never chosen by a client, save names of callers, which are few.
"""

from __future__ import annotations

import functools
import logging
import os
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import psutil
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from serving import metrics_server

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_LIVE = ("livesum", "livemax")
_FILE_BYTES = 2**20


def _reserve() -> None:
    """Take the room of this process's counts on the disk before any is kept: a process that writes to a file of its memory
    for which the disk has no room left is killed. Where there is none already, the counts are kept apart, in memory.
    """
    try:
        _make_files(Path(os.environ[FOLDER_VARIABLE]))
    except OSError as error:
        apart = tempfile.mkdtemp(prefix="cs-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        logging.getLogger("certserve.metrics").warning("the metrics leave out process %d: %s", os.getpid(), error)
        os.environ[FOLDER_VARIABLE] = apart
        _make_files(Path(apart))


def _make_files(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("counter", "histogram", *(f"gauge_{mode}" for mode in _LIVE)):
        with (folder / f"{kind}_{os.getpid()}.db").open("ab") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)


if FOLDER_VARIABLE in os.environ:
    _reserve()

REQUESTS = Counter("certserve_requests", "Finished requests.", ["protocol", "code"])
REQUEST_SECONDS = Histogram("certserve_request_seconds", "Time to answer a request.", ["protocol"], buckets=_BUCKETS)
REFUSED = Counter(
    "certserve_refused_connections",
    "Connections ended for what they sent or did not, by the HTTP status, or grpc.",
    ["code"],
)
CALLER_REQUESTS = Counter(
    "certserve_caller_requests", "Finished requests of callers that are known.", ["caller", "code"]
)
CALLER_DRAWS = Counter("certserve_caller_draws", "Passes answered to callers that are known.", ["caller"])
REFUSED_CALLERS = Counter(
    "certserve_refused_callers", "Requests refused for who asked: not known, or without the scope.", ["code"]
)
QUEUE_SECONDS = Histogram("certserve_queue_seconds", "Time from arrival to the first batch.", buckets=_BUCKETS)
CERTIFICATES = Counter(
    "certserve_certificates", "Rows answered, by the status of the certificate.", ["model", "status"]
)
OOD = Counter("certserve_ood", "Rows with a score, by the decision.", ["model", "decision"])
SHORTENED = Counter("certserve_shortened", "Rows that overload allowed fewer draws than they asked for.")
DRAWS = Counter("certserve_draws", "Noisy passes made.")
BATCH_ROWS = Counter("certserve_batch_rows", "Rows of the batches of noisy passes: draws / rows is their fill.")
DEVICE_SECONDS = Counter("certserve_device_seconds", "Time that workers spent on batches, noise included.")
PENDING = Gauge("certserve_draws_pending", "Draws owed to requests in flight.", multiprocess_mode="livesum")
MODELS = Gauge("certserve_models_loaded", "Models proven and served, in each engine.", multiprocess_mode="livemax")


_Labelled = TypeVar("_Labelled", Counter, Histogram)


@functools.lru_cache(maxsize=4_096)
def of(family: _Labelled, *labels: str) -> _Labelled:
    """One of a family of counts, by its labels: looked up once, for every request counts."""
    return family.labels(*labels)


_CALLERS = 100
_named: set[str] = set()


def caller_label(name: str) -> str:
    """The label of a caller: its name for the first that come, since an issuer may name any number; then "(others)"."""
    if name not in _named:
        if len(_named) >= _CALLERS:
            return "(others)"
        _named.add(name)
    return name


def serve(host: str, port: int, context: Callable[[], ssl.SSLContext] | None = None) -> None:
    """Serve the counts on `host:port`. Among several processes of one host the first to bind serves them all.

    The others go on trying, so that a process that dies is replaced. `context` is for TLS, if any.
    """
    if FOLDER_VARIABLE not in os.environ:
        metrics_server.serve(host, port, REGISTRY, context)
        return
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(_Forget())
    threading.Thread(target=_serve_when_free, args=(host, port, registry, context), daemon=True).start()


def _serve_when_free(
    host: str, port: int, registry: CollectorRegistry, context: Callable[[], ssl.SSLContext] | None
) -> None:
    pause = threading.Event()
    while True:
        try:
            metrics_server.serve(host, port, registry, context)
            return
        except OSError:
            pause.wait(2.0)


class _Forget(Collector):
    """Drops the gauges of processes that are gone, at each scrape."""

    def collect(self) -> Iterable[Metric]:
        for path in Path(os.environ[FOLDER_VARIABLE]).glob("gauge_live*_*.db"):
            process = int(path.stem.rsplit("_", 1)[1])
            if not psutil.pid_exists(process):
                mark_process_dead(process)  # type: ignore[no-untyped-call]
        return []
