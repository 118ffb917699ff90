"""Library offering: a distance detector that gains classes without a new fit; each such change voids its calibration.

Only a `Calibrated` detector has p-values, and it is made from scores that name the fit that gave them. So neither the
old calibration nor a threshold or drift counter derived from it can be used with a detector that has gained a class.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from certify.ood import conformal
from certify.ood.mahalanobis import KINDS, Moments, fit, unit
from certify.ood.scores import Distance


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Fitted:
    """A score fitted on these moments, of unit features if `normalised`; `kind` as in `certify.ood.mahalanobis`."""

    moments: Moments
    normalised: bool
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the score must be one of {', '.join(KINDS)}, got {self.kind!r}")

    @property
    def digest(self) -> str:
        """The SHA-256 of all that the score depends on: it changes with every class and every feature added."""
        text = hashlib.sha256(f"{self.kind}\0{self.normalised}\0{self.moments.sums.shape}".encode())
        for part in (self.moments.shift, self.moments.counts, self.moments.sums, self.moments.scatter):
            text.update(np.ascontiguousarray(part, dtype="<f8").tobytes())
        return "sha256:" + text.hexdigest()

    def scorer(self) -> Distance:
        """The score itself, larger = farther out; fitted anew at each call."""
        return Distance(fit(self.moments, normalised=self.normalised), self.kind)

    def with_class(self, features: NDArray[np.floating]) -> Fitted:
        """The detector with one more class of features [n, d]: exact, without the old features, and uncalibrated."""
        return replace(self, moments=self.moments.with_class(unit(features) if self.normalised else features))

    def calibrated(self, scores: NDArray[np.float64], digest: str) -> Calibrated:
        """With the scores [m] of held-out inputs of all classes, made by the detector of this `digest`, as served."""
        if digest != self.digest:
            raise ValueError(
                f"the calibration scores are of the detector {digest}, this one is {self.digest}: adding a class or data"
                " voids calibration, thresholds and drift counters; score held-out inputs of all classes again"
            )
        if scores.ndim != 1 or scores.size == 0 or np.isnan(scores).any():
            raise ValueError("expected one vector of calibration scores without NaN; score a NaN as +inf")
        return Calibrated(fitted=self, scores=np.sort(scores))


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Calibrated:
    """A fitted detector with its sorted calibration scores; made by `Fitted.calibrated`."""

    fitted: Fitted
    scores: NDArray[np.float64]

    def p_value(self, score: float) -> float:
        """See `certify.ood.conformal.p_value`, whose claim and assumption hold."""
        return conformal.p_value(self.scores, score)

    def with_class(self, features: NDArray[np.floating]) -> Fitted:
        """The detector with one more class. It has no p-values until it is calibrated again."""
        return self.fitted.with_class(features)
