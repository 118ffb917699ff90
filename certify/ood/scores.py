"""Scores of how far out an input lies, behind one interface, and the one registry of them by name.

Every score is a pure function of the features entering the last layer and of its logits, larger the farther out, and
+inf for what is not a number. None is a guarantee, and none is always the best: guarantees about any of them come from
`certify.ood.conformal` and `certify.ood.verdict`. What has to be fitted is fitted from
`certify.ood.mahalanobis.Moments`, which merge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from certify.ood.mahalanobis import KINDS, Floats, Mahalanobis, Moments, fit, unit

NEIGHBOURS = 50
GEN_POWER = 0.1
GEN_CLASSES = 100
_ROWS = 1024  # of queries at once, so that distances to a large bank fit into memory


class Scorer(Protocol):
    """One out-of-distribution score."""

    def scores(self, features: NDArray[np.floating], logits: NDArray[np.floating]) -> Floats:
        """Features [n, d] and logits [n, C] to float64 [n], larger = farther out, never NaN; it changes nothing."""
        ...


def energy(logits: Floats) -> Floats:
    """`-logsumexp(l)` (Liu et al. 2020)."""
    scores: Floats = -logsumexp(logits, axis=1)
    return scores


def max_softmax(logits: Floats) -> Floats:
    """`-max softmax(l)` (Hendrycks and Gimpel 2017)."""
    scores: Floats = -softmax(logits, axis=1).max(axis=1)
    return scores


def max_logit(logits: Floats) -> Floats:
    """`-max l` (Hendrycks et al. 2022)."""
    scores: Floats = -logits.max(axis=1)
    return scores


def generalized_entropy(logits: Floats) -> Floats:
    """`sum p^g (1 - p)^g` over the largest 100 probabilities, g = 0.1 (GEN, Liu et al. 2023)."""
    largest: Floats = np.sort(softmax(logits, axis=1), axis=1)[:, -GEN_CLASSES:]
    entropy: Floats = np.sum((largest * (1 - largest)) ** GEN_POWER, axis=1)
    return entropy


@dataclass(frozen=True, slots=True)
class OfLogits:
    """A score of the logits alone. Where the largest logit is infinite there is no order among classes: +inf."""

    rule: Callable[[Floats], Floats]

    def scores(self, features: NDArray[np.floating], logits: NDArray[np.floating]) -> Floats:
        """See `Scorer`."""
        rows = logits.astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(rows.max(axis=1)), _told(self.rule(rows)), np.inf)


@dataclass(frozen=True, eq=False, slots=True)
class Distance:
    """A Mahalanobis distance of the features: kind `md`, `rmd` or `marginal`, on plain or unit features as fitted."""

    fitted: Mahalanobis
    kind: str

    def scores(self, features: NDArray[np.floating], logits: NDArray[np.floating]) -> Floats:
        """See `Scorer`."""
        return self.fitted.scores(features, self.kind)


@dataclass(frozen=True, eq=False, slots=True)
class NearestNeighbours:
    """The distance of unit features to their 50-th nearest among those in a bank (Sun et al. 2022); banks concatenate."""

    bank: Floats

    @staticmethod
    def of(features: NDArray[np.floating]) -> NearestNeighbours:
        """The bank of these features [N, d], of which at least 50 are needed."""
        if len(features) < NEIGHBOURS:
            raise ValueError(f"a bank of {len(features)} features has no {NEIGHBOURS}-th nearest; add more")
        return NearestNeighbours(unit(features))

    def scores(self, features: NDArray[np.floating], logits: NDArray[np.floating]) -> Floats:
        """See `Scorer`."""
        with np.errstate(invalid="ignore", over="ignore"):
            rows = unit(features)
            parts = [self._distances(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)]
        return _told(np.concatenate([np.empty(0), *parts]))

    def _distances(self, rows: Floats) -> Floats:
        squares = np.sum(rows**2, axis=1)[:, None] + np.sum(self.bank**2, axis=1) - 2 * rows @ self.bank.T
        nearest: Floats = np.partition(squares, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
        return np.sqrt(np.maximum(nearest, 0.0))


@dataclass(frozen=True, eq=False, slots=True)
class VirtualLogit:
    """ViM (Wang et al. 2022): `scale |(z - origin) @ residual| - logsumexp(l)`, residual [d, d - D] orthonormal."""

    origin: Floats
    residual: Floats
    scale: float

    @staticmethod
    def of(
        moments: Moments, weight: NDArray[np.floating], bias: NDArray[np.floating], some: NDArray[np.floating]
    ) -> VirtualLogit:
        """From the moments of plain features, the last layer `z @ weight.T + bias`, and `some` features [n, d].

        The residual space is orthogonal to the top half of the directions of `E (z - o)(z - o)^T`, o = -pinv(weight) bias.
        The scale makes virtual and largest logits alike on average over `some`.
        """
        origin = -np.linalg.pinv(weight.astype(np.float64)) @ bias.astype(np.float64)
        size = len(origin)
        _, vectors = np.linalg.eigh(moments.second_moment(origin))  # eigenvalues rise
        residual = vectors[:, : size - size // 2]
        rows = some.astype(np.float64)
        lengths = np.linalg.norm((rows - origin) @ residual, axis=1)
        largest = (rows @ weight.astype(np.float64).T + bias).max(axis=1)
        return VirtualLogit(origin, residual, float(largest.mean() / lengths.mean()))

    def scores(self, features: NDArray[np.floating], logits: NDArray[np.floating]) -> Floats:
        """See `Scorer`."""
        with np.errstate(invalid="ignore", over="ignore"):
            lengths = np.linalg.norm((features.astype(np.float64) - self.origin) @ self.residual, axis=1)
            return _told(self.scale * lengths + OfLogits(energy).scores(features, logits))


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitting:
    """What a score may be fitted from: moments of the features and of the unit features, `some` features [n, d], and the
    `weight` [C, d] and `bias` [C] of the last layer where they are known.
    """

    plain: Moments
    units: Moments
    some: NDArray[np.floating]
    weight: NDArray[np.floating] | None = None
    bias: NDArray[np.floating] | None = None

    @cached_property
    def tied(self) -> Mapping[bool, Mahalanobis]:
        """The fit of plain features, and under True that of unit features."""
        return {False: fit(self.plain, normalised=False), True: fit(self.units, normalised=True)}


FitScore = Callable[[Fitting], Scorer | None]
"""The fitted score; None where something that it needs is not there."""


def _distance(kind: str, normalised: bool) -> FitScore:
    return lambda fitting: Distance(fitting.tied[normalised], kind)


def _of_logits(rule: Callable[[Floats], Floats]) -> FitScore:
    return lambda fitting: OfLogits(rule)


def _neighbours(fitting: Fitting) -> Scorer | None:
    return NearestNeighbours.of(fitting.some) if len(fitting.some) >= NEIGHBOURS else None


def _virtual_logit(fitting: Fitting) -> Scorer | None:
    if fitting.weight is None or fitting.bias is None:
        return None
    return VirtualLogit.of(fitting.plain, fitting.weight, fitting.bias, fitting.some)


SCORES: dict[str, FitScore] = {
    "energy": _of_logits(energy),
    "max softmax": _of_logits(max_softmax),
    "max logit": _of_logits(max_logit),
    "gen": _of_logits(generalized_entropy),
    "knn": _neighbours,
    "vim": _virtual_logit,
    **{kind + mark: _distance(kind, bool(mark)) for mark in ("", "++") for kind in KINDS},
}
"""Every score that a bundle may declare, by name; `++` is on unit features. Its head in a graph is in `export.build`."""


def fit_all(fitting: Fitting) -> Mapping[str, Scorer]:
    """Every score of the registry that can be fitted from this."""
    found = {name: fitted(fitting) for name, fitted in SCORES.items()}
    return {name: scorer for name, scorer in found.items() if scorer is not None}


def fitted_scorers(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    weight: NDArray[np.floating],
    bias: NDArray[np.floating],
) -> Mapping[str, Scorer]:
    """Every score by name, fitted on features [N, d] of labelled inputs; `weight` [C, d] and `bias` [C] of the last layer.

    `knn` keeps all N features.
    """
    classes = len(bias)
    plain, units = (Moments.empty(rows.mean(axis=0), classes).add(rows, labels) for rows in (features, unit(features)))
    return scorers_of(plain, units, features, weight, bias)


def scorers_of(
    plain: Moments,
    units: Moments,
    some: NDArray[np.floating],
    weight: NDArray[np.floating] | None = None,
    bias: NDArray[np.floating] | None = None,
) -> Mapping[str, Scorer]:
    """As `fitted_scorers`, from moments of the features and of the unit features, and `some` of the features [n, d].

    Without the last layer there is no `vim`, with less than 50 features no `knn`.
    """
    return fit_all(Fitting(plain=plain, units=units, some=some, weight=weight, bias=bias))


def _told(scores: Floats) -> Floats:
    return np.where(np.isnan(scores), np.inf, scores)
