"""PyTriton's clients, unmodified, against this server: `python pytriton_clients.py HTTP_PORT GRPC_PORT`; a line for each.

They read a model's configuration and metadata, and send numpy arrays by either wire: at once, as futures, or awaited.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import numpy as np

ROW = np.array([200] + [0] * 15, dtype=np.uint8)
ROWS = np.stack([ROW, 0 * ROW])


def _right(found, rows: int | None = None) -> bool:
    probabilities = found["probabilities"]
    first = probabilities if rows is None else probabilities[0]
    return probabilities.shape == ((2,) if rows is None else (rows, 2)) and first[1] > 0.9


def cases(url: str):
    """Name and call of each case of one wire."""
    from pytriton.client import AsyncioModelClient, FuturesModelClient, ModelClient
    from pytriton.client.exceptions import PyTritonClientInferenceServerError, PyTritonClientTimeoutError

    def sync(use: Callable):
        with ModelClient(url, "simple", init_timeout_s=10) as client:
            return use(client)

    def future(use: Callable):
        with FuturesModelClient(url, "simple", max_workers=2) as client:
            return use(client)

    def awaited(name: str, *arguments):
        async def ask():
            async with AsyncioModelClient(url, "simple", init_timeout_s=10) as client:
                return await getattr(client, name)(*arguments)

        return asyncio.run(ask())

    def refused(kind: type[Exception], call: Callable) -> bool:
        try:
            call()
        except kind:
            return True
        return False

    def unknown():
        with ModelClient(url, "nope", init_timeout_s=1) as client:
            client.infer_batch(ROWS)

    yield "wait_for_model", lambda: sync(lambda client: client.wait_for_model(10) is None)
    yield "is_batching_supported", lambda: sync(lambda client: client.is_batching_supported)
    yield "model_config", lambda: sync(lambda client: client.model_config.inputs[0].name == "INPUT0")
    yield "infer_sample", lambda: sync(lambda client: _right(client.infer_sample(ROW)))
    yield "infer_sample, named", lambda: sync(lambda client: _right(client.infer_sample(INPUT0=ROW)))
    yield "infer_batch", lambda: sync(lambda client: _right(client.infer_batch(ROWS), 2))
    yield "infer_batch, named", lambda: sync(lambda client: _right(client.infer_batch(INPUT0=ROWS), 2))
    yield (
        "parameters and headers",
        lambda: sync(
            lambda client: _right(client.infer_batch(ROWS, parameters={"certify": "best", "max_draws": 320}), 2)
        ),
    )
    yield "from_existing_client", lambda: sync(lambda client: _right(_existing(ModelClient, client), 2))
    yield "futures: infer_sample", lambda: future(lambda client: _right(client.infer_sample(ROW).result(20)))
    yield "futures: infer_batch", lambda: future(lambda client: _right(client.infer_batch(ROWS).result(20), 2))
    yield "futures: model_config", lambda: future(lambda client: bool(client.model_config().result(20).inputs))
    yield "asyncio: infer_sample", lambda: _right(awaited("infer_sample", ROW))
    yield "asyncio: infer_batch", lambda: _right(awaited("infer_batch", ROWS), 2)
    yield "an unknown model, for which it waits", lambda: refused(PyTritonClientTimeoutError, unknown)
    yield (
        "a wrong shape",
        lambda: refused(
            PyTritonClientInferenceServerError, lambda: sync(lambda client: client.infer_batch(ROWS[:, :3]))
        ),
    )


def _existing(kind, client):
    with kind.from_existing_client(client) as other:
        return other.infer_batch(ROWS)


def main() -> None:
    """Print what each case came to."""
    for wire, port in zip(("http", "grpc"), sys.argv[1:], strict=True):
        for name, run in cases(f"{wire}://127.0.0.1:{port}"):
            try:
                said = "passed" if run() else "wrong"
            except Exception as error:
                said = f"{type(error).__name__}: {error}".replace("\n", " ")
            print(f"{wire} {name}\t{said}", flush=True)


if __name__ == "__main__":
    main()
