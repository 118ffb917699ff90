"""A plain prediction (`certify=off`): how long alone, one after another or after rests, and beside certificates that
saturate every core.

python -m benchmarks.latency [local | ray]
"""

from __future__ import annotations

import sys
import threading
import time
from statistics import median

from benchmarks import rates
from benchmarks.clients import Send, demo_pictures, png, predict_over_http
from benchmarks.measure import main, percentile
from benchmarks.networks import DEMO, bundle, repository
from benchmarks.row import Row
from serving.runtimes.onnx_runtime import OnnxRuntime
from tests.servers import Address, command_line

BOUNDS_MS = {"local": (1.5, 1.0), "ray": (4.0, 2.5)}
REQUESTS, ROUNDS = 200, 2
PAUSE_S = 0.005  # between the predictions of a client that rests: it finds both cores asleep


def rows() -> list[Row]:
    found = []
    for home in sys.argv[1:] or ("local", "ray"):
        with command_line(repository(), local=home == "local") as address:
            found += _of(home, address)
    return found


def _of(home: str, address: Address) -> list[Row]:
    bodies = [png(picture) for picture in demo_pictures(100)]
    plain = predict_over_http(address.http, DEMO, certify="off", outputs="probabilities")
    scored = predict_over_http(address.http, DEMO, certify="off")
    times: dict[str, list[float]] = {"plain": [], "rested": [], "scored": [], "beside": [], "bare": []}
    runtime, picture = OnnxRuntime(bundle(DEMO)), demo_pictures(1)
    _timed(plain, bodies, 50)
    for _ in range(ROUNDS):
        times["bare"] += _timed(lambda _: runtime.base(picture), bodies, REQUESTS)
        times["plain"] += _timed(plain, bodies, REQUESTS, pause_s=0.0)
        times["rested"] += _timed(plain, bodies, REQUESTS)
        times["scored"] += _timed(scored, bodies, REQUESTS // 4)
        times["beside"] += _beside(address, plain, bodies)
    return _rows(home, {name: [1e3 * value for value in values] for name, values in times.items()})


def _rows(home: str, ms: dict[str, list[float]]) -> list[Row]:
    gate, aim = BOUNDS_MS[home]
    half, bare = {name: median(values) for name, values in ms.items()}, median(ms["bare"])
    calm, busy = (percentile(ms[name], 0.99) for name in ("rested", "beside"))
    bound = f"limit 1 ms (bare pass {bare:.2f} ms)"
    return [
        Row(f"p50 of a plain prediction, {home}", f"{half['plain']:.2f} ms", bound, half["plain"], gate, aim, True),
        Row(
            f"p50 after a rest of 5 ms, {home}", f"{half['rested']:.2f} ms", bound, half["rested"], less_is_better=True
        ),
        Row(f"p50 with an OOD score, {home}", f"{half['scored']:.2f} ms", bound, half["scored"], less_is_better=True),
        Row(f"p99 beside certificates, {home}", f"{busy:.2f} ms", f"idle {calm:.2f} ms", busy / calm, 4.0, 2.0, True),
    ]


def _beside(address: Address, plain: Send, bodies: list[bytes]) -> list[float]:
    """The same plain predictions while `CLIENTS` others keep asking for certificates."""
    done = threading.Event()

    def saturate() -> None:
        certify = predict_over_http(address.http, DEMO, certify="fixed", draws=1_000, deadline_ms=60_000)
        while not done.is_set():
            certify(bodies[0])

    threads = [threading.Thread(target=saturate) for _ in range(rates.CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        return _timed(plain, bodies, REQUESTS)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _timed(send: Send, bodies: list[bytes], requests: int, pause_s: float = PAUSE_S) -> list[float]:
    times = []
    for place in range(requests):
        began = time.perf_counter()
        send(bodies[place % len(bodies)])
        times.append(time.perf_counter() - began)
        time.sleep(pause_s)
    return times


if __name__ == "__main__":
    main("latency", rows)
