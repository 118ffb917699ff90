"""Mahalanobis scores of features: one streaming, mergeable fit in float64, and the scores MD and RMD.

Class c has mean `mu_c`, and all classes share one covariance S (Lee et al. 2018):

    d_c(z) = (z - mu_c)^T S^-1 (z - mu_c)
    MD(z)  = min_c d_c(z)
    RMD(z) = min_c d_c(z) - d_0(z)      d_0: the same distance under one Gaussian of all data (Ren et al. 2021)

    marginal(z) = d_0(z)                (Kamoi and Kobayashi 2020)

all larger the farther out z lies. MD and d_0 are squares, and never negative; RMD, a difference, may be. Either may act
on `z / |z|` (Mueller and Hein 2025, "Mahalanobis++"). Nothing here is a guarantee: the guarantees about a score come from
`certify.ood.conformal` and `certify.ood.verdict`, for any score whatever.
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

_NO_SPREAD = 1e-13
"""A variance within classes below this share of the mean square about the shift is what rounding leaves of none."""


def unit(features: NDArray[np.floating]) -> Floats:
    """Rows divided by their Euclidean length."""
    rows = _rows(features)
    lengths: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, TINY)


@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """What a fit needs of the data: counts, sums and one scatter of features less `shift`. Shards merge by `+`.

    The shift (a mean of some first batch, given to every worker) keeps the scatter from cancelling; it changes nothing
    else. Labels are integers, 0 to C-1. Whatever does not fit is a `ValueError` that says what was expected.
    """

    shift: Floats
    counts: Floats
    sums: Floats
    scatter: Floats

    @staticmethod
    def empty(shift: NDArray[np.floating], classes: int) -> Moments:
        """No data yet, for features as long as `shift`."""
        if shift.ndim != 1 or not shift.size or not np.isfinite(shift).all():
            raise ValueError(f"the shift must be one finite vector as long as a feature; got shape {shift.shape}")
        if classes < 1:
            raise ValueError(f"expected one class or more, got {classes}")
        size = len(shift)
        return Moments(shift.astype(np.float64), np.zeros(classes), np.zeros((classes, size)), np.zeros((size, size)))

    def add(self, features: NDArray[np.floating], labels: NDArray[np.integer]) -> Moments:
        """These moments with a batch taken in: features [n, d], labels [n]."""
        rows = _rows(features, len(self.shift))
        if not len(rows):
            raise ValueError("there are no features to add; expected one row or more")
        centred = rows - self.shift
        if not np.isfinite(centred).all():
            raise ValueError("the features to fit are not all finite; check the network and its inputs")
        member = np.eye(len(self.counts))[_labels(labels, len(rows), len(self.counts))]
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
        """`E (z - origin)(z - origin)^T` over all data, [d, d]; raises `ValueError` where there are none."""
        if not self.counts.sum():
            raise ValueError("no features were added; expected one row or more")
        gap, total = origin - self.shift, self.sums.sum(axis=0)
        mixed = np.outer(total, gap)
        moment: Floats = (self.scatter - mixed - mixed.T) / self.counts.sum() + np.outer(gap, gap)
        return moment

    def __add__(self, other: Moments) -> Moments:
        if not np.array_equal(self.shift, other.shift):
            raise ValueError("only moments about the same shift can be merged; give one shift to every worker")
        if len(self.counts) != len(other.counts):
            raise ValueError(
                f"only moments of the same classes can be merged; got {len(self.counts)} and {len(other.counts)} classes"
            )
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
        """`md`, `rmd` or `marginal` of each row of features; what is not a number scores +inf.

        The squared distances `md` and `marginal` are not below 0, whatever rounding leaves of them.
        """
        if kind not in KINDS:
            raise ValueError(f"the score must be one of {', '.join(KINDS)}, got {kind!r}")
        with np.errstate(invalid="ignore", over="ignore"):
            rows = unit(features) if self.normalised else _rows(features)
            centred = rows - self.centre
            inner = centred @ self.directions
            nearest = (np.sum(self.class_means**2, axis=1) - 2 * inner).min(axis=1)
            explained = np.sum((inner @ self.pull) * inner, axis=1)
            if kind == "rmd":
                scores = nearest + explained
            else:
                lengths = np.sum((centred @ self.whitening) ** 2, axis=1)
                scores = np.maximum(lengths + (nearest if kind == "md" else -explained), 0.0)
        return np.where(np.isnan(scores), np.inf, scores)


def fit(moments: Moments, *, normalised: bool, least_shrinkage: float = 1e-3) -> Mahalanobis:
    """The detector of these moments; `normalised` says that unit features were added.

    The covariance within classes is shrunk, `(1 - r) S + r tr(S)/d I`, r by the oracle approximating estimator (Chen et
    al. 2010, equation 23) but at least `least_shrinkage`: relative to the data's scale, so that units do not matter, and
    enough for channels that are always 0. Raises `ValueError` for a class without features, and where no two features of
    a class differ: without a spread there is no distance.
    """
    if not 0 <= least_shrinkage <= 1:
        raise ValueError(f"least_shrinkage must lie between 0 and 1, got {least_shrinkage}")
    if moments.counts.min() < 1:
        missing = np.flatnonzero(moments.counts < 1).tolist()
        raise ValueError(f"no features were added for the classes {missing}; every class needs some")
    count, size = moments.counts.sum(), len(moments.shift)
    means = moments.sums / moments.counts[:, None]
    centre = moments.sums.sum(axis=0) / count
    within = (moments.scatter - (means * moments.counts[:, None]).T @ means) / count
    if not np.isfinite(within).all():
        raise ValueError("the squares of the features overflow double precision; expected features below 1e150")
    if np.trace(within) <= _NO_SPREAD * np.trace(moments.scatter) / count:
        raise ValueError(
            "the features do not differ within any class, as far as rounding lets it be seen; expected some spread:"
            " check the network, or take a shift nearer to the features"
        )
    shrinkage = max(least_shrinkage, _oracle_shrinkage(within, count - len(moments.counts)))
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / size * np.eye(size)
    whitening = _whitening(shrunk)
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


def _whitening(covariance: Floats) -> Floats:
    size = len(covariance)
    try:
        lower = cholesky(covariance, lower=True)
    except np.linalg.LinAlgError:
        raise ValueError(
            "the covariance within classes is singular; expected features that differ in every direction, or a larger"
            " least_shrinkage"
        ) from None
    inverse: Floats = solve_triangular(lower, np.eye(size), lower=True).T
    return inverse


def _rows(features: NDArray[np.floating], size: int | None = None) -> Floats:
    if features.ndim != 2 or features.dtype.kind not in "fiu" or size not in (None, features.shape[1]):
        expected = "d" if size is None else size
        raise ValueError(
            f"expected features [n, {expected}] of numbers, got {features.dtype} of shape {features.shape}"
        )
    return features.astype(np.float64)


def _labels(labels: NDArray[np.integer], count: int, classes: int) -> NDArray[np.integer]:
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise ValueError(
            f"expected integer labels of shape ({count},), one a row of features, got {labels.dtype} of shape"
            f" {labels.shape}; one-hot rows become labels by argmax"
        )
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        raise ValueError(
            f"expected labels from 0 to {classes - 1}, got {labels[wrong][0]} at row {int(np.argmax(wrong))}"
        )
    return labels


def _oracle_shrinkage(covariance: Floats, count: float) -> float:
    size = len(covariance)
    squared, trace = float(np.sum(covariance**2)), float(np.trace(covariance))
    excess = (count + 1 - 2 / size) * (squared - trace**2 / size)
    return 1.0 if excess <= 0 else min(1.0, ((1 - 2 / size) * squared + trace**2) / excess)
