"""The draws of a receipt made again, from its keys and ranges, through a callable graph, and compared with its counts.

What the graph was is the caller's to show: the bundle's digest is in the receipt. Two runtimes whose votes differ are two
classifiers, so a replay elsewhere than on the receipt's runtime may differ without any wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.claims.confidence import grades_of, labels_of
from certify.claims.joint import joint_votes
from certify.ood.verdict import Detector, tally
from certify.receipts.confidence_record import ConfidenceRecord
from certify.receipts.joint_record import JointRecord
from certify.receipts.receipt import Receipt, parameters_of
from certify.receipts.recheck import Finding, terms_of
from certify.receipts.records import ScoreRecord
from certify.smoothing.keys import lattice_digest
from certify.smoothing.law import Law, LawAt
from certify.smoothing.laws import GAUSSIAN

_AT_ONCE = 256  # draws held in memory together

NoisyRun = Callable[[NDArray[np.int32]], tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Votes and scores (rows,) of noisy lattice inputs (rows, *shape); the vote after the last class is "none", and votes may
have grades, see `certify.claims.confidence`."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Drawn:
    votes: NDArray[np.int64]
    scores: NDArray[np.float64]


def replay(
    receipt: Receipt,
    law: Law,
    lattice: NDArray[np.int32],
    run: NoisyRun,
    calibration: NDArray[np.float64] | None = None,
) -> list[Finding]:
    """Every counted field beside what the same draws give now; another input or law is found before anything is drawn.

    A draw that was lost has a result now. It may be any: each count may only have grown, by as much as was lost in all,
    and each bound of a score may only have become narrower. `calibration` are the bundle's sorted scores; without them
    the p-value's count is left out. `run` takes any number of rows, and has to run them in batches of the served shape.
    """
    at = law.at(lattice)
    findings = _same_input(receipt, at, lattice)
    if not all(each.agrees for each in findings):
        return findings
    key, ours = bytes.fromhex(receipt.noise.key), receipt.score_draws
    graded = _draw(key, receipt.draws, at, run)
    drawn = _Drawn(votes=labels_of(graded.votes, len(receipt.votes)), scores=graded.scores)
    findings.append(_votes(receipt, drawn.votes))
    if receipt.joint is not None:
        findings.append(_joint(receipt, receipt.joint, drawn))
    if receipt.confidence is not None:
        findings.append(_confidence(receipt, receipt.confidence, graded.votes))
    if receipt.scores is not None:
        if (ours.key, ours.stop) != (receipt.noise.key, receipt.draws):
            drawn = _draw(bytes.fromhex(ours.key), ours.stop, at, run)
        findings += _scores(receipt, receipt.scores, drawn.scores, calibration)
    return findings


def _same_input(receipt: Receipt, at: LawAt, lattice: NDArray[np.int32]) -> list[Finding]:
    digest, charge = "sha256:" + lattice_digest(lattice).hex(), at.guarantee.charge
    said, same_law = receipt.noise.charge, parameters_of(receipt.noise) == dict(at.guarantee.parameters)
    return [
        _finding("input.shape", receipt.input.shape, lattice.shape),
        _finding("input.digest", receipt.input.digest, digest),
        _finding("noise.law", receipt.noise.law or GAUSSIAN, at.name),
        _finding("noise.stream", receipt.noise.stream, at.stream),
        Finding(
            field="noise.parameters", said=parameters_of(receipt.noise), found=at.guarantee.parameters, agrees=same_law
        ),
        # The law's own bound rests on a special function; the last places may differ on another platform.
        Finding(field="noise.charge", said=said, found=charge, agrees=said >= charge * (1 - 1e-9)),
    ]


def _draw(key: bytes, draws: int, at: LawAt, run: NoisyRun) -> _Drawn:
    votes, scores = [], []
    for start in range(0, draws, _AT_ONCE):
        stop = min(start + _AT_ONCE, draws)
        vote, score = run(at.sample(key, start, stop))
        votes.append(vote)
        scores.append(np.where(np.isnan(score), np.inf, score).astype(np.float64))
    return _Drawn(
        votes=np.concatenate([np.zeros(0, dtype=np.int64), *votes]), scores=np.concatenate([np.zeros(0), *scores])
    )


def _votes(receipt: Receipt, drawn: NDArray[np.int64]) -> Finding:
    none = receipt.draws - sum(receipt.votes) - receipt.lost
    found = np.bincount(drawn, minlength=len(receipt.votes) + 1)
    fits = found.size == len(receipt.votes) + 1 and bool(np.all(found >= [*receipt.votes, none]))
    return Finding(field="votes", said=receipt.votes, found=tuple(found[:-1].tolist()), agrees=fits)


def _joint(receipt: Receipt, said: JointRecord, drawn: _Drawn) -> Finding:
    """The joint labels; none of their counts may have become smaller, nor that of the votes for none."""
    found = joint_votes(drawn.votes, drawn.scores, said.threshold, len(receipt.votes))
    none = receipt.draws - sum(said.votes) - receipt.lost
    fits = bool(np.all(found >= said.votes)) and drawn.votes.size - int(found.sum()) >= none
    return Finding(field="joint.votes", said=said.votes, found=tuple(found.tolist()), agrees=fits)


def _confidence(receipt: Receipt, said: ConfidenceRecord, votes: NDArray[np.int64]) -> Finding:
    """The votes for the leader above each threshold; none of their counts may have become smaller."""
    classes, leader = len(receipt.votes), receipt.votes.index(max(receipt.votes))
    grades = grades_of(votes[labels_of(votes, classes) == leader], classes)
    found = tuple(int(np.sum(grades > place)) for place in range(len(said.thresholds)))
    grew = [new - old for new, old in zip(found, said.reached, strict=True)]
    fits = all(0 <= more <= receipt.lost for more in grew)
    return Finding(field="confidence.reached", said=said.reached, found=found, agrees=fits)


def _scores(
    receipt: Receipt, said: ScoreRecord, drawn: NDArray[np.float64], calibration: NDArray[np.float64] | None
) -> list[Finding]:
    known = np.zeros(0) if calibration is None else calibration
    detector = Detector(
        threshold=said.threshold,
        radius=said.radius,
        score_draws=said.score_draws,
        calibration=known,
        alarm=said.alarm.terms if said.alarm else None,
    )
    found, lost = tally(drawn, terms_of(receipt), detector), receipt.score_draws.lost
    findings = [_finding("scores.score", said.score, found.score)]
    if said.score is None and lost:
        findings = []  # one of the first draws may have been lost
    elif calibration is not None:
        findings.append(_finding("scores.calibration_at_least", said.calibration_at_least, found.calibration_at_least))
    if said.alarm is not None and found.above_alarm is not None:
        findings.append(_bound("alarm.above", said.alarm.above, found.above_alarm, lost))
    return findings + [
        _bound(name, getattr(said, name), getattr(found, name), lost)
        for name in ("above", "at_most", "lowest", "highest")
    ]


def _bound(name: str, old: float, new: float, lost: int) -> Finding:
    narrower = new <= old if name == "highest" else new >= old
    return Finding(field=f"scores.{name}", said=old, found=new, agrees=narrower if lost else new == old)


def _finding(field: str, said: object, found: object) -> Finding:
    return Finding(field=field, said=said, found=found, agrees=said == found)
