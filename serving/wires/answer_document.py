"""What an answer says of each row, once for all wires that send it whole: tables of fields, in the order of the document.

KServe V1 and the friendly route send the document itself, the typed service the message that its fields make
(`serving.wires.typed.certserve_document`). The Open Inference Protocol has tensors instead, and a table of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from serving.messages import Answer, Options, Prediction

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a document: its name, and how it is read of a part of an answer; None is nothing.

    `fields` are those of an entry that is a document itself. `message` is its name in the typed service's message, where
    that is another. An `extra` entry is left out where it is nothing.
    """

    name: str
    read: Callable[[Any, Answer], object]
    fields: tuple[Field, ...] = ()
    message: str = ""
    extra: bool = False


def _own(name: str, *fields: Field, message: str = "", extra: bool = False, of: str = "") -> Field:
    """What the part says by the same name, or by that of `of`."""
    attribute = of or name
    return Field(name, lambda part, _: getattr(part, attribute), fields, message, extra)


def _parameter(name: str) -> Field:
    """A parameter of the law of a certificate."""
    return Field(name, lambda part, _: part.law.parameters.get(name))


def _finite(name: str) -> Field:
    """A number of the part that may be infinite, or absent: JSON has no such number."""

    def read(part: Any, _: Answer) -> float | None:
        value = getattr(part, name)
        return value if value is not None and math.isfinite(value) else None

    return Field(name, read)


def _label(part: Any, answer: Answer) -> str | None:
    return None if part.class_index is None else answer.labels[part.class_index]


def _reaches_others(part: Any, answer: Answer) -> bool:
    return answer.reaches_others(part.radius)


def _numbers(part: Any, answer: Answer, meant: str) -> list[float] | None:
    """The base network's numbers under the name of what they are: those that do not sum to one are no probabilities."""
    return part.probabilities.tolist() if answer.base_output == meant else None


_LABEL, _REACHES = Field("label", _label), Field("reaches_others", _reaches_others)
ALPHA_SPLIT = tuple(
    _own(name, of=f"of_{name}", message=f"{name}_share") for name in ("class", "upper", "threshold", "interval")
)
CERTIFICATE = (
    _own("status"),
    _LABEL,
    _own("radius"),
    _REACHES,
    *map(_parameter, ("norm", "sigma")),
    *map(_own, ("p_a_lower", "p_b_upper", "procedure", "target_radius", "radius_tolerance")),
)
CERTIFIED_SCORE = (_own("verdict"), _finite("score_lower"), _finite("score_upper"), _own("radius"), _REACHES)
OOD = (
    _finite("score"),
    _own("p_value"),
    _own("in_distribution"),
    _own("threshold"),
    _own("certified", *CERTIFIED_SCORE),
)
MIXTURE = (
    _LABEL,
    Field("probabilities", lambda part, _: list(part.probabilities)),
    _own("robust_weight"),
    _own("radius"),
    _REACHES,
)
INPUT = (_own("snapped"), _own("snap_distance"))
MODEL = tuple(map(_own, ("name", "version", "digest", "runtime")))
PREDICTION = (
    _LABEL,
    _own("class_index"),
    Field("probabilities", lambda part, answer: _numbers(part, answer, "probabilities")),
    Field("scores", lambda part, answer: _numbers(part, answer, "scores"), extra=True),
    _own("certificate", *CERTIFICATE),
    _own("ood", *OOD),
    _own("mixture", *MIXTURE),
    _own("alpha"),
    _own("alpha_split", *ALPHA_SPLIT),
    _own("draws"),
    _own("lost_draws"),
    Field("model", lambda _, answer: answer.model, MODEL),
    _own("input", *INPUT, extra=True),
    _own("granted_draws", extra=True),
    _own("receipt", extra=True),
)
"""A row. Its receipt is text here, for what is signed is a text."""


def rows(answer: Answer, options: Options) -> list[Document]:
    """The document of each row; `options` are those of the request, for the probabilities may have been left out."""
    wanted = options.outputs is None or "probabilities" in options.outputs
    return [_row(each, answer, wanted) for each in answer.predictions]


def _row(row: Prediction, answer: Answer, probabilities: bool) -> Document:
    found = _document(PREDICTION, row, answer)
    if not probabilities:
        found["probabilities"] = None
        found.pop("scores", None)
    return found


def _document(fields: tuple[Field, ...], part: object, answer: Answer) -> Document:
    found: Document = {}
    for each in fields:
        value = each.read(part, answer)
        if value is not None and each.fields:
            value = _document(each.fields, value, answer)
        if value is not None or not each.extra:
            found[each.name] = value
    return found
