"""The out-of-distribution verdict of one answer: score, p-value and what is certified about the smoothed median score.

The score is larger the farther out. Served `score` and `p_value` are those of the first `score_draws` draws alone, as
they were calibrated; with fewer, or one of them lost, they are absent. The certified object is the *median of the score
under noise*: by percentile smoothing (Chiang et al. 2020) the median at any input within `radius` lies between the
`Phi(-radius/sigma)` and `Phi(radius/sigma)` quantiles at the input. Both quantiles are bounded at every number of draws
by the time-uniform test of `certify.anytime`, and so is `P(score > threshold)`, the threshold being fixed in the bundle.

**score interval**: the median of the score under noise lies in [score_lower, score_upper] for every input within
`radius`; not the noise-free score, not the score printed above. **verdict**: that median stays above (or not above) the
threshold within `radius`; not semantic novelty, and not a false-alarm rate. **p_value**: if this input is exchangeable
with the calibration inputs, p <= a has probability at most a, over calibration and input together; not under attack,
not given this calibration set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from certify import anytime
from certify.certificate import Terms
from certify.conformal import p_value

Verdict = Literal["in_distribution", "out_of_distribution", "undetermined"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Detector:
    """What the bundle fixes about the score. `calibration` are sorted float64 scores of held-out inputs."""

    threshold: float
    radius: float
    score_draws: int
    calibration: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedScore:
    """Claims about the smoothed median score within `radius`; a trivial bound is None."""

    verdict: Verdict
    score_lower: float | None
    score_upper: float | None
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ood:
    """Score, conformal p-value and decision of one input. `in_distribution` is `score <= threshold` and nothing else."""

    score: float
    p_value: float
    in_distribution: bool
    threshold: float
    certified: CertifiedScore | None


def lower_median(scores: NDArray[np.floating]) -> float:
    """The lower median: the smallest score that at least half of the scores do not exceed."""
    return _ranked(scores, (scores.size + 1) // 2)


def assess(scores: NDArray[np.float64], terms: Terms, detector: Detector, certify: bool = True) -> Ood | None:
    """The verdict from the scores of the first draws of a stream, in index order; a lost draw is NaN.

    None while the first `score_draws` draws are not all there. `certify` is off where no share of alpha is declared.
    """
    first = scores[: detector.score_draws]
    if first.size < detector.score_draws or np.isnan(first).any():
        return None
    score = lower_median(first)
    return Ood(
        score=score,
        p_value=p_value(detector.calibration, score),
        in_distribution=score <= detector.threshold,
        threshold=detector.threshold,
        certified=_certified(scores, terms, detector) if certify else None,
    )


def _certified(scores: NDArray[np.float64], terms: Terms, detector: Detector) -> CertifiedScore:
    lower, upper = interval(scores, terms, detector.radius)
    outside, inside = _sides(scores, terms, detector)
    outside, inside = outside or lower > detector.threshold, inside or upper <= detector.threshold
    # Claims that contradict each other are never resolved towards a favourite.
    verdict: Verdict = "undetermined"
    if outside != inside:
        verdict = "out_of_distribution" if outside else "in_distribution"
    return CertifiedScore(
        verdict=verdict,
        score_lower=lower if math.isfinite(lower) and lower <= upper else None,
        score_upper=upper if math.isfinite(upper) and lower <= upper else None,
        radius=detector.radius,
    )


def interval(scores: NDArray[np.float64], terms: Terms, radius: float) -> tuple[float, float]:
    """Bounds of the smoothed median score within `radius`, infinite where trivial; lost draws (NaN) only widen them."""
    place = _rejecting_rank(scores.size, terms.needed(radius), terms.alpha * terms.split.of_interval / 2)
    if place is None:
        return -math.inf, math.inf
    lowest = np.where(np.isnan(scores), -np.inf, scores)
    highest = np.where(np.isnan(scores), np.inf, scores)
    return _ranked(lowest, scores.size + 1 - place), _ranked(highest, place)


def _ranked(scores: NDArray[np.floating], rank: int) -> float:
    """The order statistic of 1-based rank."""
    return float(np.partition(scores, rank - 1)[rank - 1])


def _rejecting_rank(draws: int, probability: float, level: float) -> int | None:
    """The least number of hits that proves more than `probability` at `level`; None if even `draws` do not."""
    if level <= 0 or probability >= 1 or not anytime.exceeds(draws, draws, probability, level):
        return None
    low, high = 0, draws
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if anytime.exceeds(draws, middle, probability, level) else (middle, high)
    return high


def _sides(scores: NDArray[np.float64], terms: Terms, detector: Detector) -> tuple[bool, bool]:
    """Whether `score > threshold`, and whether `score <= threshold`, is the majority within the radius: exclusive."""
    level = terms.alpha * terms.split.of_threshold
    needed = terms.needed(detector.radius)
    if level <= 0 or needed >= 1:
        return False, False
    hits = int(np.sum(scores > detector.threshold)), int(np.sum(scores <= detector.threshold))
    outside, inside = (anytime.chosen_exceeds(scores.size, hit, needed, level) for hit in hits)
    return outside, inside
