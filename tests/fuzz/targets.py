"""Every parser of what strangers send, or hand over as files: bytes in, and either a value or the refusal that it promises.

Anything else that comes of it, another error, a crash or a hang, is a finding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from google.protobuf.message import DecodeError

from certify.receipts.receipt import ReceiptError
from export.bundle import BundleError
from export.bundle.manifest import parse as parse_manifest
from protos.certserve.v1 import certserve_pb2
from protos.inference import open_inference_pb2
from serving.config import Limits
from serving.errors import CertserveError, Unauthenticated
from serving.inputs import registry
from serving.security import key_set, keys, signing
from serving.security.login import Login
from serving.security.tokens import Accepted, Tokens
from serving.wires import options
from serving.wires.grpc.door import Frames
from serving.wires.http import body as http_body
from serving.wires.http import event_stream, multipart
from serving.wires.http.answer import accepted_encoding
from serving.wires.http.head import check_head
from serving.wires.kserve_v1 import instances_json
from serving.wires.open_inference import oip_json, oip_proto
from serving.wires.trace import known
from serving.wires.typed import certserve_proto
from tests.serving.security.credentials import ALL_PEM, AUDIENCE, ISSUER, NOW
from tests.serving.wires.fake_gateway import model

MODEL, LIMITS = model(shape=(1, 4, 4)), Limits(max_body_bytes=2**20, max_json_bytes=2**20)


class _Known:
    now = key_set.parse(ALL_PEM)

    def missing(self) -> None:
        """There are no others."""


TOKENS = Tokens(_Known(), Accepted(issuer=ISSUER, audience=AUDIENCE, leeway_s=0), lambda: NOW)
LOGIN = Login(None, TOKENS, open_metadata=False)


def oip_in_json(data: bytes) -> None:
    oip_json.decode(data, None, MODEL, LIMITS)


def oip_in_binary(data: bytes) -> None:
    """The first two bytes say how much of the rest is JSON."""
    oip_json.decode(data[2:], int.from_bytes(data[:2]), MODEL, LIMITS)


def oip_message(data: bytes) -> None:
    oip_proto.decode(open_inference_pb2.ModelInferRequest.FromString(data), MODEL, LIMITS, None)


def typed_message(data: bytes) -> None:
    certserve_proto.decode(certserve_pb2.PredictRequest.FromString(data), MODEL)


def instances(data: bytes) -> None:
    instances_json.decode(data, MODEL.manifest.input, LIMITS.max_rows, {})


def picture(data: bytes) -> None:
    registry.row(data, None, MODEL.manifest.input)


def form(data: bytes) -> None:
    """The first line is the Content-Type."""
    kind, _, rest = data.partition(b"\n")
    multipart.decode(rest, kind.decode("latin-1"))


def query(data: bytes) -> None:
    pairs = [part.partition("=")[::2] for part in data.decode("latin-1").split("&")]
    options.build(options.from_query(pairs))


def manifest(data: bytes) -> None:
    parse_manifest(Path("manifest.json"), data)


def receipt(data: bytes) -> None:
    signing.check_signature(signing.parse(data), bytes(32))


def head(data: bytes) -> None:
    """Header fields, a line each."""
    pairs = [line.partition(b":")[::2] for line in data.split(b"\n")]
    text = data.decode("latin-1")
    accepted_encoding(text)
    assert known({"x-request-id": text, "traceparent": text, "tracestate": text}).fields()
    event_stream.wanted(text)
    check_head([(name.lower(), value.strip()) for name, value in pairs], "1.1", upgrade=b"upgrade" in data)


def inflated(data: bytes) -> None:
    """The first byte says how it is compressed."""

    async def chunks():
        yield data[1:]

    coding = ("", "gzip", "deflate", "x-gzip")[(data[0] if data else 0) % 4]
    asyncio.run(http_body.read(chunks(), coding, None, LIMITS.max_body_bytes))


def frames(data: bytes) -> None:
    """In two ways: at once, and a byte at a time, which have to see the same."""
    whole, bit_by_bit = Frames(), Frames()
    at_once = list(whole.heads(data))
    assert at_once == [found for place in range(len(data)) for found in bit_by_bit.heads(data[place : place + 1])]


def token(data: bytes) -> None:
    TOKENS.caller(data.decode("latin-1"))


def authorization(data: bytes) -> None:
    LOGIN.caller({"authorization": data.decode("latin-1")})


def public_keys(data: bytes) -> None:
    key_set.parse(data)


def file_of_keys(data: bytes) -> None:
    keys.parse(data)


TARGETS: dict[str, tuple[Callable[[bytes], None], tuple[type[Exception], ...]]] = {
    "oip_in_json": (oip_in_json, (CertserveError,)),
    "oip_in_binary": (oip_in_binary, (CertserveError,)),
    "oip_message": (oip_message, (CertserveError, DecodeError)),
    "typed_message": (typed_message, (CertserveError, DecodeError)),
    "instances": (instances, (CertserveError,)),
    "picture": (picture, (CertserveError,)),
    "form": (form, (CertserveError,)),
    "query": (query, (CertserveError,)),
    "manifest": (manifest, (BundleError,)),
    "receipt": (receipt, (ReceiptError,)),
    "head": (head, (CertserveError,)),
    "inflated": (inflated, (CertserveError,)),
    "frames": (frames, ()),
    "token": (token, (Unauthenticated,)),
    "authorization": (authorization, (Unauthenticated,)),
    "public_keys": (public_keys, (ValueError,)),
    "file_of_keys": (file_of_keys, (ValueError,)),
}


def tried(name: str, data: bytes) -> bool:
    """Whether a parser takes these bytes; a refusal that it promises is none, anything else is raised."""
    parse, refusals = TARGETS[name]
    try:
        parse(data)
    except refusals:
        return False
    return True
