"""The typed service's messages, and ours. The comments of the .proto file are the specification.

`serving.wires.typed.certserve_document` reads an answer back as the document of the friendly HTTP route.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from certify.claims.certificate import Certificate
from certify.mixture.mix import Mixture
from certify.ood.verdict import CertifiedScore, Ood
from export.bundle import InputSpec
from protos.certserve.v1 import certserve_pb2 as pb
from serving.errors import InvalidInput
from serving.inputs import registry
from serving.messages import Answer, Model, Options, Prediction, PredictRequest
from serving.strict_json import shown
from serving.wires.options import tightened

MODES = {
    pb.CERTIFY_MODE_OFF: "off",
    pb.CERTIFY_MODE_TARGET: "target",
    pb.CERTIFY_MODE_BEST: "best",
    pb.CERTIFY_MODE_FIXED: "fixed",
    pb.CERTIFY_MODE_PRECISION: "precision",
}
NORMS = {pb.NORM_L2: "l2"}
PARTS = {
    pb.ANSWER_PART_PROBABILITIES: "probabilities",
    pb.ANSWER_PART_CERTIFICATE: "certificate",
    pb.ANSWER_PART_OOD: "ood",
    pb.ANSWER_PART_MIXTURE: "mixture",
}
STATUSES = {
    pb.Certificate.STATUS_CERTIFIED: "certified",
    pb.Certificate.STATUS_REFUTED: "refuted",
    pb.Certificate.STATUS_UNDECIDED: "undecided",
}
VERDICTS = {
    pb.Ood.VERDICT_IN_DISTRIBUTION: "in_distribution",
    pb.Ood.VERDICT_OUT_OF_DISTRIBUTION: "out_of_distribution",
    pb.Ood.VERDICT_UNDETERMINED: "undetermined",
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
            return registry.row(message.image.content, message.image.content_type, spec)[None]
        case "grid":
            return _tensor(message.grid.shape, np.array(message.grid.data, dtype=np.int32), spec)
        case "values":
            return _tensor(message.values.shape, np.array(message.values.data, dtype=np.float64), spec)
        case _:
            raise InvalidInput("no input is given; expected one of image, grid, values")


def _tensor(shape: Sequence[int], data: NDArray[np.generic], spec: InputSpec) -> NDArray[np.generic]:
    got, expected = tuple(shape), ("rows", *spec.shape)
    if len(got) != len(expected) or got[1:] != spec.shape or got[0] < 1:
        raise InvalidInput(f"the input has shape {shown(list(got))}, expected [rows, {str(list(spec.shape))[1:]}")
    if math.prod(got) != data.size:
        raise InvalidInput(f"the input has {data.size} numbers; its shape {list(got)} says {math.prod(got)}")
    return data.reshape(got)


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
    wanted = options.outputs is None or "probabilities" in options.outputs
    model = pb.ModelIdentity(**asdict(answer.model))
    rows = [_prediction(each, answer, wanted) for each in answer.predictions]
    return pb.PredictResponse(predictions=rows, model=model)


def _prediction(each: Prediction, answer: Answer, probabilities: bool) -> pb.Prediction:
    split = each.alpha_split
    return pb.Prediction(
        label=answer.labels[each.class_index],
        class_index=each.class_index,
        probabilities=each.probabilities.tolist() if probabilities else [],
        certificate=_certificate(each.certificate, answer) if each.certificate else None,
        ood=_ood(each.ood, answer) if each.ood else None,
        mixture=_mixture(each.mixture, answer) if each.mixture else None,
        alpha=each.alpha,
        alpha_split=pb.AlphaSplit(
            class_share=split.of_class,
            upper_share=split.of_upper,
            threshold_share=split.of_threshold,
            interval_share=split.of_interval,
        ),
        draws=each.draws,
        lost_draws=each.lost_draws,
        input=pb.InputNote(snapped=each.input.snapped, snap_distance=each.input.snap_distance) if each.input else None,
        receipt=each.receipt,
        granted_draws=each.granted_draws,
    )


def _certificate(certificate: Certificate, answer: Answer) -> pb.Certificate:
    index = certificate.class_index
    return pb.Certificate(
        status=_number(certificate.status, STATUSES, "status"),
        label=None if index is None else answer.labels[index],
        radius=certificate.radius,
        reaches_others=answer.reaches_others(certificate.radius),
        norm=_number(certificate.norm, NORMS, "norm"),
        sigma=certificate.sigma,
        p_a_lower=certificate.p_a_lower,
        p_b_upper=certificate.p_b_upper,
        procedure=_number(certificate.procedure, MODES, "procedure"),
        target_radius=certificate.target_radius,
        radius_tolerance=certificate.radius_tolerance,
    )


def _ood(ood: Ood, answer: Answer) -> pb.Ood:
    return pb.Ood(
        score=ood.score if math.isfinite(ood.score) else None,
        p_value=ood.p_value,
        in_distribution=ood.in_distribution,
        threshold=ood.threshold,
        certified=_certified(ood.certified, answer) if ood.certified else None,
    )


def _certified(certified: CertifiedScore, answer: Answer) -> pb.Ood.Certified:
    return pb.Ood.Certified(
        verdict=_number(certified.verdict, VERDICTS, "verdict"),
        score_lower=certified.score_lower,
        score_upper=certified.score_upper,
        radius=certified.radius,
        reaches_others=answer.reaches_others(certified.radius),
    )


def _mixture(mixture: Mixture, answer: Answer) -> pb.Mixture:
    return pb.Mixture(
        label=answer.labels[mixture.class_index],
        probabilities=mixture.probabilities,
        robust_weight=mixture.robust_weight,
        radius=mixture.radius,
        reaches_others=answer.reaches_others(mixture.radius),
    )
