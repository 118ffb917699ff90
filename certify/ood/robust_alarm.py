"""An alarm whose false ones stay rare under attack: the conformal test of a bound of the median score.

What was calibrated is the lower median of the first `score_draws` scores, and an attack within `radius` moves it. So the
test is given a number L' that, whatever the attack, is at most the median that the clean input would have got:

    q_0 = the largest q with P(Binomial(n_s, q) >= ceil(n_s / 2)) <= of_median: the clean median is at least the q_0
          quantile of the score at the clean input, except with probability `of_median`;
    p_- = how low q_0 can get within `radius`, by the law: that quantile is at least the p_- quantile at the
          attacked input (percentile smoothing, Chiang et al. 2020, theorem 1);
    L'  = a lower bound of the p_- quantile from the draws at the attacked input, false with probability `of_bound`.

**robust alarm**: a clean input perturbed by at most `radius`, without knowledge of the coming noise, is flagged with
probability at most `far + of_median + of_bound`. Over calibration, input and noise together, for a clean input that is
exchangeable with the calibration inputs. Nothing is said of how often attacked outside inputs are caught, and nothing of who
tries many inputs until one is flagged.

It takes no share of an answer's alpha. That bounds how often a statement is false; this statement is itself about a
frequency, and has all that may go wrong in its sum: the calibration's share `far`, the clean median's, and the bound's,
which holds at every number of draws, so whenever an answer stops. All are fixed in the bundle; no request has a say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from certify.bounds import anytime, binomial, quantiles
from certify.ood.conformal import alarm_rank
from certify.smoothing.ball import parse
from certify.smoothing.law import Guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustAlarm:
    """What is fixed before the first draw. The law's charge is paid on both sides of the attack."""

    far: float
    radius: float
    law: Guarantee
    score_draws: int
    of_median: float
    of_bound: float

    def __post_init__(self) -> None:
        levels = (self.far, self.of_median, self.of_bound)
        if not all(0 < level < 1 for level in levels):
            raise ValueError(f"far, of_median and of_bound must lie strictly between 0 and 1; got {levels}")
        if not (self.radius >= 0 and self.score_draws >= 1):
            raise ValueError(
                f"radius must not be negative and score_draws be at least 1; got {self.radius} and {self.score_draws}"
            )

    @property
    def false_alarms(self) -> float:
        """The bound of the false-alarm rate under attack, rounded up."""
        return min(1.0, math.fsum((self.far, self.of_median, self.of_bound)) * (1 + 2.0**-50))

    @property
    def clean_share(self) -> float:
        """`q_0`, rounded down, of the noise as it is drawn."""
        return _clean_share(self.score_draws, self.of_median)

    @property
    def attacked_share(self) -> float:
        """`p_-`, rounded down, of the noise as it is drawn; 0 where nothing is left."""
        clean = math.nextafter(self.clean_share - self.law.charge, -1.0)
        attacked = self.law.least(clean, parse(self.law.parts, self.radius))
        return max(0.0, math.nextafter(attacked - self.law.charge, -1.0))

    def fixed_rank(self, draws: int) -> int | None:
        """The 1-based rank of L' among `draws` sorted scores, their number fixed beforehand; None where L' is trivial."""
        return _rank(draws, binomial.least_hits(draws, self.attacked_share, self.of_bound))

    def anytime_rank(self, draws: int) -> int | None:
        """The 1-based rank of L' that is valid at every number of draws at once, whatever makes them stop."""
        return _rank(draws, self.least_above(draws))

    def least_above(self, draws: int) -> int | None:
        """How many scores lie above a number if and only if L' of `anytime_rank` does, or more; None where L' is trivial."""
        return anytime.least_hits(draws, math.nextafter(1 - self.attacked_share, 2.0), self.of_bound)

    def lower_bound(self, scores: NDArray[np.float64], rank: int | None) -> float:
        """L' from the scores of the first draws, NaN for a lost one, and a rank of `fixed_rank` or `anytime_rank`."""
        if rank is None:
            return -math.inf
        return quantiles.ranked(np.where(np.isnan(scores), -np.inf, scores), rank)

    def raised(self, calibration: NDArray[np.float64], lower_bound: float) -> bool:
        """Whether the p-value of L' is at most `far`; `calibration` are sorted medians of `score_draws` draws each."""
        return lower_bound > threshold_of(calibration, self.far)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmTerms:
    """What a bundle fixes of it: levels, radius, and the calibration score that L' has to exceed, see `threshold_of`."""

    far: float
    radius: float
    of_median: float
    of_bound: float
    threshold: float

    def rule(self, law: Guarantee, score_draws: int) -> RobustAlarm:
        """The alarm itself, under this law; raises `ValueError` where the terms are none."""
        levels = {"far": self.far, "of_median": self.of_median, "of_bound": self.of_bound}
        return RobustAlarm(radius=self.radius, law=law, score_draws=score_draws, **levels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One answer: whether it is `raised`. Of clean inputs within `radius` at most a share of `false_alarms` raise it."""

    raised: bool
    radius: float
    false_alarms: float


def threshold_of(calibration: NDArray[np.float64], far: float) -> float:
    """The calibration score, of sorted ones, above which a score has a p-value of `far` or less. Raises `ValueError`."""
    return float(calibration[alarm_rank(calibration.size, far) - 1])


def alarm(terms: AlarmTerms, law: Guarantee, score_draws: int, draws: int, above: int) -> Alarm:
    """What `above` of the first `draws` scores above the threshold prove; lost ones are not among them."""
    rule = terms.rule(law, score_draws)
    least = rule.least_above(draws) if draws else None
    return Alarm(raised=least is not None and above >= least, radius=terms.radius, false_alarms=rule.false_alarms)


@lru_cache(maxsize=256)
def _clean_share(score_draws: int, of_median: float) -> float:
    """Kept, since every answer of a bundle asks for the same."""
    complement = binomial.clopper_pearson_complement(score_draws, (score_draws + 1) // 2, of_median)
    return math.nextafter(1 - complement, 0.0)


def _rank(draws: int, hits: int | None) -> int | None:
    return None if hits is None else draws + 1 - hits
