"""The adaptive-smoothing mixture of an accurate and a robust network, and the radius that survives the mixing.

`f = (1 - w) g + w h`, g the accurate network's probabilities, h the robust network's vote shares, w the robust weight
(Bai et al. 2023). It keeps a label y for every g where `h_y - h_i > (1 - w) / w` for
all i other than y, or where `h_y > 1 / (2 w)`; in which ball that holds is the law's to say.

**mixture**: the mixture with true vote shares and weight at least `robust_weight` keeps its label within `radius`,
whatever the accurate network says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.claims.certificate import Certificate
from certify.claims.counts import Counts
from certify.smoothing.ball import Ball, larger
from certify.smoothing.margins import needed_alone, needed_margin


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The mixture of one answer. Its label is the certificate's where `radius > 0`, else its argmax, uncertified.

    `probabilities` use observed shares and are estimates; votes for "none" and lost draws leave them below one in sum.
    """

    class_index: int
    probabilities: tuple[float, ...]
    robust_weight: float
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRange:
    """The declared range of a weight w(x) that depends on the input, frozen in the bundle.

    `(1 - w) / w` falls in w, so what holds at the minimum holds wherever w(x) lies in the range (Bai et al. 2024 bound it
    by a sigmoid and an affine map). Never certify with w(x): at `x + d` it may be another.
    """

    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        if not 0.5 <= self.minimum <= self.maximum <= 1:
            raise ValueError(
                f"a robust weight must range within [0.5, 1], or nothing can be certified;"
                f" got [{self.minimum}, {self.maximum}]"
            )

    def refuse_outside(self, weight: float) -> None:
        """Raise `ValueError` for a weight outside of the range: every certificate rests on there being none."""
        if not self.minimum <= weight <= self.maximum:
            raise ValueError(
                f"the mixing network put out the weight {weight}, outside of its declared range"
                f" [{self.minimum}, {self.maximum}]; declare the true range, or clip the weight in the graph"
            )


def radius(certificate: Certificate, robust_weight: float) -> float:
    """The size of `ball`; 0 if nothing is proven."""
    kept = ball(certificate, robust_weight)
    return kept.size if kept else 0.0


def ball(certificate: Certificate, robust_weight: float) -> Ball | None:
    """The ball within which the mixture keeps the certificate's label, rounded down; None, or one of size 0, if nothing is
    proven.
    """
    if certificate.bound is None or robust_weight <= 0.5:
        return None
    law, complement, others = certificate.law, certificate.bound.complement, certificate.p_b_upper
    alone = law.radius(complement, needed_alone(robust_weight))
    if others >= complement:  # it says no more
        return alone
    return larger(alone, law.lead(complement, others, needed_margin(robust_weight)))


def mix(
    certificate: Certificate,
    counts: Counts,
    accurate: NDArray[np.floating],
    robust_weight: float,
    declared: WeightRange | None = None,
) -> Mixture:
    """The mixture of the accurate network's probabilities with the vote shares counted.

    `declared` is the range of a weight that depends on the input: `robust_weight` is then w(x), and what is certified, and
    reported, is the minimum. Raises `ValueError` if `accurate` does not lie in [0, 1], up to rounding, or w(x) in its
    range: that voids the argument, so it is no label.
    """
    if not (np.all(np.isfinite(accurate)) and np.all(accurate >= 0) and np.all(accurate <= 1 + 1e-6)):
        raise ValueError("the accurate network put out probabilities that are not finite numbers from 0 to 1")
    if declared:
        declared.refuse_outside(robust_weight)
    least = declared.minimum if declared else robust_weight
    shares = np.asarray(counts.votes, dtype=float) / max(counts.draws, 1)
    mixed = (1 - robust_weight) * np.minimum(accurate, 1.0).astype(float) + robust_weight * shares
    kept = ball(certificate, least)
    label = certificate.class_index if kept and not kept.empty else None
    return Mixture(
        class_index=int(np.argmax(mixed)) if label is None else label,
        probabilities=tuple(mixed.tolist()),
        robust_weight=least,
        radius=kept.size if kept else 0.0,
    )


def log_mixture(
    log_accurate: NDArray[np.floating], log_robust: NDArray[np.floating], robust_weight: float
) -> NDArray[np.float64]:
    """`log((1 - w) g + w h)` from log-probabilities [..., classes], in float64, without leaving the logarithms.

    The direct form rounds to the logarithm of 0 where both parts are small. `-inf`, a probability of 0, is a value here;
    NaN and what lies above 0 are refused.
    """
    parts = np.asarray(log_accurate, dtype=np.float64), np.asarray(log_robust, dtype=np.float64)
    if not all(np.all(part <= 1e-6) for part in parts):
        raise ValueError("expected logarithms of probabilities, at most 0 and not NaN; apply log-softmax to logits")
    with np.errstate(divide="ignore"):
        log_weights = np.log1p(-robust_weight), np.log(robust_weight)
    mixed: NDArray[np.float64] = np.logaddexp(log_weights[0] + parts[0], log_weights[1] + parts[1])
    return mixed
