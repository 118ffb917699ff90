"""Library offering: the drift alarm, an e-process in two counters (requests and flags) that replicas merge by addition.

A request is flagged if its conformal p-value is at most `far`. All p-values share one calibration set, so they are no
test martingale: with an unlucky set any bet on their uniformity wins in the long run (a histogram plug-in raises a false
alarm on every stream). The remedy is a composite null. Given the calibration set the rate of flags is at most a
Beta(m + 1 - k, k) variable, k = `alarm_rank(m, far)` (Vovk 2012), so at most `flag_rate_bound` except with probability
`eta`. Against every rate up to that bound, with n requests and K flags,

    E(n, K) = mean over bets l of (1 + l (1 - bound))^K (1 - l bound)^(n - K)

is a supermartingale, and by Ville's inequality it ever reaches `1 / alarm_level` with probability at most `alarm_level`.

**drift alarm**: while inputs come from the calibration distribution, an alarm is ever raised with probability at most
`eta + alarm_level`. Assumption: given the past, each counted request is flagged with probability at most the bound.
Repeated inputs repeat their flags under keyed noise, so each input is to be counted once; bursts have to be thinned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import betaincc

from certify.bounds.binomial import TAIL_SLACK, bisect_complement
from certify.ood.conformal import alarm_rank

BETS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Powers of two, so that no product with the bound is rounded; bets that could lose nearly everything are left out."""

_LARGEST_LOSS = 0.9
_ROUNDING = 8 * 2.0**-52


@dataclass(frozen=True, slots=True)
class Flags:
    """How many distinct inputs were counted, and how many of them had a p-value of at most `far`; merged by `+`."""

    requests: int = 0
    flagged: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.flagged <= self.requests:
            raise ValueError(f"expected 0 <= flagged <= requests, got {self.flagged} of {self.requests}")

    def __add__(self, other: Flags) -> Flags:
        return Flags(self.requests + other.requests, self.flagged + other.flagged)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftAlarm:
    """What is fixed before the stream: the calibration size m, the level of a flag, and the two failure probabilities."""

    calibration_size: int
    far: float
    eta: float
    alarm_level: float

    def __post_init__(self) -> None:
        if not (0 < self.eta < 1 and 0 < self.alarm_level < 1):
            raise ValueError(
                f"eta and alarm_level must lie strictly between 0 and 1; got {self.eta} and {self.alarm_level}"
            )
        alarm_rank(self.calibration_size, self.far)

    @property
    def false_alarms(self) -> float:
        """The probability of ever a false alarm, at most; rounded up."""
        return min(1.0, math.nextafter(self.eta + self.alarm_level, 1.0))

    @property
    def flag_rate_bound(self) -> float:
        """The bound of the true rate of flags; see `flag_rate_bound`."""
        return flag_rate_bound(self.calibration_size, self.far, self.eta)

    def raised(self, flags: Flags) -> bool:
        """Whether these counts raise the alarm; it stays raised, whatever the counts become."""
        return log_evidence(flags, self.flag_rate_bound) >= -math.log(self.alarm_level) * (1 + _ROUNDING)


def flag_rate_bound(size: int, far: float, eta: float) -> float:
    """A bound of the rate of `p <= far` given the calibration set that fails with probability at most `eta`.

    Claim: over m independent calibration scores of any distribution, a fresh score has `p <= far` with a probability
    above the bound in at most a share `eta` of the sets. The upper `eta` quantile of Beta(m + 1 - k, k), rounded up: the
    exact tail is evaluated at the returned value.
    """
    rank = alarm_rank(size, far)
    return bisect_complement(0.0, lambda rate: bool(betaincc(size + 1 - rank, rank, rate) <= eta * (1 - TAIL_SLACK)))


def log_evidence(flags: Flags, bound: float) -> float:
    """The natural logarithm of `E(n, K)`, rounded down: adding counts is all that merging takes."""
    bets = [bet for bet in BETS if bet * bound <= _LARGEST_LOSS]
    logs = [_log_wealth(flags, bound, bet) for bet in bets]
    most = max(logs)
    return most + math.log(math.fsum(math.exp(each - most) for each in logs) / len(bets)) - _ROUNDING


def _log_wealth(flags: Flags, bound: float, bet: float) -> float:
    won = flags.flagged * math.log1p(bet * (1 - bound))
    lost = (flags.requests - flags.flagged) * math.log1p(-bet * bound)
    return won + lost - _ROUNDING * (won - lost)
