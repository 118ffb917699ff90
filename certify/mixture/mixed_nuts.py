"""Library offering: MixedNUTS, a robust network made confident where it is right, without training (Bai et al. 2024).

    h^M(x) = s |u|^p sign(u),   u = GELU(LN_k(h(x)) + c)        f = log[(1 - w) onehot(argmax g) + w softmax(h^M)]

h are the robust network's logits; LN_k centres and scales them by mean and unbiased variance of the k largest. The fit needs
logits alone, and it is the published one: let as few clean inputs as possible that h gets wrong keep the margin
`(1 - w) / w`, under the condition that a share of the attacked inputs that h gets right keeps it.

Nothing here is a certificate. Base logits may be transformed before they are averaged (soft votes), or hard votes mixed with
the fitted w; either way the radius is `certify.mixture.mix`'s, from a bound that knows nothing of this map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, softmax

FloatArray = NDArray[np.float64]

_TOP = 250
_LIMIT = 1e15  # logits of infinity become comparable
_CAP = 1 - 1e-9  # w stays above one half


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedNuts:
    """The map's scale s > 0, power p > 0 and shift c.

    GELU falls below -0.752: logits keep their order, and the argmax its place, only where the top normalised logit
    exceeds -c. Below, ranks invert.
    """

    scale: float
    power: float
    shift: float

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf and 0 < self.power < math.inf and math.isfinite(self.shift)):
            raise ValueError(f"scale and power must be positive and the shift finite; got {self}")

    def logits(self, robust: NDArray[np.floating]) -> FloatArray:
        """The robust network's logits [..., classes] as they enter the mixture, in float64."""
        return self._of_normalised(normalised(robust))

    def _of_normalised(self, rows: FloatArray) -> FloatArray:
        shifted = rows + self.shift
        unit = shifted * ndtr(shifted)
        found: FloatArray = self.scale * np.abs(unit) ** self.power * np.sign(unit)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted map, the robust weight that belongs to it, and what was measured on the inputs of the fit.

    `confidently_wrong` is the share of the clean inputs that h gets wrong and whose margin reaches `(1 - w) / w`;
    `argmax_changed` counts the inputs, clean and attacked, at which the map does not keep h's argmax.
    """

    transform: MixedNuts
    robust_weight: float
    confidently_wrong: float
    argmax_changed: int


def normalised(robust: NDArray[np.floating]) -> FloatArray:
    """LN_k of logits [..., classes]: less the mean, over the standard deviation, of the k = min(250, classes) largest."""
    if robust.shape[-1] < 2 or np.isnan(robust).any():
        raise ValueError(f"expected logits of two classes or more without NaN; got shape {robust.shape}")
    rows = np.clip(robust.astype(np.float64), -_LIMIT, _LIMIT)
    top = np.sort(rows, axis=-1)[..., -_TOP:]
    centred = rows - top.mean(axis=-1, keepdims=True)
    found: FloatArray = centred / np.sqrt(top.var(axis=-1, keepdims=True, ddof=1) + 1e-8)
    return found


def fit(
    clean: NDArray[np.floating],
    attacked: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    scales: Sequence[float],
    powers: Sequence[float],
    shifts: Sequence[float],
    share: float,
) -> Fit:
    """The best map of the grid: logits of h on the same inputs, clean and attacked [n, classes], their labels [n].

    `share` of the attacked inputs that h gets right are to keep their label in the mixture, whatever the accurate network
    says (beta; published: .985). A margin is that of h's own argmax, so it is negative where the map moves it. Ties of the
    objective go to the smaller weight, which leaves more to the accurate network.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of attacked inputs to keep must lie strictly between 0 and 1; got {share}")
    wrong, right = clean.argmax(axis=1) != labels, attacked.argmax(axis=1) == labels
    if not right.any():
        raise ValueError("the robust network gets no attacked input right; nothing can be fitted")
    rows = normalised(clean), normalised(attacked)
    grid = (MixedNuts(scale=s, power=p, shift=c) for s, p, c in itertools.product(scales, powers, shifts))
    fits = (_fitted(each, *rows, wrong, right, share) for each in grid)
    found = [each for each in fits if each is not None]
    if not found:
        raise ValueError("no map of the grid keeps the argmax of that share of attacked inputs; take a larger shift")
    return min(found, key=lambda each: (each.confidently_wrong, each.robust_weight))


def _fitted(
    transform: MixedNuts,
    clean: FloatArray,
    attacked: FloatArray,
    wrong: NDArray[np.bool_],
    right: NDArray[np.bool_],
    share: float,
) -> Fit | None:
    """What this map gives, with the smallest weight that keeps the share; None if no weight does."""
    on_clean, on_attacked = (_margins(transform, rows) for rows in (clean, attacked))
    kept = np.sort(on_attacked[right])
    cutoff = min(float(kept[math.floor((1 - share) * len(kept))]), _CAP)
    if cutoff < 0:
        return None
    return Fit(
        transform=transform,
        robust_weight=min(1.0, math.nextafter(1 / (1 + cutoff), 1.0)),
        confidently_wrong=float(np.mean(on_clean[wrong] >= cutoff)) if wrong.any() else 0.0,
        argmax_changed=int(np.sum(on_clean < 0) + np.sum(on_attacked < 0)),
    )


def _margins(transform: MixedNuts, rows: FloatArray) -> FloatArray:
    """How far the mapped probability of h's argmax lies above every other one; negative where the map moves the argmax."""
    probabilities = softmax(transform._of_normalised(rows), axis=1)
    places = np.arange(len(rows)), rows.argmax(axis=1)
    own: FloatArray = probabilities[places].copy()
    probabilities[places] = -np.inf
    others: FloatArray = probabilities.max(axis=1)
    return own - others
