"""Ray Serve by itself: int32 tensors as raw bytes in, votes as raw bytes out, one replica a core."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

# The fastest ways that Serve has: its default proxy takes some hundred requests a second.
os.environ.update(RAY_SERVE_ENABLE_HA_PROXY="1", RAY_SERVE_THROUGHPUT_OPTIMIZED="1", RAY_USAGE_STATS_ENABLED="0")

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=os.cpu_count(), ray_actor_options={"num_cpus": 1}, max_ongoing_requests=16)
class Votes:
    def __init__(self, folder: str) -> None:
        from export.bundle import load
        from serving.runtimes.onnx_runtime import OnnxRuntime

        self._runtime = OnnxRuntime(load(Path(folder)))

    async def __call__(self, request: Request) -> Response:
        lattice = np.frombuffer(await request.body(), "<i4").reshape(-1, 1, 28, 28)
        votes, _ = self._runtime.passes(lattice)
        return Response(votes.astype("<i8").tobytes(), media_type="application/octet-stream")


def main(folder: str, port: int) -> None:
    ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
    serve.run(Votes.bind(folder))
    print("ready", flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
