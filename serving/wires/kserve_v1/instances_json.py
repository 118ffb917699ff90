"""KServe V1 JSON with our options beside `instances`, and the answer document of the friendly route.

    {"instances": [[[...]], ...], "input": "grid" | "values", "certify": "target", "target_radius": 0.5, ...}
    {"instances": [{"image": {"b64": "<a PNG or JPEG file in base64>"}}, ...], ...}

Each instance is one row, nested to the shape of the model's input, or a picture. By default numbers are integers of the
grid; with `"input": "values"` they are in the caller's units. The document carries every number as it is: JSON floats are
printed so that they read back the same, and so no radius is rounded up. A number that is not finite becomes null.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from certify.claims.certificate import AlphaSplit, Certificate
from certify.mixture.mix import Mixture
from certify.ood.verdict import CertifiedScore, Ood
from export.bundle import InputSpec
from serving.errors import InvalidInput
from serving.inputs import number_text, registry, rows, work
from serving.inputs.number_text import NumberText
from serving.messages import Answer, Options, Prediction
from serving.strict_json import shown
from serving.wires import options as wire_options

_OWN_KEYS = ("instances", "input")
Document = dict[str, object]


def decode(
    body: bytes | bytearray, spec: InputSpec, max_rows: int, query: Mapping[str, object]
) -> tuple[NDArray[np.generic], Options]:
    """The rows and options of one request; `query` are options that came beside the body."""
    fields = number_text.loads(body)
    unknown = [key for key in fields if key not in _OWN_KEYS and key not in wire_options.KINDS]
    if unknown:
        known = ", ".join((*_OWN_KEYS, *wire_options.KINDS))
        raise InvalidInput(f"unknown key {shown(unknown[0])}; known are {known}")
    given = wire_options.from_json({key: value for key, value in fields.items() if key not in _OWN_KEYS})
    return _rows(fields, spec, max_rows), wire_options.build(query, given)


def _rows(fields: Mapping[str, object], spec: InputSpec, max_rows: int) -> NDArray[np.generic]:
    instances, form = fields.get("instances"), fields.get("input", "grid")
    count = _count(instances, spec)
    if count > max_rows:
        raise InvalidInput(f"instances holds {count} rows, over the limit of {max_rows}; send fewer at a time")
    if isinstance(instances, list) and isinstance(instances[0], dict):
        return _files(instances, spec, form)
    work.take(8 * count * spec.size)
    shape = (count, *spec.shape)
    if form == "values":
        return rows.array(instances, shape, "instances", lambda leaves: rows.numbers(leaves, "instances"))
    if form != "grid":
        raise InvalidInput(f'input is {shown(form)}; expected "grid" (integers 0 to {spec.top}) or "values"')
    hint = f'of the grid, 0 to {spec.top}; for numbers in {spec.units} say "input": "values"'
    return rows.array(instances, shape, "instances", lambda leaves: rows.integers(leaves, "instances", hint))


def _count(instances: object, spec: InputSpec) -> int:
    if isinstance(instances, NumberText):
        return max(1, instances.count() // spec.size)
    if not isinstance(instances, list) or not instances:
        raise InvalidInput(f'expected "instances", an array of one or more inputs of shape {list(spec.shape)}')
    return len(instances)


def _files(instances: list[object], spec: InputSpec, form: object) -> NDArray[np.generic]:
    """Instances that are files: `{"image": {"b64": "..."}}` or `{"b64": "..."}`, by whatever name."""
    if form != "grid":
        raise InvalidInput(
            f"input is {shown(form)}, and the instances are files like pictures, which are of the grid; leave it out"
        )
    places = ((f"instances[{index}]", each) for index, each in enumerate(instances))
    return registry.rows(((place, _file(place, each)) for place, each in places), spec)


def _file(place: str, instance: object) -> bytes:
    value = instance
    while isinstance(value, dict) and len(value) == 1 and "b64" not in value:
        (value,) = value.values()
    text = value.get("b64") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(text, str):
        kinds = " or ".join(registry.names())
        raise InvalidInput(f'{place} is {shown(instance)}; expected {{"image": {{"b64": "<a {kinds} file>"}}}}')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{place} is not base64: {shown(text)}") from None


def encode(answer: Answer, options: Options) -> Document:
    """The answer document; `options` are those of the request, for the parts that were left out."""
    return {"predictions": [_prediction(answer, each, options) for each in answer.predictions]}


def _prediction(answer: Answer, each: Prediction, options: Options) -> Document:
    wanted = options.outputs is None or "probabilities" in options.outputs
    document: Document = {
        "label": answer.labels[each.class_index],
        "class_index": each.class_index,
        "probabilities": [_number(p) for p in each.probabilities.tolist()] if wanted else None,
        "certificate": each.certificate and _certificate(each.certificate, answer),
        "ood": each.ood and _ood(each.ood, answer),
        "mixture": each.mixture and _mixture(each.mixture, answer),
        "alpha": each.alpha,
        "alpha_split": _split(each.alpha_split),
        "draws": each.draws,
        "lost_draws": each.lost_draws,
        "model": asdict(answer.model),
    }
    if each.input is not None:
        document["input"] = {"snapped": each.input.snapped, "snap_distance": each.input.snap_distance}
    if each.granted_draws is not None:
        document["granted_draws"] = each.granted_draws
    if each.receipt is not None:
        document["receipt"] = json.loads(each.receipt)
    return document


def _certificate(certificate: Certificate, answer: Answer) -> Document:
    abstained = certificate.class_index is None
    return {
        "status": certificate.status,
        "label": None if abstained else answer.labels[certificate.class_index or 0],
        "radius": _number(certificate.radius),
        "reaches_others": answer.reaches_others(certificate.radius),
        "norm": certificate.norm,
        "sigma": certificate.sigma,
        "p_a_lower": certificate.p_a_lower,
        "p_b_upper": certificate.p_b_upper,
        "procedure": certificate.procedure,
        "target_radius": certificate.target_radius,
        "radius_tolerance": certificate.radius_tolerance,
    }


def _ood(ood: Ood, answer: Answer) -> Document:
    return {
        "score": _number(ood.score),
        "p_value": ood.p_value,
        "in_distribution": ood.in_distribution,
        "threshold": _number(ood.threshold),
        "certified": ood.certified and _certified(ood.certified, answer),
    }


def _certified(certified: CertifiedScore, answer: Answer) -> Document:
    return {
        "verdict": certified.verdict,
        "score_lower": _number(certified.score_lower),
        "score_upper": _number(certified.score_upper),
        "radius": certified.radius,
        "reaches_others": answer.reaches_others(certified.radius),
    }


def _mixture(mixture: Mixture, answer: Answer) -> Document:
    return {
        "label": answer.labels[mixture.class_index],
        "probabilities": [_number(p) for p in mixture.probabilities],
        "robust_weight": mixture.robust_weight,
        "radius": _number(mixture.radius),
        "reaches_others": answer.reaches_others(mixture.radius),
    }


def _split(split: AlphaSplit) -> Document:
    return {
        "class": split.of_class,
        "upper": split.of_upper,
        "threshold": split.of_threshold,
        "interval": split.of_interval,
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
