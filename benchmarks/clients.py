"""Clients that cost little: pictures over persistent HTTP connections, and over the typed gRPC service."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import grpc
import numpy as np
from PIL import Image

from export.data.idx import read_split
from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc

Send = Callable[[bytes], object]
_DATA = Path(__file__).resolve().parent.parent / "tests" / "data"


def demo_pictures(count: int) -> np.ndarray:
    """The demo's first committed test pictures, [count, 1, 28, 28]."""
    return read_split(_DATA, "fashion_mnist_test_1000").images[:count, None].astype(np.int32)


def png(picture: np.ndarray) -> bytes:
    """An integer picture [channels, height, width] as a PNG file."""
    pixels = picture.astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(stream, "PNG")
    return stream.getvalue()


def over_http(url: str, path: str, content_type: str = "image/png", **query: object) -> Send:
    """A connection of its own, kept open; answers the body of a 200 and raises on anything else.

    One that the server has closed in a long pause is opened anew.
    """
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=120)
    target, headers = f"{path}?{urlencode(query)}", {"Content-Type": content_type}

    def send(body: bytes) -> bytes:
        try:
            connection.request("POST", target, body, headers)
            response = connection.getresponse()
        except ConnectionError:
            connection.close()
            connection.request("POST", target, body, headers)
            response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {answer[:300]!r}")
        return answer

    return send


def predict_over_http(url: str, model: str, **query: object) -> Send:
    send = over_http(url, f"/v1/models/{model}:predict", **query)
    return lambda body: json.loads(send(body))["predictions"][0]


def predict_over_grpc(target: str, model: str, options: pb.Options) -> Send:
    stub = certserve_pb2_grpc.CertificationServiceStub(grpc.insecure_channel(target))
    return lambda body: stub.Predict(
        pb.PredictRequest(model=model, image=pb.Image(content=body, content_type="image/png"), options=options),
        timeout=120,
    )


def closed_loop(senders: Sequence[Send], bodies: Sequence[bytes]) -> tuple[float, list[float]]:
    """Send every body once, each sender one at a time. The seconds of all, and of each."""
    waiting, times, lock, failures = iter(bodies), [], threading.Lock(), []

    def work(send: Send) -> None:
        while True:
            with lock:
                body = next(waiting, None)
            if body is None or failures:
                return
            began = time.perf_counter()
            try:
                send(body)
            except Exception as error:
                failures.append(error)
                return
            times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=work, args=(send,)) for send in senders]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - began, times
