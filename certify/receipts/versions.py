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
  `certify.receipts.joint_record`, which says what each holds and what the counts prove."""
SCHEMAS = (FIRST, WITH_TOLERANCE, THIRD, SCHEMA, FIFTH, SIXTH)


def schema_of(law: Guarantee, prior: PriorRecord | None, further: bool) -> str:
    """The version in which an answer under this law and prior is recorded; `further` claims are those of version 6."""
    if further:
        return SIXTH
    return FIFTH if prior is not None or len(law.parts) > 1 else SCHEMA
