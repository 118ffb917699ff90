"""LitServe by itself: int32 tensors in base64 JSON, since it reads JSON or forms only; one worker a core."""

from __future__ import annotations

import base64
import os
import signal
import sys
import threading
from pathlib import Path

import litserve
import numpy as np


class Votes(litserve.LitAPI):
    def setup(self, device: str) -> None:
        from export.bundle import load
        from serving.runtimes.onnx_runtime import OnnxRuntime

        self._runtime = OnnxRuntime(load(Path(sys.argv[1])))

    def decode_request(self, request: dict) -> np.ndarray:
        return np.frombuffer(base64.b64decode(request["lattice"]), "<i4").reshape(-1, 1, 28, 28)

    def predict(self, lattice: np.ndarray) -> np.ndarray:
        return self._runtime.passes(lattice)[0]

    def encode_response(self, votes: np.ndarray) -> dict:
        return {"votes": votes.tolist()}


def main(port: int) -> None:
    server = litserve.LitServer(Votes(), accelerator="cpu", workers_per_device=os.cpu_count())
    threading.Thread(target=_stop_with_input, daemon=True).start()
    print("ready", flush=True)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


def _stop_with_input() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock the forked workers would inherit
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main(int(sys.argv[2]))
