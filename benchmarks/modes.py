"""Ray Serve's ways in: plain predictions a second in the mode that is shipped, over its other modes.

Shipped is HAProxy with the throughput mode; `serving/ray_environment` sets it where the environment does not say otherwise.
"""

from __future__ import annotations

import os
import time
from statistics import median

from benchmarks import rates
from benchmarks.clients import closed_loop, demo_pictures, png, predict_over_http
from benchmarks.measure import Row, main
from benchmarks.networks import DEMO, repository
from tests.servers import command_line

PROXY, THROUGHPUT = "RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED"
MODES = {
    "HAProxy and throughput": ("1", "1"),
    "HAProxy": ("1", "0"),
    "throughput": ("0", "1"),
    "default": ("0", "0"),
}
REQUESTS, ALONE, ROUNDS = 1_000, 200, 3


def rows() -> list[Row]:
    found = {name: _of(proxy, throughput) for name, (proxy, throughput) in MODES.items()}
    shipped = next(iter(MODES))
    ours_rate, ours_ms = found[shipped]
    return [
        Row(
            f"plain predictions on Ray, {shipped} (p50 alone {ours_ms:.1f} ms)",
            f"{ours_rate:,.0f} a second",
            f"{name}: {rate:,.0f} a second (p50 alone {ms:.1f} ms)",
            ours_rate / rate,
        )
        for name, (rate, ms) in found.items()
        if name != shipped
    ]


def _of(proxy: str, throughput: str) -> tuple[float, float]:
    """Requests a second of all clients together, and the median milliseconds of one client alone."""
    bodies = [png(picture) for picture in demo_pictures(100)]
    os.environ.update({PROXY: proxy, THROUGHPUT: throughput})
    try:
        with command_line(repository(), local=False) as address:
            senders = [
                predict_over_http(address.http, DEMO, certify="off", outputs="probabilities")
                for _ in range(rates.CLIENTS)
            ]
            closed_loop(senders, bodies)
            seconds = [closed_loop(senders, bodies * (REQUESTS // len(bodies)))[0] for _ in range(ROUNDS)]
            time.sleep(1)
            _, times = closed_loop(senders[:1], (bodies * 10)[:ALONE])
        return REQUESTS / median(seconds), 1e3 * median(times)
    finally:
        for name in (PROXY, THROUGHPUT):
            del os.environ[name]


if __name__ == "__main__":
    main("modes", rows)
