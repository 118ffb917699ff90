"""The out-of-distribution verdict of one answer: score, p-value and what is certified about the smoothed median score.

The score is larger the farther out. Served `score` and `p_value` are those of the first `score_draws` draws alone, as
they were calibrated; with fewer, or one of them lost, they are absent. The certified object is the *median of the score
under noise*: by percentile smoothing (Chiang et al. 2020) the median at any input within `radius` lies between two
quantiles at the input, for a side that has more than the law needs there has the majority in the whole ball. Both are
bounded at every number of draws by `certify.bounds.quantiles`, and so is `P(score > threshold)` by
`certify.bounds.anytime`, the threshold being fixed in the bundle.

**score interval**: the median of the score under noise lies in [score_lower, score_upper] for every input within
`radius`; not the noise-free score, not the score printed above. **verdict**: that median stays above (or not above) the
threshold within `radius`; not semantic novelty, and not a false-alarm rate. **p_value**: if this input is exchangeable
with the calibration inputs, p <= a has probability at most a, over calibration and input together; not under attack,
not given this calibration set. **robust alarm**: see `certify.ood.robust_alarm`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from certify.bounds import anytime, binomial, quantiles
from certify.claims.certificate import Terms
from certify.ood.conformal import count_at_least, p_value_of_count
from certify.ood.robust_alarm import Alarm, AlarmTerms, alarm
from certify.smoothing.ball import parse

Verdict = Literal["in_distribution", "out_of_distribution", "undetermined"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTerms:
    """What the bundle fixes about the score, without the calibration scores themselves."""

    threshold: float
    radius: float
    score_draws: int
    calibration_size: int
    alarm: AlarmTerms | None = None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Detector:
    """What the bundle fixes about the score. `calibration` are sorted float64 scores of held-out inputs."""

    threshold: float
    radius: float
    score_draws: int
    calibration: NDArray[np.float64]
    alarm: AlarmTerms | None = None

    @property
    def terms(self) -> ScoreTerms:
        """All but the calibration scores."""
        return ScoreTerms(
            threshold=self.threshold,
            radius=self.radius,
            score_draws=self.score_draws,
            calibration_size=self.calibration.size,
            alarm=self.alarm,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCounts:
    """All that the claims about a score depend on, of the first `draws` scores of a stream, `lost` of them without one.

    `score` is the lower median of the first `score_draws`, None unless they are all there; `calibration_at_least` counts
    the calibration scores not below it. `above` and `at_most` count on which side of the threshold the scores are.
    `rank` is the least number of hits that proves a majority in the whole ball, None if no number does; `lowest` is
    the score of rank `draws + 1 - rank` where lost draws are minus infinity, `highest` that of rank `rank` where they
    are infinity: so at least `rank` scores are not below `lowest`, and at least `rank` not above `highest`. `above_alarm`
    counts those above the threshold of the alarm, None where the bundle declares none.
    """

    draws: int
    lost: int
    score: float | None
    calibration_at_least: int
    above: int
    at_most: int
    rank: int | None
    lowest: float
    highest: float
    above_alarm: int | None = None


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
    robust_alarm: Alarm | None = None


def lower_median(scores: NDArray[np.floating]) -> float:
    """The lower median: the smallest score that at least half of the scores do not exceed."""
    return quantiles.ranked(scores, (scores.size + 1) // 2)


def assess(scores: NDArray[np.float64], terms: Terms, detector: Detector, certify: bool = True) -> Ood | None:
    """The verdict from the scores of the first draws of a stream, in index order; a lost draw is NaN.

    None while the first `score_draws` draws are not all there. `certify` is off where no share of alpha is declared.
    """
    return verdict(tally(scores, terms, detector), terms, detector.terms, certify)


def tally(scores: NDArray[np.float64], terms: Terms, detector: Detector) -> ScoreCounts:
    """Count what the claims depend on; a lost draw is NaN."""
    first = scores[: detector.score_draws]
    absent = first.size < detector.score_draws or bool(np.isnan(first).any())
    score = None if absent else lower_median(first)
    rank = proving_rank(scores.size, terms, detector.radius)
    return ScoreCounts(
        draws=scores.size,
        lost=int(np.isnan(scores).sum()),
        score=score,
        calibration_at_least=0 if score is None else count_at_least(detector.calibration, score),
        above=int(np.sum(scores > detector.threshold)),
        at_most=int(np.sum(scores <= detector.threshold)),
        rank=rank,
        lowest=quantiles.not_below(scores, rank),
        highest=quantiles.not_above(scores, rank),
        above_alarm=None if detector.alarm is None else int(np.sum(scores > detector.alarm.threshold)),
    )


def verdict(counts: ScoreCounts, terms: Terms, fixed: ScoreTerms, certify: bool = True) -> Ood | None:
    """What the counts prove, and nothing else: a pure function of them. See `assess`."""
    if counts.score is None:
        return None
    return Ood(
        score=counts.score,
        p_value=p_value_of_count(counts.calibration_at_least, fixed.calibration_size),
        in_distribution=counts.score <= fixed.threshold,
        threshold=fixed.threshold,
        certified=_certified(counts, terms, fixed) if certify else None,
        robust_alarm=_alarm(counts, terms, fixed) if certify else None,
    )


def _alarm(counts: ScoreCounts, terms: Terms, fixed: ScoreTerms) -> Alarm | None:
    if fixed.alarm is None or counts.above_alarm is None:
        return None
    return alarm(fixed.alarm, terms.law, fixed.score_draws, counts.draws, counts.above_alarm)


def _certified(counts: ScoreCounts, terms: Terms, fixed: ScoreTerms) -> CertifiedScore:
    lower, upper = counts.lowest, counts.highest
    outside, inside = _sides(counts, terms, fixed)
    outside, inside = outside or lower > fixed.threshold, inside or upper <= fixed.threshold
    # Claims that contradict each other are never resolved towards a favourite.
    verdict: Verdict = "undetermined"
    if outside != inside:
        verdict = "out_of_distribution" if outside else "in_distribution"
    return CertifiedScore(
        verdict=verdict,
        score_lower=lower if math.isfinite(lower) and lower <= upper else None,
        score_upper=upper if math.isfinite(upper) and lower <= upper else None,
        radius=fixed.radius,
    )


def interval(scores: NDArray[np.float64], terms: Terms, radius: float) -> tuple[float, float]:
    """Bounds of the smoothed median score within `radius`, infinite where trivial; lost draws (NaN) only widen them."""
    rank = proving_rank(scores.size, terms, radius)
    return quantiles.not_below(scores, rank), quantiles.not_above(scores, rank)


def proving_rank(draws: int, terms: Terms, radius: float) -> int | None:
    """The least number of scores on one side of a value that makes it a bound within `radius`; None if none does."""
    return anytime.least_hits(draws, _majority(terms, radius), terms.alpha * terms.split.of_interval / 2)


def fixed_interval(scores: NDArray[np.float64], terms: Terms, radius: float) -> tuple[float, float]:
    """`interval` for a number of draws fixed before the first of them, where it is narrower; void at any other stop.

    Its ranks are those of Chiang et al. (2020): `k_hi = min{k: P(Binomial(n, p) >= k) <= b}` and `k_lo = n + 1 - k_hi`,
    1-based, at the probability p that the law needs and b half the interval's share of alpha.
    """
    rank = fixed_rank(scores.size, terms, radius)
    return quantiles.not_below(scores, rank), quantiles.not_above(scores, rank)


def fixed_rank(draws: int, terms: Terms, radius: float) -> int | None:
    """`k_hi` of `fixed_interval`; None where both bounds are trivial."""
    level = terms.alpha * terms.split.of_interval / 2
    return binomial.least_hits(draws, 1 - _majority(terms, radius), level)  # exact: it needs one half at least


def _sides(counts: ScoreCounts, terms: Terms, fixed: ScoreTerms) -> tuple[bool, bool]:
    """Whether `score > threshold`, and whether `score <= threshold`, is the majority within the radius: exclusive."""
    level = terms.alpha * terms.split.of_threshold
    needed = _majority(terms, fixed.radius)
    if level <= 0 or needed >= 1:
        return False, False
    hits = counts.above, counts.at_most
    outside, inside = (anytime.chosen_exceeds(counts.draws, hit, needed, level) for hit in hits)
    return outside, inside


def _majority(terms: Terms, radius: float) -> float:
    """What the probability of a side has to exceed here to stay above one half in the whole ball: that bounds the median."""
    return terms.law.needed(parse(terms.law.parts, radius))
