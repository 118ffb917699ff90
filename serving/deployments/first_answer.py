"""Before a server is called ready: an answer of each model has come back through each of its ports."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import grpc
import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc
from serving import ports, strict_json
from serving.config import Settings

_PATIENCE_S = 20.0
_ONE_S = 10.0
_PAUSE_S = 0.1
_ANSWERS = (200, 401, 413)
"""401 where one has to bear a key, which whoever starts has not; 413 where no body may be as large as one row."""
_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A row that a model can answer: int32, [1, *shape]."""

    model: str
    version: str
    tensor: str
    row: NDArray[np.int32]


def sample(bundle: Bundle) -> GoldenRow:
    """The first golden row of a bundle."""
    manifest = bundle.manifest
    row = bundle.golden.base_input[:1] - np.int32(manifest.input.zero)
    return GoldenRow(manifest.name, manifest.version, manifest.input.name, row)


async def through_each_wire(settings: Settings, samples: Sequence[GoldenRow], say: Callable[[str], None]) -> None:
    """Ask HTTP and gRPC for every sample until they answer, and say what stands in the way for long.

    Never through a proxy: it would answer for the server.
    """
    host = ports.reachable(settings.host)
    for each in samples:
        http, rpc = _ways(settings, host, each)
        await _answered(f"HTTP port {settings.http_port}", http, say)
        await _answered(f"gRPC port {settings.grpc_port}", rpc, say)


def _ways(settings: Settings, host: str, sample: GoldenRow) -> tuple[Callable[[], str], Callable[[], str]]:
    """How to ask over HTTP and gRPC; only for a handshake, where clients need certificates: whoever starts has none."""
    http, rpc = settings.http_port, settings.grpc_port
    if settings.tls_client_ca_file:
        return partial(_shaken, host, http, ""), partial(_shaken, host, rpc, "h2")
    if settings.tls_cert_file:
        return partial(_over_http, host, http, sample, _unproven()), partial(_over_http2, host, rpc)
    return partial(_over_http, host, http, sample, None), partial(_over_grpc, host, rpc, sample)


async def _answered(place: str, ask: Callable[[], str], say: Callable[[str], None]) -> None:
    began, said = time.monotonic(), ""
    while problem := await asyncio.to_thread(ask):
        if time.monotonic() - began > _PATIENCE_S and problem != said:
            say(f"not ready: no answer comes back through {place}: {problem}")
            said = problem
        await asyncio.sleep(_PAUSE_S)


def _unproven() -> ssl.SSLContext:
    """For a server that is ours: whether clients will believe its certificate is not the question."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _shaken(host: str, port: int, protocol: str) -> str:
    """What stands in the way of a handshake; a server asks for the client's certificate after it."""
    try:
        with _secured(host, port, protocol):
            return ""
    except OSError as error:
        return str(error)


def _over_http2(host: str, port: int) -> str:
    """What stands in the way of HTTP/2 by TLS: gRPC's own client believes no certificate without its authority's."""
    try:
        with _secured(host, port, "h2") as connection:
            connection.sendall(_HTTP2)
            begun = connection.recv(len(_SETTINGS))
    except OSError as error:
        return str(error)
    return "" if begun[3:4] == _SETTINGS[3:4] else "the answer is no HTTP/2"


@contextlib.contextmanager
def _secured(host: str, port: int, protocol: str) -> Iterator[ssl.SSLSocket]:
    context = _unproven()
    if protocol:
        context.set_alpn_protocols([protocol])
    with socket.create_connection((host, port), _ONE_S) as raw, context.wrap_socket(raw) as connection:
        yield connection


def _over_http(host: str, port: int, sample: GoldenRow, context: ssl.SSLContext | None) -> str:
    """What stands in the way of an answer, empty if nothing does."""
    row = sample.row
    size = {"binary_data_size": row.nbytes}
    tensor = {"name": sample.tensor, "shape": list(row.shape), "datatype": "INT32", "parameters": size}
    head = strict_json.dumps({"inputs": [tensor], "parameters": {"certify": "off", "outputs": "probabilities"}})
    path = f"/v2/models/{quote(sample.model)}/versions/{quote(sample.version)}/infer"
    connection = http.client.HTTPConnection(host, port, timeout=_ONE_S)
    if context is not None:
        connection = http.client.HTTPSConnection(host, port, timeout=_ONE_S, context=context)
    try:
        connection.request("GET", "/v2/health/ready")
        if (answer := connection.getresponse()).status == 200:
            answer.read()
            body = head + row.astype("<i4").tobytes()
            connection.request("POST", path, body, {"Inference-Header-Content-Length": str(len(head))})
            answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        return "" if answer.status in _ANSWERS else f"{answer.status} {text:.300}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def _over_grpc(host: str, port: int, sample: GoldenRow) -> str:
    request = pb.PredictRequest(
        model=sample.model,
        version=sample.version,
        grid=pb.GridTensor(shape=sample.row.shape, data=sample.row.ravel().tolist()),
        options=pb.Options(certify=pb.CERTIFY_MODE_OFF),
    )
    with grpc.insecure_channel(ports.at(host, port), options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = certserve_pb2_grpc.CertificationServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            stub.Predict(request, timeout=_ONE_S)
        except grpc.RpcError as error:
            expected = error.code() is grpc.StatusCode.UNAUTHENTICATED or "larger than max" in (error.details() or "")
            return "" if expected else f"{error.code().name} {error.details():.300}"
    return ""
