"""What was counted of the confidence in the certified class, as receipts have it from version 6 on.

Three members are new, each left out where it does not apply:

- `split.of_confidence`, more than 0: the share of alpha. It is there wherever the bundle declares the claim, also where an
  answer was not asked for it, but for `fixed`, which claims the class alone. It makes the receipt version 6;
- `confidence`: `thresholds` and `reached`, see `ConfidenceRecord`. Only with a share, and never with `off`;
- `claims.confidence`: `class_index`, `radius`, `lower`, `lower_at_input`, and `ball` where balls have several parts. It is
  there if and only if `confidence` is.

**What the counts prove.** The class and its ball are those of the certificate that the receipt's other counts prove, whether
or not that is claimed; where it abstains, so does this: no class, no numbers, radius 0. Let t_1 < ... < t_J be the
thresholds, t_0 = 0, and k_j = `reached[j - 1]` of n = `noise.stop` draws. q_j is the least complement that
`certify.bounds.anytime.chosen_lower_complement` proves of k_j in n at the level alpha times `split.of_confidence` over J,
plus `noise.charge`, rounded up; a `prior` has no part in it. p_j is how low, by the law, a probability of 1 - q_j gets in
the ball, 0 where q_j is 1 or more. `lower` is the sum of (t_j - t_(j-1)) p_j, and `lower_at_input` that of (t_j - t_(j-1))
max(0, 1 - q_j), both rounded down.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from certify.claims.confidence import check_thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceRecord:
    """See `certify.claims.confidence`: of the draws of the votes, `reached[j]` went to the leader (the label with most
    `votes`, the first of equals) with a number above `thresholds[j]`.
    """

    thresholds: tuple[float, ...]
    reached: tuple[int, ...]


def holds(confidence: ConfidenceRecord, votes: tuple[int, ...]) -> list[tuple[str, bool, str]]:
    """What has to hold of them beside the `votes` of the same draws: the field, whether it holds, and what was expected."""
    reached = confidence.reached
    try:
        check_thresholds(confidence.thresholds)
    except ValueError:
        return [("confidence.thresholds", False, "single floats that rise between 0 and 1, few of them")]
    falling = all(one >= other for one, other in pairwise((max(votes, default=0), *reached, 0)))
    return [
        ("confidence.reached", len(reached) == len(confidence.thresholds), "one count for each threshold"),
        ("confidence.reached", falling, "counts that do not rise, from no more than the most votes of a class"),
    ]
