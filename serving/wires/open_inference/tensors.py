"""The answer as named tensors: the contract of the Open Inference Protocol, on both wires.

Tensors cannot say "nothing", and JSON cannot say "infinite", so each absence has a value that claims nothing:
`certificate_label` -1 with `certificate_radius` 0 (abstained), `p_a_lower` 0, `p_b_upper` 1, `joint_label` -1 with
`joint_verdict` undetermined, `joint_p_lower` 0 and `joint_radius` 0 (abstained; a label of -1 with another verdict says
"out"), `confidence_label` -1 with `confidence_lower`, `confidence_lower_at_input` and `confidence_radius` 0 (abstained), the
largest finite numbers as bounds of a score that has no bound, and for a score that could not be had the largest
number, `ood_p_value` 0 and `ood_in_distribution` false.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from certify.strict_json import shown
from export.bundle import Manifest
from serving.errors import InvalidInput
from serving.messages import Answer, Prediction
from serving.wires.open_inference import datatypes

_LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor: datatype, the part of the answer that it reads (None: always there), and how to read a row."""

    datatype: str
    part: str | None
    read: Callable[[Prediction], object]
    per_class: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedTensor:
    """One output of an answer; an array of objects holds bytes."""

    name: str
    datatype: str
    array: NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedOutput:
    """One requested output. `binary` is None unless it was said; `classes` asks for that many best classes as text."""

    name: str
    binary: bool | None = None
    classes: int = 0


def _finite(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else min(max(value, -_LARGEST), _LARGEST)


def _certificate_label(row: Prediction) -> int:
    index = None if row.certificate is None else row.certificate.class_index
    return -1 if index is None else index


def _certified(row: Prediction, name: str, otherwise: float) -> float:
    certified = row.ood and row.ood.certified
    return _finite(getattr(certified, name) if certified else None, otherwise)


def _joint(row: Prediction, name: str, otherwise: object) -> object:
    found = getattr(row.joint, name) if row.joint else None
    return otherwise if found is None else found


def _confidence(row: Prediction, name: str, otherwise: float) -> object:
    found = getattr(row.confidence, name) if row.confidence else None
    return otherwise if found is None else found


def _verdict(row: Prediction) -> bytes:
    return row.ood.certified.verdict.encode() if row.ood and row.ood.certified else b"undetermined"


def _mixture_probabilities(row: Prediction) -> object:
    return row.mixture.probabilities if row.mixture else np.zeros_like(row.probabilities)


def _alarm(row: Prediction) -> bool:
    return bool(row.ood and row.ood.robust_alarm and row.ood.robust_alarm.raised)


TENSORS: dict[str, _Tensor] = {
    "probabilities": _Tensor("FP32", "probabilities", lambda row: row.probabilities, per_class=True),
    "scores": _Tensor("FP32", "probabilities", lambda row: row.probabilities, per_class=True),
    "label": _Tensor("INT64", None, lambda row: row.class_index),
    "certificate_label": _Tensor("INT64", "certificate", _certificate_label),
    "certificate_radius": _Tensor(
        "FP64", "certificate", lambda row: row.certificate.radius if row.certificate else 0.0
    ),
    "certificate_status": _Tensor(
        "BYTES", "certificate", lambda row: row.certificate.status.encode() if row.certificate else b"undecided"
    ),
    "p_a_lower": _Tensor(
        "FP64", "certificate", lambda row: _finite(row.certificate.p_a_lower if row.certificate else None, 0.0)
    ),
    "p_b_upper": _Tensor("FP64", "certificate", lambda row: row.certificate.p_b_upper if row.certificate else 1.0),
    "draws": _Tensor("INT64", None, lambda row: row.draws),
    "granted_draws": _Tensor("INT64", None, lambda row: row.granted_draws or 0),
    "ood_score": _Tensor("FP64", "ood", lambda row: _finite(row.ood.score if row.ood else None, _LARGEST)),
    "ood_p_value": _Tensor("FP64", "ood", lambda row: row.ood.p_value if row.ood else 0.0),
    "ood_in_distribution": _Tensor("BOOL", "ood", lambda row: row.ood is not None and row.ood.in_distribution),
    "ood_verdict": _Tensor("BYTES", "ood", _verdict),
    "ood_certified_lower": _Tensor("FP64", "ood", lambda row: _certified(row, "score_lower", -_LARGEST)),
    "ood_certified_upper": _Tensor("FP64", "ood", lambda row: _certified(row, "score_upper", _LARGEST)),
    "ood_certified_radius": _Tensor("FP64", "ood", lambda row: _certified(row, "radius", 0.0)),
    "ood_robust_alarm": _Tensor("BOOL", "ood", _alarm),
    "mixture_label": _Tensor("INT64", "mixture", lambda row: row.mixture.class_index if row.mixture else -1),
    "mixture_radius": _Tensor("FP64", "mixture", lambda row: row.mixture.radius if row.mixture else 0.0),
    "mixture_probabilities": _Tensor("FP32", "mixture", _mixture_probabilities, per_class=True),
    "joint_label": _Tensor("INT64", "joint", lambda row: _joint(row, "class_index", -1)),
    "joint_verdict": _Tensor("BYTES", "joint", lambda row: str(_joint(row, "verdict", "undetermined")).encode()),
    "joint_p_lower": _Tensor("FP64", "joint", lambda row: _joint(row, "p_lower", 0.0)),
    "joint_radius": _Tensor("FP64", "joint", lambda row: _joint(row, "radius", 0.0)),
    "confidence_label": _Tensor("INT64", "confidence", lambda row: _confidence(row, "class_index", -1)),
    "confidence_lower": _Tensor("FP64", "confidence", lambda row: _confidence(row, "lower", 0.0)),
    "confidence_lower_at_input": _Tensor("FP64", "confidence", lambda row: _confidence(row, "lower_at_input", 0.0)),
    "confidence_radius": _Tensor("FP64", "confidence", lambda row: _confidence(row, "radius", 0.0)),
    "receipt": _Tensor("BYTES", None, lambda row: (row.receipt or "").encode()),
}
ALARM = "ood_robust_alarm"
"""Offered only where the bundle declares the alarm."""
RECEIPT = "receipt"
"""Answered only where it is asked for: by name, or by the parameter of that name."""


def offered(manifest: Manifest) -> list[str]:
    """The tensors that a model can answer with, in the order of the contract."""
    ood, joint = manifest.ood, manifest.claims.joint
    has: dict[str, object] = {
        "ood": ood,
        "mixture": manifest.mixture,
        "joint": (joint and joint.alpha) or None,
        "confidence": manifest.claims.confidence,
        ALARM: ood.alarm if ood else None,
    }
    absent = frozenset([part for part, spec in has.items() if spec is None])
    return list(_offered(absent, manifest.base_output))


@lru_cache(maxsize=64)
def _offered(absent: frozenset[str], base_output: str) -> tuple[str, ...]:
    """Found once for models alike, for every request asks."""
    other = {"probabilities": "scores", "scores": "probabilities"}[base_output]
    return tuple(name for name, tensor in TENSORS.items() if absent.isdisjoint((tensor.part, name)) and name != other)


def default(manifest: Manifest) -> str:
    """The one tensor that clients get who ask for none: the base network's numbers, called what they are."""
    return manifest.base_output


def shape(name: str, manifest: Manifest) -> list[int]:
    """The shape of a tensor in metadata; -1 is the number of rows."""
    return [-1, len(manifest.labels)] if TENSORS[name].per_class else [-1]


def check(wanted: Sequence[WantedOutput], manifest: Manifest) -> None:
    """Refuse an output that does not exist, comes twice, or has no classes to choose the best of."""
    known = offered(manifest)
    for index, each in enumerate(wanted):
        if each.name not in known:
            raise InvalidInput(f"unknown output {shown(each.name)}; this model has {', '.join(known)}")
        if any(each.name == other.name for other in wanted[:index]):
            raise InvalidInput(f"output {each.name} is asked for twice; ask once")
        if each.classes and not TENSORS[each.name].per_class:
            raise InvalidInput(f"output {each.name} has no classes: 'classification' is for probabilities")


def parts(wanted: Sequence[WantedOutput]) -> tuple[str, ...]:
    """The parts of the answer that these outputs read."""
    return tuple(dict.fromkeys(part for each in wanted if (part := TENSORS[each.name].part)))


def needs_certificate(wanted: Sequence[WantedOutput]) -> bool:
    """Whether one of these outputs exists only where `certify` is on."""
    return not {"certificate", "mixture", "joint", "confidence"}.isdisjoint(parts(wanted))


def encode(wanted: Sequence[WantedOutput], answer: Answer) -> list[NamedTensor]:
    """The tensors asked for, in that order."""
    return [_tensor(each, answer) for each in wanted]


def _tensor(wanted: WantedOutput, answer: Answer) -> NamedTensor:
    tensor = TENSORS[wanted.name]
    rows = [tensor.read(row) for row in answer.predictions]
    if tensor.datatype == datatypes.BYTES:
        return NamedTensor(name=wanted.name, datatype=datatypes.BYTES, array=np.array(rows, dtype=object))
    array = np.array(rows, dtype=datatypes.NUMPY[tensor.datatype])
    if wanted.classes:
        return NamedTensor(
            name=wanted.name, datatype=datatypes.BYTES, array=_best(array, answer.labels, wanted.classes)
        )
    return NamedTensor(name=wanted.name, datatype=tensor.datatype, array=array)


def _best(array: NDArray[np.generic], labels: Sequence[str], count: int) -> NDArray[np.generic]:
    """The best classes of each row as `value:index:label`, which the protocol's example clients print."""
    best = np.argsort(-array.astype(np.float64), axis=1, kind="stable")[:, : min(count, len(labels))]
    text = [[f"{row[i]:f}:{i}:{labels[i]}".encode() for i in order] for row, order in zip(array, best, strict=True)]
    return np.array(text, dtype=object)
