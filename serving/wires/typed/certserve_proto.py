"""The typed service's messages, and ours. The comments of the .proto file are the specification.

What an answer says is `serving.wires.answer_document`'s, and its way into a message `certserve_document`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from certify.strict_json import shown
from export.bundle import InputSpec
from protos.certserve.v1 import certserve_pb2 as pb
from serving.errors import InvalidInput
from serving.inputs import registry, work
from serving.messages import Answer, Model, Options, PredictRequest
from serving.wires import answer_document
from serving.wires.live import News
from serving.wires.options import tightened
from serving.wires.typed import certserve_document
from serving.wires.typed.certserve_document import names

_AT_ONCE = 8 * 1024
MODES, NORMS, PARTS = (names(kind.DESCRIPTOR) for kind in (pb.CertifyMode, pb.Norm, pb.AnswerPart))
_EVENTS: Mapping[str, Any] = {
    name: number for number, name in names(pb.StreamCertificateResponse.Event.DESCRIPTOR).items()
}
"""The enumerations by the names that JSON uses."""


def decode(message: pb.PredictRequest, model: Model, seconds_left: float | None = None) -> PredictRequest:
    """The request in a message, under the call's own deadline; whatever is wrong with its form is `InvalidInput`."""
    return PredictRequest(
        model=model.manifest.name,
        version=model.manifest.version,
        digest=model.digest,
        inputs=_inputs(message, model.manifest.input),
        options=tightened(_options(message.options), seconds_left, model),
    )


def _inputs(message: pb.PredictRequest, spec: InputSpec) -> NDArray[np.generic]:
    match message.WhichOneof("input"):
        case "image":
            return registry.one(message.image.content, message.image.content_type, spec)
        case "grid":
            return _tensor(message.grid.shape, message.grid.data, np.dtype(np.int32), spec)
        case "values":
            return _tensor(message.values.shape, message.values.data, np.dtype(np.float64), spec)
        case _:
            raise InvalidInput("no input is given; expected one of image, grid, values")


def _tensor(
    shape: Sequence[int], data: Sequence[float], dtype: np.dtype[np.generic], spec: InputSpec
) -> NDArray[np.generic]:
    got, expected = tuple(shape), ("rows", *spec.shape)
    if len(got) != len(expected) or got[1:] != spec.shape or got[0] < 1:
        raise InvalidInput(f"the input has shape {shown(list(got))}, expected [rows, {str(list(spec.shape))[1:]}")
    count = math.prod(got)
    if count != len(data):
        raise InvalidInput(f"the input has {len(data)} numbers; its shape {list(got)} says {count}")
    work.take(dtype.itemsize * count)
    # Some at a time, for no other thread is let in before those are copied.
    parts = [np.array(data[place : place + _AT_ONCE], dtype=dtype) for place in range(0, count, _AT_ONCE)]
    return np.concatenate(parts).reshape(got)


def _options(message: pb.Options) -> Options:
    duration = message.deadline
    return Options(
        certify=_named(message.certify, MODES, "certify"),
        target_radius=message.target_radius if message.HasField("target_radius") else None,
        radius_tolerance=message.radius_tolerance if message.HasField("radius_tolerance") else None,
        max_draws=message.max_draws if message.HasField("max_draws") else None,
        draws=message.draws if message.HasField("draws") else None,
        alpha=message.alpha if message.HasField("alpha") else None,
        deadline_ms=duration.seconds * 1000 + duration.nanos // 10**6 if message.HasField("deadline") else None,
        norm=_named(message.norm, NORMS, "norm"),
        outputs=tuple(_part(each) for each in message.outputs) or None,
        snap=message.snap,
        receipt=message.receipt,
        top_k=message.top_k if message.HasField("top_k") else None,
    )


def _named(value: int, names: Mapping[Any, str], field: str) -> str | None:
    if value and value not in names:
        raise InvalidInput(f"{field} is {value}, which this server does not know; it knows {dict(names)}")
    return names.get(value)


def _part(value: int) -> str:
    name = _named(value, PARTS, "outputs")
    if name is None:
        raise InvalidInput("outputs holds ANSWER_PART_UNSPECIFIED; leave it out")
    return name


def options_message(options: Options) -> pb.Options:
    """The message of some options; what the service has no word for is `InvalidInput`."""
    message = pb.Options(
        certify=_number(options.certify, MODES, "certify"),
        target_radius=options.target_radius,
        radius_tolerance=options.radius_tolerance,
        max_draws=options.max_draws,
        draws=options.draws,
        alpha=options.alpha,
        norm=_number(options.norm, NORMS, "norm"),
        outputs=[_number(part, PARTS, "outputs") for part in options.outputs or ()],
        snap=options.snap,
        receipt=options.receipt,
        top_k=options.top_k,
    )
    if options.deadline_ms is not None:
        seconds, rest = divmod(options.deadline_ms, 1000)
        message.deadline.CopyFrom(Duration(seconds=seconds, nanos=rest * 10**6))
    return message


def _number(name: str | None, names: Mapping[Any, str], field: str) -> Any:
    if name is None:
        return 0
    for number, each in names.items():
        if each == name:
            return number
    raise InvalidInput(f"{field} is {shown(name)}; expected one of {', '.join(names.values())}")


def encode(answer: Answer, options: Options) -> pb.PredictResponse:
    """The answer's message; `options` are those of the request, for the parts that were left out."""
    return certserve_document.message(answer_document.rows(answer, options))


def encode_news(news: News, options: Options) -> list[pb.StreamCertificateResponse]:
    """The message of each row that an event speaks of."""
    whole = encode(news.answer, options)
    return [
        pb.StreamCertificateResponse(
            event=_EVENTS[news.kind], row=number, rows=news.of, prediction=each, model=whole.model
        )
        for number, each in zip(news.numbers, whole.predictions, strict=True)
    ]
