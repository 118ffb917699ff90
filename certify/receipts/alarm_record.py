"""The robust alarm as receipts have it, from version 6 on: what the bundle fixes of it, and one count of the scores.

`scores.alarm` is there where the bundle declares the alarm, but for `fixed`, and makes the receipt version 6. `claims.ood`
then has `robust_alarm`, whether it is raised, wherever there is a claim about the score at all.

**What the counts prove.** Let n be `scores.drawn.stop`, s be `scores.score_draws`, M = floor((s + 1) / 2), c be
`noise.charge`, and CP(k, n, a) the lower bound of Clopper and Pearson of k hits in n draws at level a.

- `q0 = CP(M, s, of_median)`: the quantile that a clean median of s scores is not below;
- `p- = Phi(Phi^-1(q0 - c) - radius / sigma) - c`, at least 0: how low it gets within the radius; all rounded down;
- the alarm is raised if and only if `above` hits in n draws prove more than `1 - p-` at the plain level `of_bound`, by the
  e-process of `certify.bounds.anytime` with kappa = 1/2. Lost draws are misses. With p- = 0, and without draws, it never is.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from certify.ood.robust_alarm import AlarmTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRecord(AlarmTerms):
    """See `AlarmTerms`; `above` of the draws had a score above `threshold`, which is a calibration score."""

    above: int

    @property
    def terms(self) -> AlarmTerms:
        """What the bundle fixes."""
        return AlarmTerms(**{each.name: getattr(self, each.name) for each in fields(AlarmTerms)})


def alarm_record(terms: AlarmTerms | None, above: int | None) -> AlarmRecord | None:
    """The record of a count under these terms."""
    return None if terms is None or above is None else AlarmRecord(**asdict(terms), above=above)


def alarm_holds(alarm: AlarmRecord, threshold: float, above: int, scored: int) -> list[tuple[str, bool, str]]:
    """What has to hold beside `above` of `scored` scores that lie above another `threshold`: the field, whether it holds,
    and what was expected.
    """
    levels = (alarm.far, alarm.of_median, alarm.of_bound)
    higher = alarm.above <= above if alarm.threshold > threshold else alarm.above >= above
    return [
        ("scores.alarm", all(0 < level < 1 for level in levels), "levels between 0 and 1"),
        ("scores.alarm.radius", 0 <= alarm.radius < math.inf, "0 or more"),
        ("scores.alarm.threshold", math.isfinite(alarm.threshold), "a finite number"),
        ("scores.alarm.above", 0 <= alarm.above <= scored, "some of the draws that have a score"),
        ("scores.alarm.above", higher, f"what {above} above the score's threshold allow"),
        (
            "scores.alarm.above",
            alarm.above == above or alarm.threshold != threshold,
            f"{above}, as of the same threshold",
        ),
    ]
