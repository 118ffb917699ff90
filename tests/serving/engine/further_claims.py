"""Answers of the engine where a bundle declares a further claim: slices in any order, lost ones, shares, receipts."""

from __future__ import annotations

import random

import numpy as np

from certify.claims.procedures import PROCEDURES, made
from certify.receipts.recheck import recheck
from certify.smoothing.ball import parse as parse_ball
from serving.engine.job import Job, SliceResult
from serving.engine.shares import ShareJob, merge
from serving.messages import Reply
from serving.security.signing import Notary, Signer, parse
from tests.half_space import CUT
from tests.serving.engine.test_shares import task_of

NOTARY = Notary(signer=Signer(bytes(32)), runtime="none")
BASE = np.array([0.25, 0.75], np.float32)
DRAWS = 1_600


def task(bundle, first=145, mode="best", draws=DRAWS, **changes):
    ball = parse_ball(bundle.manifest.formulas.parts, 12.0)
    rows = (np.array([first, 1, 2, 3], np.int32),)
    changes = {"rows": rows, "procedure": made(PROCEDURES[mode], ball, 4.0, draws), "receipt": True} | changes
    own = (b"s" * 16,) if mode == "fixed" else ()
    return task_of(mode, draws, digest=bundle.digest, alpha=0.001, score_keys=own, **changes)


def plain_votes(column):
    """Votes without grades, and scores."""
    return (column > CUT).astype(np.int64), column.astype(np.float32)


def slices(job, lost=(), network=plain_votes):
    """All slices of a job by their places; those `lost` come to nothing."""
    found = {}
    for place in range(job.first, job.max_draws, 32):
        rows, (key, start) = min(32, job.max_draws - place), job.source(place)
        column = job.law.sample(key, start, start + rows)[:, 0]
        found[place] = SliceResult(rows, *((None, None) if place in lost else network(column)))
    return found


def answered(bundle, asked, lost=(), order=list, late=0, network=plain_votes):
    """The answer where slices come in this order, the base prediction after so many of them."""
    job = Job(bundle, asked, 0, NOTARY)
    found = slices(job, lost, network)
    for number, place in enumerate(order(found)):
        if number == late:
            job.receive_base(BASE)
        job.receive(place, found[place])
    return job.answer()


def merged(bundle, asked, lost=(), network=plain_votes):
    """The answer from shares of two engines, whose slices come shuffled."""
    ranges, replies = (range(800), range(800, DRAWS)), []
    for draws in ranges:
        job = ShareJob(bundle, asked, 0, draws)
        job.receive_base(BASE)
        found = slices(job, lost, network)
        for place in shuffled(found):
            job.receive(place, found[place])
        replies.append(Reply(rows=(job.answer(),), queue_s=0.0, compute_s=0.0, digest=bundle.digest, runtime="none"))
    return merge(bundle, asked, ranges, replies).rows[0]


def shuffled(places):
    return random.Random(4).sample(list(places), len(places))


def receipt_of(answer):
    return parse(answer.receipt.encode()).receipt


def wrong(receipt):
    return [each.field for each in recheck(receipt) if not each.agrees]
