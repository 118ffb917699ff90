"""What a receipt proves: every claim recomputed from its counts alone, without model, input or key.

The claims come from the very procedures that made them. No signature is looked at here: these are the mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from certify.bounds.anytime import KAPPA, KAPPA_UPPER
from certify.claims.certificate import Certificate, Terms
from certify.claims.confidence import Confidence, confidence
from certify.claims.counts import Counts
from certify.claims.procedures import PROCEDURES, Asked, RunningProcedure, made, run
from certify.mixture.mix import ball as mixture_ball
from certify.ood.joint_label import JointLabel, in_agreement, joint_label
from certify.ood.verdict import Ood, ScoreCounts, ScoreTerms, proving_rank, verdict
from certify.receipts.claim_records import (
    CertificateClaim,
    Claims,
    ConfidenceClaim,
    JointClaim,
    MixtureClaim,
    ScoreClaim,
)
from certify.receipts.receipt import (
    Receipt,
    alpha_split,
    is_fixed,
    law_of,
    prior_of,
    target_of,
)
from certify.receipts.versions import FIRST, WITH_TOLERANCE
from certify.receipts.whole_ball import WholeBall, as_large, whole_ball
from certify.smoothing.ball import Ball

TOLERANCE = 1e-9
"""How far, relatively, a bound may be off on another platform: special functions differ in their last places there.

A radius is compared in units of an eighth of the law's reach, which is sigma where the noise is Gaussian. What is no result
of a special function has to be equal. Logarithms of the beta function grow with the draws, and their last places with them:
from `_MANY` draws on, the tolerance grows, too."""
_MANY = 1_000_000
_SUMS = {"lower": 1.0, "lower_at_input": 1.0}
"""Sums of small and of large numbers between 0 and 1, compared in that unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One field of a receipt, what it says, what was found, and whether the two agree."""

    field: str
    said: object
    found: object
    agrees: bool


def stop_reason(procedure: RunningProcedure | None, counts: Counts, max_draws: int) -> str:
    """What ended the draws, from the counts alone: "max_draws", "decided" by the procedure, or "cut" from outside."""
    if counts.draws >= max_draws:
        return "max_draws"
    return "decided" if procedure and procedure.receive(counts) else "cut"


def claims(
    certificate: Certificate | None,
    ood: Ood | None,
    mixed: MixtureClaim | None,
    joint: JointLabel | None = None,
    confident: Confidence | None = None,
) -> Claims:
    """The claims of an answer as a receipt records them."""
    return Claims(
        certificate=None if certificate is None else _certificate_claim(certificate),
        ood=None if ood is None else _score_claim(ood),
        mixture=mixed,
        joint=None if joint is None else _joint_claim(joint),
        confidence=None if confident is None else _confidence_claim(confident),
    )


def mixture_claim(certificate: Certificate, robust_weight: float) -> MixtureClaim:
    """What is certified of a mixture: a function of the certificate and the weight alone."""
    kept = mixture_ball(certificate, robust_weight)
    if kept is None or kept.empty:
        return MixtureClaim(class_index=None, radius=0.0)
    return MixtureClaim(class_index=certificate.class_index, radius=kept.size, ball=whole_ball(kept))


def _certificate_claim(certificate: Certificate) -> CertificateClaim:
    return CertificateClaim(
        status=certificate.status,
        class_index=certificate.class_index,
        radius=certificate.radius,
        p_a_lower=certificate.p_a_lower,
        p_b_upper=certificate.p_b_upper,
        ball=whole_ball(certificate.ball),
    )


def _score_claim(ood: Ood) -> ScoreClaim:
    certified = ood.certified
    return ScoreClaim(
        score=ood.score,
        p_value=ood.p_value,
        in_distribution=ood.in_distribution,
        verdict=certified.verdict if certified else None,
        score_lower=certified.score_lower if certified else None,
        score_upper=certified.score_upper if certified else None,
        robust_alarm=ood.robust_alarm.raised if ood.robust_alarm else None,
    )


def _joint_claim(joint: JointLabel) -> JointClaim:
    return JointClaim(
        verdict=joint.verdict,
        class_index=joint.class_index,
        radius=joint.radius,
        p_lower=joint.p_lower,
        ball=whole_ball(joint.ball),
    )


def _confidence_claim(found: Confidence) -> ConfidenceClaim:
    return ConfidenceClaim(
        class_index=found.class_index,
        radius=found.radius,
        lower=found.lower,
        lower_at_input=found.lower_at_input,
        ball=whole_ball(found.ball),
    )


def recheck(receipt: Receipt) -> list[Finding]:
    """Every claim of a receipt beside what its counts prove, by the procedures that made it; a claim too many differs.

    The stop reason and the rank of the score interval are functions of the counts, and are compared as well.
    """
    terms, counts = terms_of(receipt), _counts(receipt)
    said_of = receipt.procedure
    procedure = run(asked(receipt), terms, said_of.max_draws)
    certificate = procedure.conclude(counts) if procedure else None
    certificate, ood, joint = in_agreement(terms, counts, certificate, _ood(receipt, terms), _joint(receipt, terms))
    said, reach = receipt.claims, terms.law.reach
    off = TOLERANCE * max(1.0, counts.draws / _MANY)
    reason = stop_reason(procedure, counts, said_of.max_draws)
    findings = [_compared("procedure.stop_reason", said_of.stop_reason, reason)]
    proven = certificate and _certificate_claim(certificate)
    findings += _parts("claims.certificate", said.certificate, proven if said.certificate else None, reach, off)
    mixed = None
    if certificate and receipt.robust_weight is not None:
        mixed = mixture_claim(certificate, receipt.robust_weight)
    findings += _parts("claims.mixture", said.mixture, mixed, reach, off)
    if receipt.scores is not None:
        rank = proving_rank(receipt.score_draws.stop, terms, receipt.scores.radius)
        findings.append(_compared("scores.rank", receipt.scores.rank, rank))
    findings += _parts("claims.ood", said.ood, ood and _score_claim(ood))
    if said.joint is not None:
        findings += _parts("claims.joint", said.joint, joint and _joint_claim(joint), reach, off)
    if said.confidence is not None:
        confident = _confidence(receipt, terms, certificate)
        found = confident and _confidence_claim(confident)
        findings += _parts("claims.confidence", said.confidence, found, reach, off)
    return findings


def _ood(receipt: Receipt, terms: Terms) -> Ood | None:
    record = receipt.scores
    if record is None:
        return None
    fixed = ScoreTerms(
        threshold=record.threshold,
        radius=record.radius,
        score_draws=record.score_draws,
        calibration_size=record.calibration_size,
        alarm=record.alarm.terms if record.alarm else None,
    )
    drawn, above = receipt.score_draws, record.alarm.above if record.alarm else None
    said = {name: getattr(record, name) for name in _COUNTED_SCORES}
    counts = ScoreCounts(draws=drawn.stop, lost=drawn.lost, above_alarm=above, **said)
    return verdict(counts, terms, fixed, certify=not is_fixed(receipt))


def _joint(receipt: Receipt, terms: Terms) -> JointLabel | None:
    joint = receipt.joint
    if joint is None:
        return None
    counts = Counts(draws=receipt.draws, votes=joint.votes, lost=receipt.lost)
    return joint_label(counts, terms, joint.threshold)


def _confidence(receipt: Receipt, terms: Terms, certificate: Certificate | None) -> Confidence | None:
    found = receipt.confidence
    if found is None or certificate is None:
        return None
    return confidence(certificate, found.reached, found.thresholds, terms)


_COUNTED_SCORES = ("score", "calibration_at_least", "above", "at_most", "rank", "lowest", "highest")


def terms_of(receipt: Receipt) -> Terms:
    """What bundle and request had fixed before the first draw, and the prior of the receipt's version."""
    return Terms(
        law=law_of(receipt),
        alpha=receipt.alpha,
        split=alpha_split(receipt),
        classes=len(receipt.votes),
        kappa_upper=KAPPA if receipt.schema in (FIRST, WITH_TOLERANCE) else KAPPA_UPPER,
        prior=prior_of(receipt),
        two_sided=bool(receipt.two_sided),
    )


def _counts(receipt: Receipt) -> Counts:
    return Counts(draws=receipt.draws, votes=receipt.votes, lost=receipt.lost)


def asked(receipt: Receipt) -> Asked:
    """What was asked for."""
    said = receipt.procedure
    return made(PROCEDURES[said.name], target_of(receipt), said.radius_tolerance, said.max_draws)


def _parts(
    place: str, said: object, found: object, reach: Ball | None = None, off: float = TOLERANCE
) -> Iterator[Finding]:
    """The fields of a claim, one by one; `reach` is given where special functions gave them, which may be `off`. A ball is
    there only where balls have several parts, and what is declared apart only where it is.
    """
    if said is None or found is None:
        yield _compared(place, said, found)
        return
    for field in fields(said):  # type: ignore[arg-type]
        pair = getattr(said, field.name), getattr(found, field.name)
        if field.default is None and pair == (None, None):
            continue  # what came with a later version, and is not there
        if field.name == "ball":
            yield _compared_balls(f"{place}.ball", *pair, reach, off)
            continue
        scale = None if reach is None else {"radius": reach.size / 8, **_SUMS}.get(field.name, 0.0)
        yield _compared(f"{place}.{field.name}", *pair, scale, off)


def _compared_balls(
    place: str, said: WholeBall | None, found: WholeBall | None, reach: Ball | None, off: float
) -> Finding:
    """Of the same parts, each as large as was found, up to what platforms differ in."""
    agrees = said == found or bool(said and found and reach and as_large(said, found, reach, off))
    return Finding(field=place, said=said, found=found, agrees=agrees)


def _compared(field: str, said: object, found: object, scale: float | None = None, off: float = TOLERANCE) -> Finding:
    agrees = said == found
    if scale is not None and isinstance(said, float) and isinstance(found, float):
        agrees = agrees or math.isclose(said, found, rel_tol=off, abs_tol=off * scale)
    return Finding(field=field, said=said, found=found, agrees=agrees)
