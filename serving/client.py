"""A thin client of both wires: one input in, the answer document out, the same from either.

It imports the typed service's stubs and never those of the Open Inference Protocol, so that a process can hold this
client beside tritonclient or kserve. Options are those of the wire, as values or as text: `{"target_radius": 0.5}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import grpc
import httpx
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc
from serving import errors, strict_json
from serving.errors import CertserveError, Internal, InvalidInput, Unavailable
from serving.messages import Options
from serving.wires import options as wire_options
from serving.wires.answer_document import Document
from serving.wires.grpc.frame import reason
from serving.wires.typed import certserve_document, certserve_proto

_SLACK_S = 5.0
_DEFAULT_S = 30.0
_LONGEST_S = 86_400.0  # no server allows more, and sockets take no number of any size
_JSON = "application/json"
_TRANSPORT: dict[str, type[CertserveError]] = {
    "DEADLINE_EXCEEDED": errors.DeadlinePassed,
    "RESOURCE_EXHAUSTED": errors.TooLarge,
    "UNIMPLEMENTED": errors.NotOffered,
}


def predict_http(
    url: str,
    model: str,
    body: bytes,
    content_type: str,
    options: Mapping[str, object] | None = None,
    *,
    version: str | None = None,
) -> Document:
    """Predict over HTTP. `url` is the server's, "http://host:port"; `body` a picture or KServe V1 JSON.

    Raises `CertserveError` of the kind that the server answered with; `Unavailable` if it could not be reached.
    """
    server = _server(url)
    path = f"/v1/models/{quote(model)}" + (f"/versions/{quote(version)}" if version else "") + ":predict"
    query = _texts(options or {})
    try:
        response = httpx.post(
            server + path,
            params=query,
            content=body,
            headers={"Content-Type": content_type},
            timeout=_timeout_s(wire_options.build(wire_options.from_query(query.items()))),
            trust_env=not _here(httpx.URL(server).host),
        )
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError) as error:
        # The last three: a proxy in the environment that httpx cannot use, or certificates that cannot be read.
        raise Unavailable(f"{url} could not be reached ({error or type(error).__name__}); is the server up?") from None
    if response.status_code != 200:
        raise _error(response)
    return _answer(response, url, wanted={"receipt"} if query.get("receipt") == "true" else set())


def predict_grpc(
    target: str,
    model: str,
    body: bytes,
    content_type: str,
    options: Mapping[str, object] | None = None,
    *,
    version: str | None = None,
) -> Document:
    """Predict over gRPC; `target` is "host:port", the rest as for `predict_http`."""
    chosen = wire_options.build(wire_options.from_query(_texts(options or {}).items()))
    request = pb.PredictRequest(model=model, version=version or "")
    if content_type == _JSON:
        given = _put_rows(request, strict_json.loads(body))
        chosen = wire_options.build(wire_options.from_query(_texts(options or {}).items()), given)
    else:
        request.image.CopyFrom(pb.Image(content=body, content_type=content_type))
    request.options.CopyFrom(certserve_proto.options_message(chosen))
    through = 0 if _here(target.rpartition(":")[0]) else 1
    channel_options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", through)]
    with grpc.insecure_channel(target, options=channel_options) as channel:
        stub = certserve_pb2_grpc.CertificationServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            response = stub.Predict(request, timeout=_timeout_s(chosen))
        except grpc.RpcError as error:
            raise _status_error(error, target) from None
    return certserve_document.document(response)


def _here(host: str) -> bool:
    """Whether a host is this one: then a proxy that the environment names is not asked, for it would seek itself."""
    host = host.strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def _server(url: str) -> str:
    """The server's URL, to be continued by a path; what httpx would refuse without a reason, or later, is refused here."""
    try:
        parsed = httpx.URL(url)
        usable = parsed.scheme in ("http", "https") and bool(parsed.host) and (parsed.port or 1) < 2**16
        usable = usable and not parsed.query and not parsed.fragment
    except (httpx.InvalidURL, ValueError, TypeError):
        usable = False
    if not usable:
        raise InvalidInput(f"{url!r:.200} is no URL of a server; expected http://host:port or https://host:port")
    return url.rstrip("/")


def _answer(response: httpx.Response, url: str, wanted: set[str]) -> Document:
    """The predictions in a response, each with the fields in `wanted`; any web server may have answered."""
    try:
        document = response.json()
    except ValueError:
        document = None
    rows = document.get("predictions") if isinstance(document, dict) else None
    if (
        not isinstance(rows, list)
        or not rows
        or not all(isinstance(row, dict) and wanted <= row.keys() for row in rows)
    ):
        raise Internal(f"{url} answered with something else than predictions; is it a certserve server?")
    found: Document = document
    return found


def _texts(options: Mapping[str, object]) -> dict[str, str]:
    """Options as the query string has them."""
    return {name: _text(value) for name, value in options.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _timeout_s(options: Options) -> float:
    """How long to wait: a little more than the server was given, so that the answer is the server's."""
    return _DEFAULT_S if options.deadline_ms is None else min(options.deadline_ms / 1000, _LONGEST_S) + _SLACK_S


def _put_rows(request: pb.PredictRequest, document: Mapping[str, object]) -> dict[str, object]:
    """Put the instances of KServe V1 JSON into a message; returns the options beside them."""
    beside = {key: value for key, value in document.items() if key not in ("instances", "input")}
    unknown = [key for key in beside if key not in wire_options.KINDS]
    if unknown:
        raise InvalidInput(f"unknown key {unknown[0]!r}; known are instances, input, {', '.join(wire_options.KINDS)}")
    values = document.get("input", "grid") == "values"
    try:
        rows = np.array(document.get("instances"), dtype=np.float64 if values else None)
    except (ValueError, TypeError):
        rows = np.array(None)
    if rows.dtype.kind not in ("f" if values else "iu"):
        raise InvalidInput('expected "instances" to be a regular array of numbers: integers, unless input is "values"')
    if values:
        request.values.CopyFrom(pb.ValueTensor(shape=rows.shape, data=rows.ravel().tolist()))
    else:
        request.grid.CopyFrom(pb.GridTensor(shape=rows.shape, data=rows.ravel().tolist()))
    return wire_options.from_json(beside)


def _error(response: httpx.Response) -> CertserveError:
    try:
        message = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        message = f"the server answered {response.status_code} without a message of certserve's; is it one?"
    retry = response.headers.get("Retry-After", "")
    kinds = {kind.http_status: kind for kind in CertserveError.__subclasses__()}
    kind = kinds.get(response.status_code, errors.Internal)
    return kind(message, retry_after_s=float(retry) if retry.isdigit() else None)


def _status_error(error: grpc.RpcError, target: str) -> CertserveError:
    """The server's error by the reason that it names; without one the transport failed, and the code has to do."""
    message = error.details() or "no message"
    status = rpc_status.from_call(error)
    if status is None:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return Unavailable(f"{target} could not be reached ({message}); is the server up?")
        return _TRANSPORT.get(error.code().name, errors.Internal)(message)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for packed in status.details:
        packed.Unpack(info)
        packed.Unpack(retry)
    kinds = {reason(kind): kind for kind in CertserveError.__subclasses__()}
    after = float(retry.retry_delay.seconds) or None
    return kinds.get(info.reason, errors.Internal)(message, retry_after_s=after)
