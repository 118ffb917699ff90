"""A bundle that foresees votes from the base pass: the same claims from fewer draws, whatever comes first, and receipts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from certify.bounds.prior import PriorTable
from certify.claims.procedures import PROCEDURES, made
from certify.receipts.prior_record import PriorRecord
from certify.receipts.receipt import FIFTH, SCHEMA, ReceiptError
from certify.receipts.recheck import recheck
from certify.smoothing.ball import Euclidean
from certify.smoothing.ball import parse as parse_ball
from serving.engine.job import Job, SliceResult
from serving.engine.record import undeclared
from serving.engine.shares import ShareJob, merge
from serving.messages import Reply
from serving.security.signing import Notary, Signer, parse
from tests.half_space import write_half_space
from tests.serving.engine.test_shares import task_of

SURE, UNSURE = np.array([0.01, 0.99], np.float32), np.array([0.45, 0.55], np.float32)
TABLE = PriorTable(
    atoms=(0.0, 0.55, 0.75),
    margin_edges=(0.5,),
    score_edges=(),
    weights=(((0.0, 0.9, 0.1),), ((0.9, 0.05, 0.05),)),
)
NOTARY = Notary(signer=Signer(bytes(32)), runtime="none")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bundle(plain):
    return replace(plain, prior=TABLE)


def slices(share, draws=6_400, seed=0):
    votes = (np.random.default_rng(seed).random(draws) < share).astype(np.int64)
    return [(at, SliceResult(32, votes[at : at + 32], np.full(32, 90.0, np.float32))) for at in range(0, draws, 32)]


def task(mode="target", draws=6_400):
    """Of a ball of 12 steps, in the units of the bundle."""
    ball = parse_ball((Euclidean("steps"),), 12.0)
    procedure = made(PROCEDURES[mode], ball, 4.0, draws)
    return task_of(mode, draws, procedure=procedure, digest="sha256:" + "d" * 64, receipt=True, alpha=0.001)


def answered(bundle, mode="target", share=0.87, base=UNSURE, base_after=0, seed=0):
    """The answer where so many slices come before the base prediction."""
    job = Job(bundle, task(mode), 0, NOTARY)
    for number, (start, result) in enumerate(slices(share, seed=seed)):
        if number == base_after:
            job.receive_base(base)
        job.receive(start, result)
    return job.answer()


def receipt_of(answer):
    return parse(answer.receipt.encode()).receipt


def test_a_right_guess_saves_draws_and_a_wrong_one_proves_as_much(plain, bundle):
    def draws(of, base):
        return sum(answered(of, base=base, seed=seed).draws for seed in range(40))

    without = draws(plain, UNSURE)
    assert draws(bundle, UNSURE) < 0.98 * without
    assert draws(bundle, SURE) < 1.25 * without
    assert all(answered(bundle, base=SURE, seed=seed).certificate.status == "certified" for seed in range(20))


@pytest.mark.parametrize("mode", ["target", "best", "precision"])
def test_what_is_counted_does_not_depend_on_which_came_first(bundle, mode):
    """Draws before the base prediction wait for it: a look without the prior would stop elsewhere."""
    found = [answered(bundle, mode, base_after=late) for late in (0, 1, 7, 60)]
    assert len({(answer.draws, answer.certificate, answer.receipt) for answer in found}) == 1


def test_shares_of_several_engines_give_the_answer_of_one(bundle):
    whole, of_best = answered(bundle, "best", base_after=3), task("best")
    ranges, replies = (range(3_200), range(3_200, 6_400)), []
    for draws in ranges:
        job = ShareJob(bundle, replace(of_best, receipt=False), 0, draws)
        job.receive_base(UNSURE)
        for start, result in slices(0.87):
            if start in draws:
                job.receive(start, result)
        replies.append(Reply(rows=(job.answer(),), queue_s=0.0, compute_s=0.0, digest=bundle.digest, runtime="none"))
    merged = merge(bundle, replace(of_best, receipt=False, digest=bundle.digest), ranges, replies)
    assert merged.rows[0].certificate == whole.certificate


@pytest.mark.parametrize("base", [SURE, UNSURE], ids=["sure", "unsure"])
@pytest.mark.parametrize("mode", ["target", "best", "precision"])
def test_a_receipt_names_the_prior_and_proves_its_claims_with_it(bundle, mode, base):
    receipt = receipt_of(answered(bundle, mode, base=base))
    assert receipt.schema == FIFTH
    assert receipt.prior == PriorRecord(atoms=TABLE.atoms, weights=TABLE.of(0.98 if base is SURE else 0.1, 0.0).weights)
    assert [each for each in recheck(receipt) if not each.agrees] == []
    assert "prior" not in undeclared(bundle, receipt)


def test_a_prior_that_the_bundle_does_not_have_is_found(plain, bundle):
    receipt = receipt_of(answered(bundle))
    other = replace(receipt, prior=replace(receipt.prior, weights=(0.1, 0.1, 0.7)))
    assert "prior" in undeclared(bundle, other)
    assert "prior" in undeclared(plain, receipt)
    assert "prior" in undeclared(bundle, receipt_of(answered(plain)))
    assert "prior" not in undeclared(plain, receipt_of(answered(plain)))
    wrong = [each.field for each in recheck(replace(receipt, prior=replace(receipt.prior, weights=(1.0, 0.0, 0.0))))]
    assert "claims.certificate.p_a_lower" in wrong


@pytest.mark.parametrize("mode", ["fixed", "off"])
def test_what_has_no_use_for_a_prior_is_answered_and_recorded_without(plain, bundle, mode):
    found = []
    for each in (plain, bundle):
        job = Job(each, task(mode, 640), 0, NOTARY)
        for start, result in slices(0.87, 640):
            job.receive(start, result)
        job.receive_base(UNSURE)
        found.append(job.answer())
    assert found[0].receipt == found[1].receipt
    assert receipt_of(found[1]).schema == SCHEMA
    assert "prior" not in undeclared(bundle, receipt_of(found[1]))


def test_a_receipt_whose_prior_is_none_or_stands_where_none_is_used_is_refused(bundle):
    receipt = receipt_of(answered(bundle))
    for weights in ((0.5, 0.5, 0.5), (-0.1, 0.5, 0.5), (0.5, 0.5), (1e308, 1e308, 0.0), (float("inf"), 0.0, 0.0)):
        with pytest.raises(ReceiptError, match="^prior: expected weights of atoms"):
            replace(receipt, prior=replace(receipt.prior, weights=weights))
    for changes in ({"schema": SCHEMA}, {"prior": None}):
        with pytest.raises(ReceiptError, match="^schema: expected"):
            replace(receipt, **changes)
    off = replace(receipt.procedure, name="off", target_radius=None)
    with pytest.raises(ReceiptError, match="^prior: expected weights of atoms from 0 to 1, and none if off or fixed"):
        replace(receipt, procedure=off)
