"""Mahalanobis scores of features: one streaming, mergeable fit in float64, and the scores MD and RMD.

Class c has mean `mu_c`, and all classes share one covariance S (Lee et al. 2018):

    d_c(z) = (z - mu_c)^T S^-1 (z - mu_c)
    MD(z)  = min_c d_c(z)
    RMD(z) = min_c d_c(z) - d_0(z)      d_0: the same distance under one Gaussian of all data (Ren et al. 2021)

    marginal(z) = d_0(z)                (Kamoi and Kobayashi 2020)

all larger the farther out z lies. Either may act on `z / |z|` (Mueller and Hein 2025, "Mahalanobis++"). Nothing here is
a guarantee: the guarantees about a score come from `certify.conformal` and `certify.ood`, for any score whatever.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

Floats = NDArray[np.float64]

KINDS = ("md", "rmd", "marginal")

TINY = 1e-12
"""A feature vector shorter than this is not lengthened to one: zero stays zero instead of becoming NaN."""


def unit(features: NDArray[np.floating]) -> Floats:
    """Rows divided by their Euclidean length."""
    rows = features.astype(np.float64)
    lengths: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, TINY)


@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """What a fit needs of the data: counts, sums and one scatter of features less `shift`. Shards merge by `+`.

    The shift (a mean of some first batch, given to every worker) keeps the scatter from cancelling; it changes nothing
    else. Labels are 0 to C-1.
    """

    shift: Floats
    counts: Floats
    sums: Floats
    scatter: Floats

    @staticmethod
    def empty(shift: NDArray[np.floating], classes: int) -> Moments:
        """No data yet, for features as long as `shift`."""
        size = len(shift)
        return Moments(shift.astype(np.float64), np.zeros(classes), np.zeros((classes, size)), np.zeros((size, size)))

    def add(self, features: NDArray[np.floating], labels: NDArray[np.integer]) -> Moments:
        """These moments with a batch taken in: features [n, d], labels [n]."""
        centred = features.astype(np.float64) - self.shift
        if not np.isfinite(centred).all():
            raise ValueError("the features to fit are not all finite; check the network and its inputs")
        member = np.eye(len(self.counts))[labels]
        return Moments(
            self.shift,
            self.counts + member.sum(axis=0),
            self.sums + member.T @ centred,
            self.scatter + centred.T @ centred,
        )

    def with_class(self, features: NDArray[np.floating]) -> Moments:
        """These moments with one more class, the last, of features [n, d]: exactly those of a fit of all the data."""
        classes, size = self.sums.shape
        wider = Moments(self.shift, np.append(self.counts, 0.0), np.vstack([self.sums, np.zeros(size)]), self.scatter)
        return wider.add(features, np.full(len(features), classes))

    def second_moment(self, origin: Floats) -> Floats:
        """`E (z - origin)(z - origin)^T` over all data, [d, d]."""
        gap, total = origin - self.shift, self.sums.sum(axis=0)
        mixed = np.outer(total, gap)
        moment: Floats = (self.scatter - mixed - mixed.T) / self.counts.sum() + np.outer(gap, gap)
        return moment

    def __add__(self, other: Moments) -> Moments:
        if not np.array_equal(self.shift, other.shift):
            raise ValueError("only moments about the same shift can be merged; give one shift to every worker")
        return Moments(self.shift, self.counts + other.counts, self.sums + other.sums, self.scatter + other.scatter)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Mahalanobis:
    """A fitted detector in whitened coordinates `u = (z - centre) @ whitening`, where d_c is squared Euclidean.

    `class_means` [C, d] are the whitened means, `directions` [d, C] is `whitening @ class_means.T`. `pull` [C, C] gives
    the distance of all data without a second whitening: with `t = (z - centre) @ directions`, `d_0 = |u|^2 - t @ pull @ t`
    (Woodbury; the tied covariance of all data is that within classes plus that between them). `|u|^2` cancels in RMD,
    which so costs `d C + C^2` instead of `2 d^2 + C d`.
    """

    centre: Floats
    whitening: Floats
    class_means: Floats
    directions: Floats
    pull: Floats
    normalised: bool
    shrinkage: float

    def scores(self, features: NDArray[np.floating], kind: str) -> Floats:
        """`md`, `rmd` or `marginal` of each row of features; what is not a number scores +inf."""
        if kind not in KINDS:
            raise ValueError(f"the score must be one of {', '.join(KINDS)}, got {kind!r}")
        with np.errstate(invalid="ignore", over="ignore"):
            rows = unit(features) if self.normalised else features.astype(np.float64)
            centred = rows - self.centre
            inner = centred @ self.directions
            nearest = (np.sum(self.class_means**2, axis=1) - 2 * inner).min(axis=1)
            explained = np.sum((inner @ self.pull) * inner, axis=1)
            if kind == "rmd":
                scores = nearest + explained
            else:
                scores = np.sum((centred @ self.whitening) ** 2, axis=1) + (nearest if kind == "md" else -explained)
        return np.where(np.isnan(scores), np.inf, scores)


def fit(moments: Moments, *, normalised: bool, least_shrinkage: float = 1e-3) -> Mahalanobis:
    """The detector of these moments; `normalised` says that unit features were added.

    The covariance within classes is shrunk, `(1 - r) S + r tr(S)/d I`, r by the oracle approximating estimator (Chen et
    al. 2010, equation 23) but at least `least_shrinkage`: relative to the data's scale, so that units do not matter, and
    enough for channels that are always 0.
    """
    if moments.counts.min() < 1:
        missing = np.flatnonzero(moments.counts < 1).tolist()
        raise ValueError(f"no features were added for the classes {missing}; every class needs some")
    count, size = moments.counts.sum(), len(moments.shift)
    means = moments.sums / moments.counts[:, None]
    centre = moments.sums.sum(axis=0) / count
    within = (moments.scatter - (means * moments.counts[:, None]).T @ means) / count
    shrinkage = max(least_shrinkage, _oracle_shrinkage(within, count - len(moments.counts)))
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / size * np.eye(size)
    lower = cholesky(shrunk, lower=True)
    whitening = solve_triangular(lower, np.eye(size), lower=True).T
    whitened = (means - centre) @ whitening
    pull = np.linalg.inv(np.diag(count / moments.counts) + whitened @ whitened.T)
    return Mahalanobis(
        centre=centre + moments.shift,
        whitening=whitening,
        class_means=whitened,
        directions=whitening @ whitened.T,
        pull=0.5 * (pull + pull.T),
        normalised=normalised,
        shrinkage=shrinkage,
    )


def _oracle_shrinkage(covariance: Floats, count: float) -> float:
    size = len(covariance)
    squared, trace = float(np.sum(covariance**2)), float(np.trace(covariance))
    excess = (count + 1 - 2 / size) * (squared - trace**2 / size)
    return 1.0 if excess <= 0 else min(1.0, ((1 - 2 / size) * squared + trace**2) / excess)
