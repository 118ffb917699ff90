"""The adaptive-smoothing mixture of an accurate and a robust network, and the radius that survives the mixing.

`f = (1 - w) g + w h`, g the accurate network's probabilities, h the robust network's vote shares, w the robust weight
(Bai et al. 2023). If `h_y(x + d) > 1 / (2 w)` then y wins the mixture whatever g says, as `h_y - h_i > (1 - w) / w`
follows from `h_y + h_i <= 1`. And `h_y(x + d) >= Phi(Phi^-1(p_A) - |d| / sigma)`: hence the one-sided radius
`sigma (Phi^-1(p_A) - Phi^-1(1 / (2 w)))`, tight for a half-space and an adversarial g.

**mixture**: the mixture with true vote shares and weight at least `robust_weight` keeps its label within `radius`,
whatever the accurate network says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify import bounds
from certify.certificate import Certificate, Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The mixture of one answer. Its label is the certificate's where `radius > 0`, else its argmax, uncertified.

    `probabilities` use observed shares and are estimates; votes for "none" and lost draws leave them below one in sum.
    """

    class_index: int
    probabilities: tuple[float, ...]
    robust_weight: float
    radius: float


def radius(certificate: Certificate, robust_weight: float) -> float:
    """The radius within which the mixture keeps the certificate's label, rounded down; 0 if nothing is proven."""
    if certificate.bound is None or robust_weight <= 0.5:
        return 0.0
    own = bounds.quantile_of_complement_below(certificate.bound.complement)
    loss = bounds.quantile_above(math.nextafter(1 / (2 * robust_weight), 1.0)) if robust_weight < 1 else 0.0
    return max(0.0, math.nextafter(certificate.sigma * math.nextafter(own - loss, -math.inf), 0.0))


def mix(certificate: Certificate, counts: Counts, accurate: NDArray[np.floating], robust_weight: float) -> Mixture:
    """The mixture of the accurate network's probabilities with the vote shares counted.

    Raises `ValueError` if `accurate` does not lie in [0, 1], up to rounding: that voids the argument, so it is no label.
    """
    if not (np.all(np.isfinite(accurate)) and np.all(accurate >= 0) and np.all(accurate <= 1 + 1e-6)):
        raise ValueError("the accurate network put out probabilities that are not finite numbers from 0 to 1")
    shares = np.asarray(counts.votes, dtype=float) / max(counts.draws, 1)
    mixed = (1 - robust_weight) * np.minimum(accurate, 1.0).astype(float) + robust_weight * shares
    proven = radius(certificate, robust_weight)
    label = certificate.class_index if proven > 0 else None
    return Mixture(
        class_index=int(np.argmax(mixed)) if label is None else label,
        probabilities=tuple(mixed.tolist()),
        robust_weight=robust_weight,
        radius=proven,
    )
