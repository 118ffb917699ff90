"""The receipt of one row: what was counted, and how, as `certify.receipts.receipt` has it. Pure, and not yet signed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from certify.claims.certificate import Certificate, Terms
from certify.claims.confidence import Confidence
from certify.claims.counts import Counts
from certify.claims.procedures import Fixed, Precision, RunningProcedure, Target
from certify.ood.joint_label import JointLabel
from certify.ood.verdict import Ood, ScoreCounts
from certify.receipts.alarm_record import alarm_record
from certify.receipts.confidence_record import ConfidenceRecord
from certify.receipts.joint_record import JointRecord
from certify.receipts.prior_record import prior_record
from certify.receipts.receipt import (
    Receipt,
    bounds_at_any_time,
    is_fixed,
    parameters_of,
    prior_of,
    recorded,
    split_of_fixed,
    split_record,
)
from certify.receipts.recheck import claims, mixture_claim, stop_reason
from certify.receipts.records import (
    InputRecord,
    ModelRecord,
    NoiseRecord,
    ProcedureRecord,
    ScoreDraws,
    ScoreRecord,
)
from certify.receipts.versions import schema_of
from certify.receipts.whole_ball import whole_ball
from certify.smoothing.keys import lattice_digest
from certify.smoothing.law import LawAt
from certify.smoothing.laws import GAUSSIAN
from export.bundle import Bundle
from serving.messages import Task


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Counted:
    """What a job counted and answered: `certificate` is what the counts prove, whether or not it was asked for.

    `joint_votes` are those of each joint label, `reached` those for the leader above each threshold of confidence; None
    where that was not asked for or is not declared.
    """

    counts: Counts
    scores: ScoreCounts | None
    procedure: RunningProcedure | None
    max_draws: int
    certificate: Certificate | None
    ood: Ood | None
    joint_votes: tuple[int, ...] | None = None
    joint: JointLabel | None = None
    reached: tuple[int, ...] | None = None
    confidence: Confidence | None = None


def receipt(bundle: Bundle, runtime: str, task: Task, row: int, terms: Terms, counted: Counted) -> Receipt:
    """The receipt of one row. It claims what was asked for, and nothing that is not certified."""
    weight = mixture_weight(bundle, task) if counted.certificate else None
    certificate = counted.certificate if "certificate" in task.parts else None
    prior, two_sided = prior_record(terms.prior), (terms.two_sided and counted.procedure is not None) or None
    scores = _scores(bundle, (task.score_keys or task.keys)[row], counted.scores)
    shares = terms.split.of_joint + terms.split.of_confidence
    further = bool(two_sided) or shares > 0 or bool(scores and scores.alarm)
    mixed = mixture_claim(counted.certificate, weight) if counted.certificate and weight is not None else None
    return Receipt(
        schema=schema_of(terms.law, prior, further),
        input=_input(bundle, task, row),
        model=_model(bundle, runtime),
        noise=_noise(bundle.law.at(task.rows[row]), task, row, counted.counts.draws),
        alpha=terms.alpha,
        split=split_record(terms.split),
        procedure=_procedure(bundle, task, counted),
        votes=counted.counts.votes,
        lost=counted.counts.lost,
        scores=scores,
        robust_weight=weight,
        claims=claims(certificate, counted.ood, mixed, counted.joint, counted.confidence),
        prior=prior,
        joint=_joint(counted),
        two_sided=two_sided,
        confidence=_confidence(bundle, counted),
    )


def mixture_weight(bundle: Bundle, task: Task) -> float | None:
    """The robust weight of the mixture that a task asks for, if the bundle declares one."""
    spec = bundle.manifest.mixture
    return spec.robust_weight if spec and "mixture" in task.parts else None


def _input(bundle: Bundle, task: Task, row: int) -> InputRecord:
    spec, lattice = bundle.manifest.input, task.rows[row]
    low, step, high = spec.line
    return InputRecord(
        digest="sha256:" + lattice_digest(lattice).hex(),
        shape=tuple(lattice.shape),
        low=low,
        step=step,
        high=high,
        units=spec.units,
    )


def _model(bundle: Bundle, runtime: str) -> ModelRecord:
    manifest = bundle.manifest
    return ModelRecord(name=manifest.name, version=manifest.version, digest=bundle.digest, runtime=runtime)


def _noise(law: LawAt, task: Task, row: int, draws: int) -> NoiseRecord:
    sigma, norm, more = recorded(law.guarantee.parameters)
    return NoiseRecord(
        stream=law.stream,
        law=law.name,
        sigma=sigma,
        norm=norm,
        parameters=more,
        charge=law.guarantee.charge,
        key=task.keys[row].hex(),
        key_id=task.key_id,
        start=0,
        stop=draws,
    )


def _procedure(bundle: Bundle, task: Task, counted: Counted) -> ProcedureRecord:
    asked = task.procedure
    return ProcedureRecord(
        name=asked.name,
        target_radius=asked.ball.size if isinstance(asked, Target) else None,
        max_draws=counted.max_draws,
        stop_reason=stop_reason(counted.procedure, counted.counts, counted.max_draws),
        radius_tolerance=asked.tolerance if isinstance(asked, Precision) else None,
        menu_size=len(bundle.manifest.fixed_draws) if isinstance(asked, Fixed) else None,
        target=whole_ball(asked.ball) if isinstance(asked, Target) else None,
    )


def _scores(bundle: Bundle, key: bytes, counts: ScoreCounts | None) -> ScoreRecord | None:
    if counts is None or bundle.detector is None:
        return None
    fixed = bundle.detector.terms
    return ScoreRecord(
        threshold=fixed.threshold,
        radius=fixed.radius,
        score_draws=fixed.score_draws,
        calibration_size=fixed.calibration_size,
        score=counts.score,
        calibration_at_least=counts.calibration_at_least,
        above=counts.above,
        at_most=counts.at_most,
        rank=counts.rank,
        lowest=counts.lowest,
        highest=counts.highest,
        drawn=ScoreDraws(key=key.hex(), start=0, stop=counts.draws, lost=counts.lost),
        alarm=alarm_record(fixed.alarm, counts.above_alarm),
    )


def _joint(counted: Counted) -> JointRecord | None:
    if counted.joint is None or counted.joint_votes is None:
        return None
    return JointRecord(threshold=counted.joint.threshold, votes=counted.joint_votes)


def _confidence(bundle: Bundle, counted: Counted) -> ConfidenceRecord | None:
    if counted.confidence is None or counted.reached is None:
        return None
    return ConfidenceRecord(thresholds=bundle.manifest.thresholds, reached=counted.reached)


def undeclared(bundle: Bundle, found: Receipt) -> list[str]:
    """The fields of a receipt that are not what this bundle declares, by name; in none of them may a request choose."""
    spec, fixed = bundle.manifest, is_fixed(found)
    menu, split = found.procedure.menu_size, split_of_fixed(found) if fixed else spec.alpha_split
    scores, joint, detector = found.scores, found.joint, bundle.detector
    said: dict[str, tuple[object, object]] = {
        "model.digest": (found.model.digest, bundle.digest),
        "model": ((found.model.name, found.model.version), (spec.name, spec.version)),
        "input.shape": (found.input.shape, spec.input.shape),
        "input": (_grid(found.input), (*spec.input.line, spec.input.units)),
        "noise.law": (found.noise.law or GAUSSIAN, bundle.law.name),
        "split": (found.split, split_record(split)),
        "votes": (len(found.votes), len(spec.labels)),
        "procedure.menu_size": (menu, None if menu is None else len(spec.fixed_draws)),
        "procedure.max_draws": (not fixed or found.procedure.max_draws in spec.fixed_draws, True),
        "robust_weight": (found.robust_weight or 0.0, _declared_weight(bundle, found)),
        "prior": (_foreseen(bundle, found), True),
        "two_sided": (bool(found.two_sided), spec.two_sided and bounds_at_any_time(found)),
        "scores": (scores and _fixed(scores), scores and detector and _fixed(detector.terms)),
        "scores.alarm": (
            scores and scores.alarm and scores.alarm.terms,
            None if fixed or not scores or not detector else detector.alarm,
        ),
        "confidence.thresholds": (
            found.confidence and found.confidence.thresholds,
            found.confidence and spec.thresholds,
        ),
        "joint.threshold": (joint and joint.threshold, joint and detector and detector.threshold),
    }
    said |= _law(bundle, found)
    return [name for name, (recorded, declared) in said.items() if recorded != declared]


def _foreseen(bundle: Bundle, found: Receipt) -> bool:
    """Whether a prior is one of those of the bundle, or none where it has none or the procedure needs none."""
    said, table = prior_of(found), bundle.prior
    if said is None or table is None:
        return said is None and (table is None or not bounds_at_any_time(found))
    return said in table.cells


def _law(bundle: Bundle, found: Receipt) -> dict[str, tuple[object, object]]:
    """The law's parameters, which depend on an input by its shape at most."""
    declared = bundle.law.at(np.zeros(bundle.manifest.input.shape, dtype=np.int32)).guarantee.parameters
    recorded = parameters_of(found.noise)
    return {f"noise.{name}": (recorded.get(name), declared.get(name)) for name in {**recorded, **declared}}


def _grid(record: InputRecord) -> tuple[float, float, float, str]:
    return record.low, record.step, record.high, record.units


def _fixed(scores: object) -> list[object]:
    return [getattr(scores, name) for name in ("threshold", "radius", "score_draws", "calibration_size")]


def _declared_weight(bundle: Bundle, found: Receipt) -> float:
    spec = bundle.manifest.mixture
    return spec.robust_weight if spec and found.robust_weight is not None else 0.0
