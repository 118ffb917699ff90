"""How replicas talk on Ray Serve: plain predictions a second as it is shipped, over its other ways.

`serving/deployments/ray_environment` sets what is shipped where the environment does not say otherwise.
"""

from __future__ import annotations

import time
from statistics import median

from benchmarks import rates
from benchmarks.clients import closed_loop, demo_pictures, png, predict_over_http
from benchmarks.measure import main
from benchmarks.networks import DEMO, repository
from benchmarks.row import Row
from tests.servers import command_line

GRPC = "RAY_SERVE_USE_GRPC_BY_DEFAULT"
CODE, ROUTER = "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP"
MODES = {
    "gRPC, one loop": {GRPC: "1", CODE: "0", ROUTER: "0"},
    "actor calls, one loop": {GRPC: "0", CODE: "0", ROUTER: "0"},
    "actor calls, loops of their own (Serve's default)": {GRPC: "0", CODE: "1", ROUTER: "1"},
}
REQUESTS, ALONE, ROUNDS = 1_000, 200, 3


def rows() -> list[Row]:
    found = {name: _of(environment) for name, environment in MODES.items()}
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


def _of(environment: dict[str, str]) -> tuple[float, float]:
    """Requests a second of all clients together, and the median milliseconds of one client alone."""
    bodies = [png(picture) for picture in demo_pictures(100)]
    with command_line(repository(), local=False, environment=environment) as address:
        senders = [
            predict_over_http(address.http, DEMO, certify="off", outputs="probabilities") for _ in range(rates.CLIENTS)
        ]
        closed_loop(senders, bodies)
        seconds = [closed_loop(senders, bodies * (REQUESTS // len(bodies)))[0] for _ in range(ROUNDS)]
        time.sleep(1)
        _, times = closed_loop(senders[:1], (bodies * 10)[:ALONE])
    return REQUESTS / median(seconds), 1e3 * median(times)


if __name__ == "__main__":
    main("modes", rows)
