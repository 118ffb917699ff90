"""The receipt: a record of what was counted for one answer, and how. What it proves is for `certify.receipts.recheck`
to say.

The record knows nothing of its judge: its meanings never change and its schema only grows, by new versions beside the
old (the pattern of dp_accounting's dp_event). A version that is not known here is refused, and so is a field that is
unknown or missing. It holds all that a claim of the answer depends on, and nothing that is no claim: neither the base
network's answer, nor the mixture's estimates and its uncertified label.

**What suffices.** A certificate, its radius and the mixture's radius are functions of the votes, the lost draws and the
terms. The verdict needs two counts more, of the scores above and not above the threshold. An end of the score interval is
an order statistic: its rank follows from the number of draws and the terms, and the score of that rank is recorded as
it was found. The served score is such a record, too (the lower median of the first draws), and its p-value needs the
number of calibration scores that are not below it. Recorded scores, the key and the input's digest cannot be recomputed
from counts: a replay compares them.

A receipt reveals the noise key of one input, never the secret. It speaks of an honest server: one that picks its secret
after it has seen the input could search for a lucky key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from certify.bounds.anytime import MAX_DRAWS
from certify.bounds.prior import Prior
from certify.claims.certificate import WHOLE_ON_CLASS, AlphaSplit, class_alone
from certify.claims.procedures import PROCEDURES, Fixed, Off, Precision, Target
from certify.receipts import canonical, confidence_record, joint_record
from certify.receipts.alarm_record import alarm_holds
from certify.receipts.claim_records import Claims
from certify.receipts.confidence_record import ConfidenceRecord
from certify.receipts.joint_record import JointRecord
from certify.receipts.prior_record import PriorRecord
from certify.receipts.records import (
    InputRecord,
    ModelRecord,
    NoiseRecord,
    Parameter,
    ProcedureRecord,
    ScoreDraws,
    ScoreRecord,
    SplitRecord,
)
from certify.receipts.versions import FIFTH, FIRST, SCHEMA, SCHEMAS, SIXTH, THIRD, WITH_TOLERANCE, schema_of
from certify.receipts.whole_ball import ball_of, fault
from certify.smoothing.ball import Ball
from certify.smoothing.keys import KEY_BYTES, NOISE_V1
from certify.smoothing.law import Guarantee
from certify.smoothing.laws import GAUSSIAN, rebuilt

_OLDEST = (FIRST, WITH_TOLERANCE)
_SMALLEST_ALPHA, _SMALLEST_SHARE = 1e-12, 1e-100
_PUBLIC = ("sigma", "norm")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ReceiptError(ValueError):
    """A receipt is not one, is of an unknown version, or contradicts itself; the message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Versions 4 to 6, and those before as they were. Votes for "none" are those that `votes` and `lost` leave of the
    draws.

    `scores` and `robust_weight` are None where the answer has no such part. A receipt that contradicts itself cannot be
    built: `ReceiptError`.
    """

    schema: str
    input: InputRecord
    model: ModelRecord
    noise: NoiseRecord
    alpha: float
    split: SplitRecord
    procedure: ProcedureRecord
    votes: tuple[int, ...]
    lost: int
    scores: ScoreRecord | None
    robust_weight: float | None
    claims: Claims
    prior: PriorRecord | None = None
    joint: JointRecord | None = None
    two_sided: bool | None = None
    confidence: ConfidenceRecord | None = None

    def __post_init__(self) -> None:
        further = (*_joint_holds(self), *_confidence_holds(self))
        parts = (*_terms_hold(self), *_counts_hold(self), *_scores_hold(self), *further)
        for field, holds, expected in parts:
            if not holds:
                raise ReceiptError(f"{field}: expected {expected}")

    @property
    def draws(self) -> int:
        """The number of draws whose votes were counted."""
        return self.noise.stop

    @property
    def score_draws(self) -> ScoreDraws:
        """The draws whose scores were counted."""
        drawn = self.scores.drawn if self.scores else None
        return drawn or ScoreDraws(key=self.noise.key, start=self.noise.start, stop=self.noise.stop, lost=self.lost)

    def to_bytes(self) -> bytes:
        """The canonical bytes, which are what is signed."""
        return canonical.to_bytes(self)


def read(document: object) -> Receipt:
    """The receipt in a parsed JSON document. Raises `ReceiptError` for any other version, form or contradiction."""
    found = document.get("schema") if isinstance(document, dict) else None
    if found not in SCHEMAS:
        known = ", ".join(map(repr, SCHEMAS))
        raise ReceiptError(f"schema: {str(found)[:80]!r} is not a version that is known here, which is {known}")
    try:
        return canonical.from_document(Receipt, document)
    except canonical.FormError as error:
        raise ReceiptError(str(error)) from error


_Holds = tuple[str, bool, str]


def _terms_hold(receipt: Receipt) -> list[_Holds]:
    noise, grid, procedure = receipt.noise, receipt.input, receipt.procedure
    aimed, close = procedure.target_radius, procedure.radius_tolerance
    kind, menu = PROCEDURES.get(procedure.name), procedure.menu_size
    old = WITH_TOLERANCE if kind is Precision else FIRST
    known = (close is not None) == (kind is Precision) and (close is None or 0 < close < math.inf)
    has_menu = receipt.schema not in _OLDEST and kind is Fixed
    described, names = _law(receipt), [each.name for each in noise.parameters or ()]
    named = receipt.schema in (SCHEMA, FIFTH, SIXTH)
    return [
        ("schema", named or receipt.schema in (THIRD, old), f"{SCHEMA!r}, {THIRD!r} or {old!r}"),
        ("input.digest", bool(_DIGEST.fullmatch(grid.digest)), "sha256: and 64 hexadecimal digits"),
        ("input.shape", bool(grid.shape) and min(grid.shape) > 0, "one or more positive integers"),
        ("input", math.isfinite(grid.high - grid.low) and grid.high > grid.low and grid.step > 0, "a grid"),
        ("model.digest", bool(_DIGEST.fullmatch(receipt.model.digest)), "sha256: and 64 hexadecimal digits"),
        ("noise.law", (noise.law is not None) == named, "a name from version 4 on, else none"),
        *(_balls_hold(receipt) if described is None else [described]),
        ("noise.parameters", len({"sigma", "norm", *names}) == 2 + len(names), "each parameter once"),
        ("noise.stream", noise.stream == NOISE_V1 or noise.law not in (None, GAUSSIAN), repr(NOISE_V1)),
        ("noise.charge", 0 <= noise.charge < 1, "0 to 1"),
        ("noise.key", _is_key(noise.key), _KEY),
        ("alpha", _SMALLEST_ALPHA <= receipt.alpha <= 0.5, f"{_SMALLEST_ALPHA} to 0.5"),
        ("procedure.menu_size", (menu is not None) == has_menu, "a number if fixed from version 3 on, else none"),
        ("procedure.menu_size", menu is None or 1 <= menu <= MAX_DRAWS, f"1 to {MAX_DRAWS}"),
        ("split", _is_split(receipt), "shares that sum to at most one; if fixed one part of the menu, on the class"),
        ("procedure.name", kind is not None, f"one of {', '.join(PROCEDURES)}"),
        ("procedure.target_radius", (aimed is None) == (kind is not Target), "a radius if target, else none"),
        ("procedure.target_radius", aimed is None or 0 <= aimed < math.inf, "0 or more"),
        ("procedure.radius_tolerance", known, "more than 0 if precision, else none"),
        ("prior", _is_prior(receipt), "weights of atoms from 0 to 1, and none if off or fixed"),
        ("two_sided", _is_sided(receipt), "true or nothing, and nothing if off or fixed"),
        ("robust_weight", _in(receipt.robust_weight, 0, 1), "0 to 1"),
    ]


def _balls_hold(receipt: Receipt) -> list[_Holds]:
    """Whole balls of the law's own parts are recorded where they have several, and none where the radius says all."""
    parts, procedure, claims = law_of(receipt).parts, receipt.procedure, receipt.claims
    several, aimed = len(parts) > 1, procedure.target_radius
    said = {
        "procedure.target": fault(parts, aimed, procedure.target),
        "claims.certificate.ball": claims.certificate
        and fault(parts, claims.certificate.radius, claims.certificate.ball),
        "claims.mixture.ball": claims.mixture and fault(parts, claims.mixture.radius, claims.mixture.ball),
        "claims.joint.ball": claims.joint and fault(parts, claims.joint.radius, claims.joint.ball),
        "claims.confidence.ball": claims.confidence and fault(parts, claims.confidence.radius, claims.confidence.ball),
    }
    version = schema_of(law_of(receipt), receipt.prior, _has_further(receipt))
    newest = receipt.schema in (FIFTH, SIXTH) or version != SCHEMA
    return [
        *((name, False, wrong) for name, wrong in said.items() if wrong),
        ("schema", not newest or receipt.schema == version, f"{version!r}, the version of what it has"),
        ("two_sided", not (several and receipt.two_sided), "nothing where balls have several parts"),
        (
            "procedure.target",
            not several or (procedure.target is None) == (aimed is None),
            "a ball if target, else none",
        ),
    ]


def _has_further(receipt: Receipt) -> bool:
    alarm = receipt.scores.alarm if receipt.scores else None
    split = receipt.split
    return any(each is not None for each in (split.of_joint, split.of_confidence, receipt.two_sided, alarm))


def prior_of(receipt: Receipt) -> Prior | None:
    """The prior of a receipt; `ValueError` if it is none."""
    return None if receipt.prior is None else receipt.prior.prior()


def bounds_at_any_time(receipt: Receipt) -> bool:
    """Whether the procedure of a receipt bounds a class at every number of draws: so it may have a prior, a joint label, or
    two sides.
    """
    kind = PROCEDURES.get(receipt.procedure.name)
    return kind is not None and kind is not Off and kind.anytime


def _is_prior(receipt: Receipt) -> bool:
    try:
        return prior_of(receipt) is None or bounds_at_any_time(receipt)
    except ValueError:
        return False


def _is_sided(receipt: Receipt) -> bool:
    return receipt.two_sided is None or (receipt.two_sided and bounds_at_any_time(receipt))


def target_of(receipt: Receipt) -> Ball | None:
    """The ball that was aimed at, rebuilt through the law; None where none was."""
    said = receipt.procedure
    return None if said.target_radius is None else ball_of(law_of(receipt).parts, said.target_radius, said.target)


def parameters_of(noise: NoiseRecord) -> dict[str, float | str]:
    """The parameters of the law of a receipt, as the law has them."""
    found: dict[str, float | str] = {each.name: each.value for each in noise.parameters or ()}
    public = {"sigma": noise.sigma, "norm": noise.norm}
    return found | {name: value for name, value in public.items() if value is not None}


def recorded(parameters: Mapping[str, float | str]) -> tuple[float | None, str | None, tuple[Parameter, ...] | None]:
    """The parameters of a law as a receipt has them: `sigma` and `norm`, if there are such, and the others."""
    sigma, norm = parameters.get("sigma"), parameters.get("norm")
    more = [Parameter(name=name, value=float(value)) for name, value in parameters.items() if name not in _PUBLIC]
    return None if sigma is None else float(sigma), None if norm is None else str(norm), tuple(more) or None


def law_of(receipt: Receipt) -> Guarantee:
    """The law of a receipt, rebuilt from its name and parameters. Raises `ValueError`, which begins with the field."""
    return rebuilt(receipt.noise.law or GAUSSIAN, parameters_of(receipt.noise), receipt.noise.charge)


def _law(receipt: Receipt) -> _Holds | None:
    """What does not hold of the law's parameters, if anything."""
    try:
        law_of(receipt)
    except ValueError as error:
        field, _, expected = str(error).partition(": expected ")
        return (f"noise.{field}", False, expected)
    return None


_KEY = f"{2 * KEY_BYTES} hexadecimal digits"


def _is_key(text: str) -> bool:
    return bool(re.fullmatch(f"[0-9a-f]{{{2 * KEY_BYTES}}}", text))


def _in(value: float | None, low: float, high: float) -> bool:
    return value is None or low <= value <= high


def _is_split(receipt: Receipt) -> bool:
    try:
        split = alpha_split(receipt)
        declared = split_of_fixed(receipt) if is_fixed(receipt) else split
    except ValueError:
        return False
    shares = asdict(split).values()
    said = 0 not in (receipt.split.of_joint, receipt.split.of_confidence)
    return said and split == declared and all(share == 0 or share >= _SMALLEST_SHARE for share in shares)


def is_fixed(receipt: Receipt) -> bool:
    """Whether the draws of the votes are of a stream of their own, their number fixed beforehand."""
    return PROCEDURES.get(receipt.procedure.name) is Fixed


def split_of_fixed(receipt: Receipt) -> AlphaSplit:
    """The split that the version of a receipt of `fixed` has it spend; `ValueError` where its menu is none."""
    menu = receipt.procedure.menu_size
    return WHOLE_ON_CLASS if menu is None else class_alone(menu)


def alpha_split(receipt: Receipt) -> AlphaSplit:
    """The shares of a receipt as the procedures take them; `ValueError` if they are none."""
    return AlphaSplit(**{name: share for name, share in asdict(receipt.split).items() if share is not None})


def split_record(split: AlphaSplit) -> SplitRecord:
    """Shares as a receipt has them."""
    return SplitRecord(
        of_class=split.of_class,
        of_upper=split.of_upper,
        of_threshold=split.of_threshold,
        of_interval=split.of_interval,
        of_joint=split.of_joint or None,
        of_confidence=split.of_confidence or None,
    )


def _counts_hold(receipt: Receipt) -> list[_Holds]:
    counts, draws = (*receipt.votes, receipt.lost), receipt.draws
    return [
        ("noise.start", receipt.noise.start == 0, "0: only a prefix of the stream may be counted"),
        ("noise.stop", 0 <= draws <= receipt.procedure.max_draws <= MAX_DRAWS, f"0 to max_draws, to {MAX_DRAWS}"),
        ("procedure.max_draws", receipt.procedure.max_draws >= 1 or not is_fixed(receipt), "1 or more if fixed"),
        ("votes", len(receipt.votes) >= 2, "two classes or more"),
        ("votes", min(counts) >= 0 and sum(counts) <= draws, f"counts that sum with the lost draws to at most {draws}"),
    ]


def _joint_holds(receipt: Receipt) -> list[_Holds]:
    joint, scores = receipt.joint, receipt.scores
    claimed = (
        "joint",
        (joint is None) == (receipt.claims.joint is None),
        "counts if a joint label is claimed, else none",
    )
    if joint is None:
        return [claimed]
    has_share = receipt.split.of_joint is not None and bounds_at_any_time(receipt)
    return [
        claimed,
        ("joint", has_share, "none without a share of alpha, and none if off or fixed"),
        ("joint.threshold", scores is None or scores.threshold == joint.threshold, "that of the scores"),
        *joint_record.holds(
            joint, receipt.votes, receipt.lost, receipt.draws, None if scores is None else scores.above
        ),
    ]


def _confidence_holds(receipt: Receipt) -> list[_Holds]:
    found = receipt.confidence
    claimed = (
        "confidence",
        (found is None) == (receipt.claims.confidence is None),
        "counts if a confidence is claimed, else none",
    )
    if found is None:
        return [claimed]
    has_share = receipt.split.of_confidence is not None and bounds_at_any_time(receipt)
    return [
        claimed,
        ("confidence", has_share, "none without a share of alpha, and none if off or fixed"),
        *confidence_record.holds(found, receipt.votes),
    ]


def _scores_hold(receipt: Receipt) -> list[_Holds]:
    """Counts and order statistics of one list of scores: they determine on which side of the threshold each lies."""
    scores, drawn = receipt.scores, receipt.score_draws
    if scores is None:
        return []
    draws, lost = drawn.stop, drawn.lost
    found = [
        *_score_draws_hold(receipt, scores),
        ("scores.threshold", math.isfinite(scores.threshold), "a finite number"),
        ("scores.radius", 0 < scores.radius < math.inf, "a positive number"),
        ("scores.score_draws", scores.score_draws >= 1, "1 or more"),
        ("scores.score", scores.score is None or draws >= scores.score_draws, f"none within {draws} draws"),
        (
            "scores.calibration_at_least",
            0 <= scores.calibration_at_least <= scores.calibration_size,
            "0 to all of them",
        ),
        ("scores", min(scores.above, scores.at_most) >= 0, "counts"),
        ("scores", scores.above + scores.at_most + lost == draws, f"counts that sum with the lost draws to {draws}"),
        ("scores.alarm", scores.alarm is None or not is_fixed(receipt), "none if fixed"),
        *(alarm_holds(scores.alarm, scores.threshold, scores.above, draws - lost) if scores.alarm else []),
    ]
    if scores.rank is None:
        return [
            *found,
            ("scores", (scores.lowest, scores.highest) == (-math.inf, math.inf), "no bounds without a rank"),
        ]
    low_inside, high_inside = scores.lowest <= scores.threshold, scores.highest <= scores.threshold
    return [
        *found,
        ("scores.rank", 1 <= scores.rank <= draws, f"1 to {draws}"),
        ("scores.lowest", low_inside == (scores.at_most + lost >= draws + 1 - scores.rank), "what the counts allow"),
        ("scores.highest", high_inside == (scores.at_most >= scores.rank), "what the counts allow"),
    ]


def _score_draws_hold(receipt: Receipt, scores: ScoreRecord) -> list[_Holds]:
    said, drawn = scores.drawn, receipt.score_draws
    votes = ScoreDraws(key=receipt.noise.key, start=0, stop=receipt.draws, lost=receipt.lost)
    found = [
        ("scores.drawn", (said is not None) == (receipt.schema not in _OLDEST), "a range from version 3 on, else none"),
        ("scores.drawn.key", _is_key(drawn.key), _KEY),
        ("scores.drawn.start", drawn.start == 0, "0: only a prefix of the stream may be counted"),
        ("scores.drawn.lost", 0 <= drawn.lost <= drawn.stop, "some of the draws"),
    ]
    if said is None or not is_fixed(receipt):
        return [*found, ("scores.drawn", drawn == votes, "the draws of the votes, but for fixed")]
    return [
        *found,
        ("scores.drawn.key", drawn.key != votes.key, "another key than that of the votes if fixed"),
        ("scores.drawn.stop", drawn.stop <= scores.score_draws, "no more than score_draws if fixed"),
    ]
