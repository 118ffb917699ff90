"""The versions of receipts: what each has that those before had not. None changes once it was released."""

from __future__ import annotations

from certify.receipts.prior_record import PriorRecord
from certify.smoothing.law import Guarantee

FIRST = "certserve-receipt/1"
WITH_TOLERANCE = "certserve-receipt/2"
"""Version 2 is version 1 for the procedure `precision`: the record of the procedure has a `radius_tolerance`."""
THIRD = "certserve-receipt/3"
"""Version 3 says of which draws the scores are, and how long the menu of `fixed` is: alpha is split over it. In versions 1
and 2 scores and votes are of the same draws, `fixed` spends alpha whole, and upper bounds have the prior `anytime.KAPPA` in
place of `anytime.KAPPA_UPPER`."""
SCHEMA = "certserve-receipt/4"
"""Version 4, in which every answer is recorded whose balls have one part, names the law of the noise; before, it is the
Gaussian one."""
FIFTH = "certserve-receipt/5"
"""Version 5 is version 4 for what few answers have: whole balls, where a law's have several parts, beside the radii, which
are the sizes of their first ones; the prior of the class's bounds, where the bundle foresees the votes."""
SIXTH = "certserve-receipt/6"
"""Version 6 is version 5 for claims that a bundle may declare beside the others, each a member that is left out where the
bundle does not:

- `split.of_joint`, and where it was asked for `joint` and `claims.joint`: the joint label, see
  `certify.receipts.joint_record`, which says what each holds and what the counts prove;
- `split.of_confidence`, and where it was asked for `confidence` and `claims.confidence`: the confidence in the certified
  class, see `certify.receipts.confidence_record`, which says likewise;
- `scores.alarm`, and `claims.ood.robust_alarm`: the robust alarm, see `certify.receipts.alarm_record`, which says likewise;
- `two_sided` at the top, true: the class is compared with the best of the others, see `certify.claims.two_sided`. It stands
  beside `target`, `best` and `precision` alone, under a law whose balls have one part. Let n be the draws, l those lost, k
  the votes of the leader (the label with most, the first of equals), k2 the most votes of another label, and r the larger
  of k2 and the votes for "none". `L(h)` is the lower bound that versions 4 and 5 have for h votes (level `alpha *
  split.of_class` times the candidate value, by the `prior` if there is one), less `noise.charge`. `U(h)` is the upper bound
  of h votes, h at most n, at the plain level `alpha * split.of_upper / 2`, of the prior kappa = 1/2, plus `noise.charge`, at
  most 1. Then
    - `p_b = min(U(r + l), 1 - L(k))`, and `radius = sigma/2 (Phi^-1(L(k)) - Phi^-1(p_b))`, rounded down;
    - it abstains where that radius is not above 0, or n is 0: `p_b_upper` is `U(k + l)`; and where `U(k + l) < L(k)`: then
      the status is "undecided" and `p_b_upper` 1;
    - else `p_a_lower` is `L(k)` rounded down, and `p_b_upper` the smaller of p_b and `U(k + l)`;
    - `largest = sigma/2 (Phi^-1(U(k + l)) - Phi^-1(L(k2)))`, rounded up, with `L` at least 0;
    - target: "certified" where `radius` is at least the target, else "refuted" where `largest` is below it; precision:
      "certified" where `largest - radius`, rounded up, is at most the tolerance and there is a bound;
    - both stop by themselves only where n is a multiple of 32 * 2^max(0, b - 6), b being the number of binary digits of
      floor(n / 32);
    - the mixture's radius follows from `p_a_lower` and `p_b_upper` as in other versions."""
SCHEMAS = (FIRST, WITH_TOLERANCE, THIRD, SCHEMA, FIFTH, SIXTH)


def schema_of(law: Guarantee, prior: PriorRecord | None, further: bool) -> str:
    """The version in which an answer under this law and prior is recorded; `further` claims are those of version 6."""
    if further:
        return SIXTH
    return FIFTH if prior is not None or len(law.parts) > 1 else SCHEMA
