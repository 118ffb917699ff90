"""What an answer says of each row, once for all wires that send it whole: tables of fields, in the order of the document.

KServe V1 and the friendly route send the document itself, the typed service the message that its fields make
(`serving.wires.typed.certserve_document`). The Open Inference Protocol has tensors instead, and a table of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from serving.messages import Answer, Options, Prediction

Document = dict[str, Any]

MANY, FEW = 100, 10
"""Of more labels than the first, answers say the numbers of the second alone, the largest, unless more are asked for."""


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
    """The base network's numbers under the name of what they are: those that do not sum to one are no probabilities.

    Nothing where the largest are said instead.
    """
    return part.probabilities.tolist() if answer.base_output == meant and not answer.top else None


@dataclass(frozen=True, slots=True)
class _Top:
    """The largest numbers of a row, falling, and their labels."""

    labels: list[str]
    numbers: list[float]


def _top(part: Any, answer: Answer) -> _Top | None:
    if not answer.top:
        return None
    numbers = np.asarray(part.probabilities)
    order = np.argsort(-numbers, kind="stable")[: answer.top]
    return _Top([answer.labels[place] for place in order], numbers[order].tolist())


def _share_of(name: str) -> Field:
    """A share of alpha of a claim that few bundles make."""
    return Field(name, lambda part, _: getattr(part, f"of_{name}") or None, message=f"{name}_share", extra=True)


_LABEL, _REACHES = Field("label", _label), Field("reaches_others", _reaches_others)
ALPHA_SPLIT = (
    *(_own(name, of=f"of_{name}", message=f"{name}_share") for name in ("class", "upper", "threshold", "interval")),
    *(_share_of(name) for name in ("joint", "confidence")),
)
CERTIFICATE = (
    _own("status"),
    _LABEL,
    _own("radius"),
    _REACHES,
    *map(_parameter, ("norm", "sigma")),
    *map(_own, ("p_a_lower", "p_b_upper", "procedure", "target_radius", "radius_tolerance")),
    Field("two_sided", lambda part, _: part.two_sided or None, extra=True),
)
CERTIFIED_SCORE = (_own("verdict"), _finite("score_lower"), _finite("score_upper"), _own("radius"), _REACHES)
ALARM = (_own("raised"), _own("radius"), _own("false_alarms"))
OOD = (
    _finite("score"),
    _own("p_value"),
    _own("in_distribution"),
    _own("threshold"),
    _own("certified", *CERTIFIED_SCORE),
    _own("robust_alarm", *ALARM, extra=True),
)
TOP = (_own("labels"), _own("numbers"))
MIXTURE = (
    _LABEL,
    Field("probabilities", lambda part, answer: None if answer.top else list(part.probabilities)),
    Field("top", _top, TOP, extra=True),
    _own("robust_weight"),
    _own("radius"),
    _REACHES,
)
JOINT = (
    _own("verdict"),
    _LABEL,
    _own("p_lower"),
    _own("radius"),
    _REACHES,
    _parameter("norm"),
    _own("threshold"),
)
CONFIDENCE = (_LABEL, _own("lower"), _own("lower_at_input"), _own("radius"), _REACHES, _parameter("norm"))
INPUT = (
    _own("snapped"),
    _own("snap_distance"),
    Field("treated", lambda part, _: list(part.treated) or None, extra=True),
)
MODEL = tuple(map(_own, ("name", "version", "digest", "runtime")))
PREDICTION = (
    _LABEL,
    _own("class_index"),
    Field("probabilities", lambda part, answer: _numbers(part, answer, "probabilities")),
    Field("scores", lambda part, answer: _numbers(part, answer, "scores"), extra=True),
    Field("top", _top, TOP, extra=True),
    _own("certificate", *CERTIFICATE),
    _own("ood", *OOD),
    _own("mixture", *MIXTURE),
    _own("joint", *JOINT, extra=True),
    _own("confidence", *CONFIDENCE, extra=True),
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
    top = _largest(options, len(answer.labels))
    said = replace(answer, top=top) if top != answer.top else answer
    return [_row(each, said, wanted) for each in answer.predictions]


def _largest(options: Options, labels: int) -> int:
    """How many numbers to say: as asked, else all, but a few where there are many; 0 for all."""
    if options.top_k is None:
        return FEW if labels > MANY else 0
    return 0 if options.top_k >= labels else options.top_k


def _row(row: Prediction, answer: Answer, probabilities: bool) -> Document:
    found = _document(PREDICTION, row, answer)
    if not probabilities:
        found["probabilities"] = None
        found.pop("scores", None)
        found.pop("top", None)
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
