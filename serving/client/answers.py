"""What comes back: predictions that say what they claim, on a terminal and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

from serving.client.receipts import verify

if TYPE_CHECKING:
    from certify.receipts.recheck import Finding

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class CertificateRead:
    """Within `radius` of the input the smoothed classifier gives `label`; see the guarantees for what that means.

    Abstention is no label and radius 0. `status` speaks of the target: certified, refuted or undecided. `two_sided` says
    that the label was compared with the best of the others instead of with one half.
    """

    status: str
    label: str | None
    radius: float
    norm: str | None
    sigma: float | None
    p_a_lower: float | None
    p_b_upper: float
    procedure: str
    target_radius: float | None = None
    radius_tolerance: float | None = None
    reaches_others: bool = False
    two_sided: bool = False

    def __str__(self) -> str:
        within = f", {self.label!r} within {down(self.radius)}" if self.label is not None else ""
        return self.status + within + (" (against the best of the other labels)" if self.two_sided else "")


@dataclass(frozen=True, slots=True)
class Score:
    """How foreign the input looks: larger is farther out. `certified` is the verdict that holds around it, `robust_alarm`
    whether an alarm is raised that stays rare under attack, where the bundle has one.
    """

    score: float | None
    p_value: float
    in_distribution: bool
    threshold: float
    certified: Mapping[str, Any] | None = None
    robust_alarm: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        side = "in distribution" if self.in_distribution else "out of distribution"
        return f"{side} (p-value {self.p_value:.3g})"


@dataclass(frozen=True, slots=True)
class MixtureRead:
    """The mixture of both networks keeps `label` within `radius`; its probabilities are estimates."""

    label: str
    radius: float
    robust_weight: float
    probabilities: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.label!r}" + (f" within {down(self.radius)}" if self.radius > 0 else ", not certified")


@dataclass(frozen=True, slots=True)
class JointRead:
    """Within `radius` of the input most noisy copies have class `label` and a score not above the threshold, or are out.

    `verdict` is in_distribution with a label, out_of_distribution without, undetermined where nothing is claimed.
    """

    verdict: str
    label: str | None
    p_lower: float | None
    radius: float
    norm: str | None
    threshold: float
    reaches_others: bool = False

    def __str__(self) -> str:
        said = self.verdict.replace("_", " ") + (f" as {self.label!r}" if self.label is not None else "")
        return said + (f" within {down(self.radius)}" if self.radius > 0 else "")


@dataclass(frozen=True, slots=True)
class ConfidenceRead:
    """Within `radius` of the input the network gives `label`, the certificate's, at least `lower` under noise, on average;
    at the input itself `lower_at_input`. Not the probability of being right. Abstention is no label and no numbers.
    """

    label: str | None
    lower: float | None
    lower_at_input: float | None
    radius: float
    norm: str | None
    reaches_others: bool = False

    def __str__(self) -> str:
        if self.label is None or self.lower is None or self.lower_at_input is None:
            return "nothing is claimed"
        return (
            f"at least {down(self.lower)} in {self.label!r} on average under noise, within {down(self.radius)}"
            f" ({down(self.lower_at_input)} at the input)"
        )


@dataclass(frozen=True, slots=True)
class Predicted:
    """The answer to one input. `label` is the base network's, of which nothing is claimed; `document` is all of it."""

    label: str
    class_index: int
    probabilities: tuple[float, ...] | None
    certificate: CertificateRead | None
    ood: Score | None
    mixture: MixtureRead | None
    alpha: float
    draws: int
    lost_draws: int
    model: Mapping[str, str]
    receipt: Mapping[str, Any] | None = None
    joint: JointRead | None = None
    confidence: ConfidenceRead | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(document: Mapping[str, Any]) -> Predicted:
        """The prediction that a document holds. Raises `KeyError` or `TypeError` where it holds none."""
        if not isinstance(document, Mapping):
            raise TypeError("expected an object")
        known = {each.name: document.get(each.name) for each in fields(Predicted)}
        parts: dict[str, type[Any]] = {"certificate": CertificateRead, "ood": Score, "mixture": MixtureRead}
        parts |= {"joint": JointRead, "confidence": ConfidenceRead}
        known |= {name: _part(kind, document.get(name)) for name, kind in parts.items()}
        numbers = document.get("probabilities")
        known |= {"probabilities": None if numbers is None else tuple(numbers), "document": document}
        known["label"], known["draws"] = document["label"], int(document["draws"])
        return Predicted(**known)  # type: ignore[arg-type]

    def verify(self, key: str | bytes) -> list[Finding]:
        """What `certserve verify` finds of the receipt, which has to be asked for. Raises as `verify`."""
        if self.receipt is None:
            raise ValueError("this answer has no receipt; ask with receipt=True")
        return verify(self.receipt, key)

    def __repr__(self) -> str:
        said = [f"{name} {part}" for name, part in self._parts() if part is not None]
        return f"<Predicted {self.label!r}: {'; '.join([*said, f'{self.draws} draws'])}>"

    def _parts(self) -> list[tuple[str, object]]:
        parts = self.certificate, self.ood, self.mixture, self.joint, self.confidence
        return list(zip(("certificate", "score", "mixture", "joint label", "confidence"), parts, strict=True))

    def _repr_html_(self) -> str:
        """For a notebook."""
        rows = [("label", self.label), *((name, str(part)) for name, part in self._parts() if part is not None)]
        rows += [("draws", f"{self.draws}, alpha {self.alpha:g}"), ("model", "/".join(self._made_by()))]
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in rows
        )
        return f"<table>{cells}</table>"

    def _made_by(self) -> tuple[str, str]:
        return str(self.model.get("name", "")), str(self.model.get("version", ""))


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """Something said of one row before its answer. `kind` is "base" at once, "certificate" as bounds tighten, "final" last.

    Each is true by itself. `best_radius` is the largest radius proven so far, which stays true where a later one is smaller.
    """

    kind: str
    row: int
    prediction: Predicted
    best_radius: float

    def __repr__(self) -> str:
        return f"<LiveEvent {self.kind}: {self.prediction!r}, best radius {down(self.best_radius)}>"


def _part(kind: type[_Part], document: Mapping[str, Any] | None) -> _Part | None:
    if document is None:
        return None
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    found = {name: value for name, value in document.items() if name in known}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})


def down(number: float) -> str:
    """Four digits, never rounded up: it is a claim."""
    if not number:
        return "0"
    unit = 10.0 ** (math.floor(math.log10(abs(number))) - 3)
    return f"{math.floor(number / unit) * unit:.4g}"
