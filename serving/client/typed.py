"""The typed gRPC service: one input in, the answer document out, the same as over HTTP.

It imports the typed service's stubs and never those of the Open Inference Protocol, so that a process can hold this
client beside tritonclient or kserve. Options are those of the wire, as values or as text: `{"target_radius": 0.5}`.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc
from serving import errors, strict_json
from serving.client.asking import JSON, texts
from serving.client.exchange import SLACK_S, is_here
from serving.client.trust import Trust
from serving.errors import CertserveError, InvalidInput, Unavailable
from serving.messages import Options
from serving.wires import options as wire_options
from serving.wires.answer_document import Document
from serving.wires.grpc.frame import reason
from serving.wires.typed import certserve_document, certserve_proto

_DEFAULT_S = 30.0
_SCHEME = "https://"
_LONGEST_S = 86_400.0  # no server allows more, and sockets take no number of any size
_TRANSPORT: dict[str, type[CertserveError]] = {
    "DEADLINE_EXCEEDED": errors.DeadlinePassed,
    "RESOURCE_EXHAUSTED": errors.TooLarge,
    "UNIMPLEMENTED": errors.NotOffered,
}


def predict(
    target: str,
    model: str,
    body: bytes,
    content_type: str,
    options: Mapping[str, object] | None = None,
    *,
    version: str | None = None,
    key: str | None = None,
    trust: Trust | None = None,
) -> Document:
    """Predict over gRPC; `target` is "host:port", or "https://host:port" for TLS, of which `trust` says more; `key` is sent
    as a bearer token; the rest as for `serving.client.predict_http`.
    """
    chosen = wire_options.build(wire_options.from_query(texts(options or {}).items()))
    request = pb.PredictRequest(model=model, version=version or "")
    if content_type == JSON:
        given = _put_rows(request, strict_json.loads(body))
        chosen = wire_options.build(wire_options.from_query(texts(options or {}).items()), given)
    else:
        request.image.CopyFrom(pb.Image(content=body, content_type=content_type))
    request.options.CopyFrom(certserve_proto.options_message(chosen))
    through = 0 if is_here(target.removeprefix("https://").rpartition(":")[0]) else 1
    metadata = [("authorization", f"Bearer {key}")] if key else []
    channel_options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", through)]
    with _channel(target, trust or Trust(), channel_options) as channel:
        stub = certserve_pb2_grpc.CertificationServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            response = stub.Predict(request, timeout=_timeout_s(chosen), metadata=metadata)
        except grpc.RpcError as error:
            raise _status_error(error, target) from None
    return certserve_document.document(response)


def _channel(target: str, trust: Trust, options: list[tuple[str, int]]) -> grpc.Channel:
    if trust == Trust() and not target.startswith(_SCHEME):
        return grpc.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(*trust.files())
    return grpc.secure_channel(target.removeprefix(_SCHEME), credentials, options=options)


def _timeout_s(options: Options) -> float:
    """How long to wait: a little more than the server was given, so that the answer is the server's."""
    return _DEFAULT_S if options.deadline_ms is None else min(options.deadline_ms / 1000, _LONGEST_S) + SLACK_S


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
