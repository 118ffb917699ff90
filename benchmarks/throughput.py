"""The whole server under certificates: HTTP and gRPC, one process and Ray, over the bare rate of the same two cores.

python -m benchmarks.throughput [local | ray]
"""

from __future__ import annotations

import sys
from statistics import median

from google.protobuf.duration_pb2 import Duration

from benchmarks import rates
from benchmarks.clients import Send, closed_loop, demo_pictures, png, predict_over_grpc, predict_over_http
from benchmarks.measure import in_turns, main, ratio
from benchmarks.networks import DEMO, NAMES, bundle, pictures, repository
from benchmarks.row import Row
from protos.certserve.v1 import certserve_pb2 as pb
from serving.runtimes.onnx_runtime import OnnxRuntime
from tests.servers import Address, command_line

BOUNDS = {"cnn": (0.70, 0.85), DEMO: (0.80, 0.90), "resnet20": (0.92, 0.97)}
DRAWS, ROUNDS = 1_000, 3
SECONDS = 2.0
CALIBRATING = 0.5
DEADLINE_S = 60


def rows() -> list[Row]:
    found = []
    for home in sys.argv[1:] or ("local", "ray"):
        with command_line(repository(), local=home == "local") as address:
            for name in NAMES:
                found += _of(name, home, address)
    return found


def _of(name: str, home: str, address: Address) -> list[Row]:
    model = bundle(name)
    runtime = OnnxRuntime(model)
    requests = max(2 * rates.CLIENTS, int(rates.bare(model, runtime, CALIBRATING) * SECONDS / DRAWS))
    shape = model.manifest.input.shape
    images = demo_pictures(1_000) if name == DEMO else pictures(shape, 256)
    bodies = [png(images[place % len(images)]) for place in range(requests)]
    senders = {"HTTP": _http(name, address), "gRPC": _grpc(name, address)}

    def drawn(wire: str) -> float:
        return requests * DRAWS / closed_loop(senders[wire], bodies)[0]

    for wire in senders:
        closed_loop(senders[wire], bodies[: rates.CLIENTS])
    sides = {"bare": lambda: rates.bare(model, runtime, SECONDS)}
    values = in_turns(ROUNDS, sides | {wire: lambda wire=wire: drawn(wire) for wire in senders})
    ceiling = f"bare ONNX Runtime {median(values['bare']):,.0f}/s"
    return [
        Row(
            f"whole server, {home}, {wire}, {name}, n={DRAWS:,}",
            f"{median(values[wire]):,.0f} draws/s",
            ceiling,
            ratio(values[wire], values["bare"]),
            *BOUNDS[name],
        )
        for wire in senders
    ]


def _http(name: str, address: Address) -> list[Send]:
    query = {"certify": "fixed", "draws": DRAWS, "deadline_ms": DEADLINE_S * 1_000}
    return [predict_over_http(address.http, name, **query) for _ in range(rates.CLIENTS)]


def _grpc(name: str, address: Address) -> list[Send]:
    options = pb.Options(certify=pb.CERTIFY_MODE_FIXED, draws=DRAWS, deadline=Duration(seconds=DEADLINE_S))
    return [predict_over_grpc(address.grpc, name, options) for _ in range(rates.CLIENTS)]


if __name__ == "__main__":
    main("throughput", rows)
