"""Calibrated decisions from the scores of held-out inputs: conformal p-values and thresholds.

`p_value` for one input, `ByLabel` for one input among those with its predicted label, `discoveries` for a batch,
`one_noise_level` for one noisy pass under attack, `pac_threshold` for a rate that holds given the calibration set.

Scores are larger the farther an input lies outside the training distribution. All of them take the calibration scores to
be independent of the model and of its fit, and scored exactly as served: same graph, noise and number of draws, the noise
of each calibration row keyed by the row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.bounds.binomial import least_hits
from certify.smoothing.ball import parse
from certify.smoothing.law import Guarantee


def p_value(calibration: NDArray[np.float64], score: float) -> float:
    """The conformal p-value `(1 + #{C_i >= score}) / (m + 1)` of one score against m sorted calibration scores.

    Claim: for each a, `P(p <= a) <= a`, over calibration and input together (Vovk et al. 2005). Assumption: the input is
    exchangeable with the calibration inputs, which excludes attacks. Ties count against the input, and so never make p
    too small. A NaN score counts as +inf, the farthest there is.
    """
    return p_value_of_count(count_at_least(calibration, score), calibration.size)


def count_at_least(calibration: NDArray[np.float64], score: float) -> int:
    """How many of the sorted calibration scores are at least `score`: all that the p-value depends on."""
    farthest = math.inf if math.isnan(score) else score
    return calibration.size - int(np.searchsorted(calibration, farthest, side="left"))


def p_value_of_count(at_least: int, size: int) -> float:
    """The conformal p-value where `at_least` of `size` calibration scores are at least the score."""
    return (1 + at_least) / (size + 1)


def alarm_rank(size: int, far: float) -> int:
    """The 1-based rank `k = ceil((m + 1) (1 - far))`: `p <= far` if and only if the score exceeds the k-th smallest.

    It is the rank at which `p_value` itself, a rounded fraction, falls to `far`. Raises `ValueError` where m scores
    cannot give so small a p-value: such a level would flag nothing, and so certify everything as in distribution.
    """
    if not 0 < far < 1:
        raise ValueError(f"far must lie strictly between 0 and 1; got {far}")
    allowed = round(far * (size + 1))
    allowed -= allowed / (size + 1) > far
    if size < 1 or allowed < 1:
        raise ValueError(
            f"{size} calibration scores give no p-value of {far:g} or less; at least {least_size(far)} are needed"
        )
    return size + 1 - allowed


def least_size(far: float) -> int:
    """The least number of calibration scores whose p-values can be `far` or less: `m >= 1 / far - 1`."""
    size = max(1, math.ceil(1 / far) - 2)
    while 1 / (size + 1) > far:
        size += 1
    return size


@dataclass(frozen=True, eq=False, slots=True)
class ByLabel:
    """Sorted calibration scores for each *predicted* label, whose p-values hold for each label apart (Mondrian)."""

    groups: tuple[NDArray[np.float64], ...]

    @staticmethod
    def of(scores: NDArray[np.float64], predicted: NDArray[np.integer], labels: int, smallest_level: float) -> ByLabel:
        """Group scores [m] by predicted labels [m] from 0 to `labels - 1`, all tested at `smallest_level` or above.

        A true label is not known when an input is served, so grouping by it would compare the input with scores that it
        is not exchangeable with. Raises `ValueError` for a group too small to give a p-value of `smallest_level`: its
        inputs could never be flagged.
        """
        groups = tuple(np.sort(scores[predicted == label]) for label in range(labels))
        wanted = least_size(smallest_level)
        few = {label: group.size for label, group in enumerate(groups) if group.size < wanted}
        if few:
            raise ValueError(
                f"calibration scores for each predicted label: {few} have fewer than the {wanted} that a level of"
                f" {smallest_level:g} needs; calibrate on more inputs, or test at a higher level"
            )
        return ByLabel(groups)

    def p_value(self, predicted: int, score: float) -> float:
        """The p-value of a score among the calibration inputs with the same predicted label.

        Claim: for each label c and level a, `P(p <= a | predicted = c) <= a` (Vovk et al. 2005, label-conditional
        taxonomy), given that the input is exchangeable with the calibration inputs.
        """
        if not 0 <= predicted < len(self.groups):
            raise ValueError(f"predicted must be a label from 0 to {len(self.groups) - 1}, got {predicted}")
        return p_value(self.groups[predicted], score)


def discoveries(p_values: NDArray[np.float64], level: float) -> NDArray[np.bool_]:
    """Which inputs of a batch are flagged by Benjamini and Hochberg's procedure, from their conformal p-values [n].

    Claim: of the flagged inputs an expected share of at most `level` is ordinary (none flagged counts as a share of 0),
    over calibration set and batch together. Assumption: one calibration set, and ordinary inputs of the batch that are
    independent of it and of each other (Bates et al. 2023, theorem 2); the same input sent twice is not.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1; got {level}")
    size = p_values.size
    ordered = np.sort(p_values)
    within = np.flatnonzero(ordered <= level * np.arange(1, size + 1) / size)
    largest = ordered[within[-1]] if within.size else -math.inf
    flagged: NDArray[np.bool_] = p_values <= largest
    return flagged


def one_noise_level(far: float, *, radius: float, law: Guarantee) -> float:
    """The level at which the p-value of one noisy pass is tested: how low `far` can get within `radius`; rounded down.

    Claim: an ordinary input, perturbed by at most `radius` (units of the law) without knowledge of the noise to be
    drawn, has a p-value of at most the level with probability at most `far`, over calibration, input and noise, where
    each calibration score is of one noisy pass, too. The chance b of an alarm at an input becomes at most `law.most(b)`
    there, which is concave in b, and the mean of b over ordinary inputs is at most the level (Jensen). The law's charge is
    paid at the input and at the perturbed input. One input, one noise: whoever may try many finds an alarm.
    Raises `ValueError` where nothing is left; `least_size` of the level says how many calibration scores it takes.
    """
    if not (0 < far < 1 and radius >= 0):
        raise ValueError(f"far must lie strictly between 0 and 1, and radius not be negative; got {far} and {radius}")
    clean = math.nextafter(far - law.charge, -math.inf)
    level = law.least(clean, parse(law.parts, radius)) - law.charge
    if level <= 0:
        raise ValueError(f"no level is left for a false-alarm rate of {far:g} within {radius:g}")
    return math.nextafter(level, 0.0)


def pac_threshold(calibration: NDArray[np.float64], far: float, eta: float) -> float:
    """The least calibration score that bounds the false-alarm rate by `far`, except with probability `eta`.

    Claim: with probability at least `1 - eta` over m independent calibration scores, a fresh score from the same
    distribution exceeds the threshold with probability at most `far`. The distribution is arbitrary: ties and atoms are
    covered. Source: the tolerance limits of Wilks (1941), the order statistic with 1-based rank `pac_rank(m, far, eta)`.
    """
    if calibration.ndim != 1 or np.isnan(calibration).any():
        raise ValueError("expected one vector of calibration scores without NaN; score a NaN as +inf")
    rank = pac_rank(calibration.size, far, eta)
    return float(np.partition(calibration, rank - 1)[rank - 1])


def pac_rank(size: int, far: float, eta: float) -> int:
    """The least k (1-based) with `P(Binomial(size, 1 - far) >= k) <= eta`.

    Let h be the `1 - far` quantile of the score. The k-th smallest score lies below h only if k scores do, each with
    probability at most `1 - far`; that has probability at most `eta`, and a threshold of at least h is exceeded with
    probability at most `far`. It exists if and only if `(1 - far)^size <= eta`; else `ValueError` says how many scores
    are needed.
    """
    if not (0 < far < 1 and 0 < eta < 1):
        raise ValueError(f"far and eta must lie strictly between 0 and 1; got {far} and {eta}")
    rank = least_hits(size, far, eta)
    if rank is None:
        wanted = math.ceil(math.log(eta) / math.log1p(-far))
        raise ValueError(
            f"{size} calibration scores cannot bound a false-alarm rate of {far:g} at eta={eta:g};"
            f" at least {wanted} are needed"
        )
    return rank
