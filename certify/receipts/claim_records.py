"""The claims of an answer as receipts have them: what was said, which `certify.receipts.recheck` compares."""

from __future__ import annotations

from dataclasses import dataclass

from certify.receipts.whole_ball import WholeBall


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateClaim:
    """The answer's certificate. Abstention is no class, no `p_a_lower`, radius 0 and no ball."""

    status: str
    class_index: int | None
    radius: float
    p_a_lower: float | None
    p_b_upper: float
    ball: WholeBall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreClaim:
    """The answer's verdict on the score. `verdict` is None where nothing is certified; absent bounds are trivial."""

    score: float
    p_value: float
    in_distribution: bool
    verdict: str | None
    score_lower: float | None
    score_upper: float | None
    robust_alarm: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureClaim:
    """What is certified of the answer's mixture: its label in a ball larger than a point, else nothing."""

    class_index: int | None
    radius: float
    ball: WholeBall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JointClaim:
    """The answer's joint label, from version 6 on.

    `verdict` is "in_distribution" with a class, "out_of_distribution" without one, or "undetermined" where it abstains: then
    there is neither class nor `p_lower`, the radius is 0 and there is no ball.
    """

    verdict: str
    class_index: int | None
    radius: float
    p_lower: float | None
    ball: WholeBall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceClaim:
    """The answer's confidence in the certified class, from version 6 on. Abstention is no class, no numbers and radius 0."""

    class_index: int | None
    radius: float
    lower: float | None
    lower_at_input: float | None
    ball: WholeBall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Every claim of the answer; None where that part was not asked for or could not be had."""

    certificate: CertificateClaim | None
    ood: ScoreClaim | None
    mixture: MixtureClaim | None
    joint: JointClaim | None = None
    confidence: ConfidenceClaim | None = None
