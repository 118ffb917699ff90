"""What was counted of the joint labels, "class and in distribution", as receipts have it from version 6 on.

Three members are new, each left out where it does not apply:

- `split.of_joint`, more than 0: the share of alpha of the joint label. It is there wherever the bundle declares the claim,
  also where an answer was not asked for it, but for `fixed`, which claims the class alone. It makes the receipt version 6;
- `joint`: `threshold`, above which a score is "out", and `votes`, one number more than the receipt has: see `JointRecord`.
  Only with a share, and never with `off`;
- `claims.joint`: `verdict`, `class_index`, `radius`, `p_lower`, and `ball` where balls have several parts: see `JointClaim`.
  It is there if and only if `joint` is.

**What the counts prove.** Of n = `noise.stop` draws the leader, the first of the largest of `joint.votes`, has k. Its bound
is the least complement q that `certify.bounds.anytime.chosen_lower_complement` proves of k in n at the level alpha times
`split.of_joint`, plus `noise.charge`, rounded up; a `prior` has no part in it. Where q is below one half the leader is
claimed, a class or (the last) "out", with the `p_lower` 1 - q and the radius that the law gives q, as in a certificate.
Else, and without draws, the claim abstains.

**Claims that contradict each other** all abstain (`certify.ood.joint_label.in_agreement`). Against the joint label stands a
verdict on the score that is the opposite one: it becomes "undetermined". Where the joint label is a class, against it stands
a certificate of another class, and one where the upper bound of the class with most `votes` lies below the `p_lower`: the
certificate becomes "undecided", without a class, its `p_b_upper` 1, and the mixture, which rests on it, claims nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JointRecord:
    """See `certify.claims.joint`: of the draws of the votes, `votes[c]` went to class c with a score of at most the
    threshold, and the last number scored above it, whatever they voted for. Lost draws are the receipt's; the rest voted
    for none.
    """

    threshold: float
    votes: tuple[int, ...]


def holds(
    joint: JointRecord, votes: tuple[int, ...], lost: int, draws: int, above: int | None
) -> list[tuple[str, bool, str]]:
    """What has to hold of joint labels beside the `votes` of the same draws, of which `above` scored above the threshold if
    the scores were counted as well: the field, whether it holds, and what was expected.

    A draw has its class's label or is "out": so "out" is what the classes, and votes for none, have fewer.
    """
    classes, out = joint.votes[:-1], joint.votes[-1] if joint.votes else 0
    fewer = [most - mine for most, mine in zip(votes, classes, strict=False)]
    return [
        ("joint.threshold", math.isfinite(joint.threshold), "a finite number"),
        ("joint.votes", len(joint.votes) == len(votes) + 1, f"{len(votes) + 1} counts: one for each class, and 'out'"),
        ("joint.votes", min(joint.votes, default=0) >= 0, "counts"),
        ("joint.votes", sum(joint.votes) + lost <= draws, f"counts that sum with the lost draws to at most {draws}"),
        ("joint.votes", min(fewer, default=0) >= 0, "no more of a class than its votes"),
        ("joint.votes", sum(fewer) <= out, "as many that are out as the classes have fewer, or more"),
        ("joint.votes", above is None or out == above, f"{above} that are out, as many as scored above the threshold"),
    ]
