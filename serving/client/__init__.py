"""The client: ask a server, watch a certificate tighten, verify a receipt.

    from serving.client import Client

    with Client("http://127.0.0.1:8000") as client:
        print(client.predict("photo.jpg", target_radius=0.5))

`asking` and `answers` are the formats, `exchange` is what is sent, waited for and sent again; none of them does I/O, and
`Client` and `AsyncClient` are two drivers of the same steps. *Absent*: whatever only the server needs. `httpx`, `numpy`,
`scipy` and `cryptography` are all that is imported, so `pip install certserve` alone is enough; `predict_grpc` needs the
server's gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.client.answers import CertificateRead, LiveEvent, MixtureRead, Predicted, Score
from serving.client.client import AsyncClient, Client
from serving.client.receipts import verify
from serving.client.trust import Trust

__all__ = [
    "AsyncClient",
    "CertificateRead",
    "Client",
    "LiveEvent",
    "MixtureRead",
    "Predicted",
    "Score",
    "Trust",
    "predict_grpc",
    "predict_http",
    "verify",
]


def predict_http(
    url: str,
    model: str,
    body: bytes,
    content_type: str,
    options: Mapping[str, object] | None = None,
    *,
    version: str | None = None,
) -> dict[str, Any]:
    """The whole answer document for a body as it is sent over HTTP: a picture, or KServe V1 JSON. Nothing is sent again.

    Raises `CertserveError` of the kind that the server answered with; `Unavailable` if it could not be reached.
    """
    with Client(url, model, version=version, retries=0) as client:
        return client.document(body, content_type, **(options or {}))


def predict_grpc(
    target: str,
    model: str,
    body: bytes,
    content_type: str,
    options: Mapping[str, object] | None = None,
    *,
    version: str | None = None,
    key: str | None = None,
    trust: Trust | None = None,
) -> dict[str, Any]:
    """The same over gRPC; `target` is "host:port", or "https://host:port" for TLS, of which `trust` says more."""
    from serving.client import typed  # grpcio comes with the server alone

    return typed.predict(target, model, body, content_type, options, version=version, key=key, trust=trust)
