"""Receipts made by hand: what the half-space counts, with every field set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from certify.claims.certificate import AlphaSplit, Terms, class_alone
from certify.claims.counts import Counts
from certify.claims.procedures import run
from certify.ood.verdict import Detector, tally, verdict
from certify.receipts.receipt import SCHEMA, Receipt, split_record
from certify.receipts.recheck import claims, mixture_claim, stop_reason
from certify.receipts.records import (
    InputRecord,
    ModelRecord,
    NoiseRecord,
    ProcedureRecord,
    ScoreDraws,
    ScoreRecord,
)
from certify.smoothing.gaussian import Gaussian
from tests.certify.gaussian import asked

SPLIT = AlphaSplit(of_class=0.5, of_upper=0.2, of_threshold=0.1, of_interval=0.2)
DETECTOR = Detector(threshold=160.0, radius=8.0, score_draws=32, calibration=np.linspace(0.0, 180.0, 999))


def made(
    mode="target",
    draws=320,
    hits=310,
    lost=0,
    max_draws=320,
    alpha=2.0**-10,
    target_radius=8.0,
    tolerance=8.0,
    scores=None,
    menu=3,
):
    """A receipt of `hits` votes for class 1; `scores` are those of the draws, of `fixed` of 32 others, a lost one NaN."""
    split = class_alone(menu) if mode == "fixed" else SPLIT
    terms = Terms(law=Gaussian(16.0, 2.0**-40), alpha=alpha, split=split, classes=2)
    counts = Counts(draws=draws, votes=(draws - hits - lost, hits), lost=lost)
    procedure = run(asked(mode, target_radius, tolerance, max_draws), terms, max_draws)
    certificate = procedure and procedure.conclude(counts)
    scored = np.arange(32 if mode == "fixed" else draws)
    values = np.where((scored < lost) & (mode != "fixed"), np.nan, 120.0 + scored % 32) if scores is None else scores
    found = tally(values, terms, DETECTOR)
    ood = verdict(found, terms, DETECTOR.terms, certify=mode != "fixed")
    counted = {name: getattr(found, name) for name in found.__slots__ if name not in ("draws", "lost", "above_alarm")}
    fixed = {name: getattr(DETECTOR.terms, name) for name in DETECTOR.terms.__slots__}
    return Receipt(
        schema=SCHEMA,
        input=InputRecord(digest="sha256:" + "1" * 64, shape=(4,), low=0.0, step=1.0, high=255.0, units="steps"),
        model=ModelRecord(name="half-space", version="1", digest="sha256:" + "2" * 64, runtime="none"),
        noise=NoiseRecord(
            stream="noise-v1",
            law="gaussian",
            sigma=16.0,
            norm="l2",
            charge=2.0**-40,
            key="3" * 32,
            key_id="4" * 12,
            start=0,
            stop=draws,
        ),
        alpha=alpha,
        split=split_record(split),
        procedure=ProcedureRecord(
            name=mode,
            target_radius=target_radius if mode == "target" else None,
            max_draws=max_draws,
            stop_reason=stop_reason(procedure, counts, max_draws),
            radius_tolerance=tolerance if mode == "precision" else None,
            menu_size=menu if mode == "fixed" else None,
        ),
        votes=counts.votes,
        lost=lost,
        scores=ScoreRecord(
            **fixed,
            **counted,
            drawn=ScoreDraws(key=("5" if mode == "fixed" else "3") * 32, start=0, stop=values.size, lost=found.lost),
        ),
        robust_weight=0.9 if certificate else None,
        claims=claims(certificate, ood, mixture_claim(certificate, 0.9) if certificate else None),
    )


def altered(receipt, path, value):
    """A receipt with the field at this dotted path changed."""
    head, _, rest = path.partition(".")
    return replace(receipt, **{head: altered(getattr(receipt, head), rest, value) if rest else value})
