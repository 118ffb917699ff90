"""Joint labels of a bundle that declares them: counted alike in every order, claimed on every part's terms, in receipts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from certify.claims.joint import certify_joint, joint_counts
from certify.receipts.receipt import ReceiptError, read
from certify.receipts.replay import replay
from certify.receipts.versions import FIFTH, SCHEMA, SIXTH
from serving.engine.job import Job, SliceResult
from serving.engine.record import undeclared
from serving.engine.shares import ShareJob, merge
from serving.messages import Reply
from tests.certify.made_receipts import altered
from tests.half_space import THRESHOLD, write_half_space
from tests.serving.engine.further_claims import (
    BASE,
    DRAWS,
    answered,
    merged,
    plain_votes,
    receipt_of,
    shuffled,
    slices,
    task,
    wrong,
)

FIRSTS = {"below": 90, "above": 145, "out": 200}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"), joint=True)


@pytest.mark.parametrize("name", FIRSTS)
@pytest.mark.parametrize("mode", ["target", "best", "precision"])
@pytest.mark.parametrize("lost", [(), (0, 64, 96)], ids=["none lost", "some lost"])
def test_what_is_claimed_is_what_a_count_of_the_same_draws_proves(bundle, mode, name, lost):
    asked = task(bundle, FIRSTS[name], mode)
    answer = answered(bundle, asked, lost)
    votes, scores = plain_votes(bundle.law.at(asked.rows[0]).sample(asked.keys[0], 0, answer.draws)[:, 0])
    for place in lost:
        scores[place : place + 32] = np.nan
    counts = joint_counts(votes, scores, THRESHOLD, 2)
    receipt = receipt_of(answer)
    assert (receipt.joint.votes, receipt.lost, receipt.draws) == (counts.votes, counts.lost, counts.draws)
    terms = Job(bundle, asked, 0)._terms
    bound = certify_joint(counts, terms)
    assert answer.joint.bound == bound
    assert bound.alpha == pytest.approx(0.001 * 0.1)
    verdict = "out_of_distribution" if name == "out" else "in_distribution"
    label = {"below": 0, "above": 1, "out": None}[name]
    assert (answer.joint.verdict, answer.joint.class_index) == (verdict, label)
    assert answer.joint.radius == terms.law.radius(bound.complement).size > 0


@pytest.mark.parametrize("mode", ["target", "best", "precision"])
@pytest.mark.parametrize("lost", [(), (32, 320)], ids=["none lost", "some lost"])
def test_any_order_of_slices_and_late_ones_give_one_answer_and_one_receipt(bundle, mode, lost):
    asked = task(bundle, mode=mode)
    found = [answered(bundle, asked, lost, order, late) for order in (list, reversed, shuffled) for late in (0, 40)]
    assert len({each.receipt for each in found}) == 1
    assert len({each.joint for each in found}) == 1


def test_a_lost_slice_only_widens_the_bound(bundle):
    whole, holed = (answered(bundle, task(bundle), lost).joint for lost in ((), (320, 640)))
    assert holed.p_lower < whole.p_lower
    assert holed.radius < whole.radius


@pytest.mark.parametrize("lost", [(), (64, 1_024)], ids=["none lost", "some lost"])
def test_shares_of_several_engines_give_the_answer_of_one(bundle, lost):
    asked = task(bundle, receipt=False)
    assert merged(bundle, asked, lost).joint == answered(bundle, task(bundle), lost).joint


def test_votes_for_none_stay_so_on_their_way_from_several_engines_whatever_the_labels(bundle):
    """They travel in as few bytes as hold them: of 255 labels in bytes that have no larger number."""
    labels = tuple(map(str, range(255)))
    many = replace(bundle, manifest=bundle.manifest.model_copy(update={"labels": labels}))
    asked, base = task(many, receipt=False), np.full(255, 1 / 255, np.float32)
    votes = SliceResult(32, np.array([0] * 28 + [255] * 4), np.zeros(32, np.float32))
    whole, share = Job(many, asked, 0), ShareJob(many, asked, 0, range(DRAWS))
    for job in (whole, share):
        job.receive_base(base)
        for place in range(0, DRAWS, 32):
            job.receive(place, votes)
    reply = Reply(rows=(share.answer(),), queue_s=0.0, compute_s=0.0, digest=bundle.digest, runtime="none")
    (again,) = merge(many, asked, (range(DRAWS),), (reply,)).rows
    assert (again.joint, again.joint.class_index) == (whole.answer().joint, 0)


def test_a_threshold_between_two_single_floats_divides_the_joint_label_as_it_divides_the_score(bundle):
    """A receipt that counted them apart would contradict itself, and could not be given."""
    lower = replace(bundle, detector=replace(bundle.detector, threshold=144.9999999))
    receipt = receipt_of(answered(lower, task(lower)))
    assert receipt.joint.votes[-1] == receipt.scores.above
    again = replay(receipt, bundle.law, task(bundle).rows[0], lambda rows: plain_votes(rows[:, 0]))
    assert [each.field for each in again if not each.agrees] == []


def test_each_stop_claims_what_was_counted_by_then(bundle):
    """As live events do: the answer of a job that goes on."""
    job = Job(bundle, task(bundle), 0)
    job.receive_base(BASE)
    assert job.answer().joint.verdict == "undetermined"
    for place, result in slices(job).items():
        job.receive(place, result)
        said = job.answer().joint
        assert said.bound is None or said.bound.draws == place + result.rows
    assert said.verdict == "in_distribution"


WITHOUT = {
    "not declared": {"declared": False},
    "not asked for": {"parts": frozenset({"certificate", "ood"})},
    "off": {"mode": "off"},
    "fixed": {"mode": "fixed", "draws": 1_000},
}


@pytest.mark.parametrize("name", WITHOUT)
def test_where_it_is_not_declared_not_asked_for_or_not_drawn_for_there_is_none(plain, bundle, name):
    case = dict(WITHOUT[name])
    one = bundle if case.pop("declared", True) else plain
    answer = answered(one, task(one, **case))
    receipt = receipt_of(answer)
    assert (answer.joint, receipt.joint, receipt.claims.joint) == (None, None, None)
    with_share = name in ("not asked for", "off")
    assert (receipt.schema, receipt.split.of_joint) == ((SIXTH, 0.1) if with_share else (SCHEMA, None))
    assert (wrong(receipt), undeclared(one, receipt)) == ([], [])
    assert read(json.loads(receipt.to_bytes())) == receipt


@pytest.mark.parametrize("name", FIRSTS)
@pytest.mark.parametrize("mode", ["target", "best", "precision"])
@pytest.mark.parametrize("lost", [(), (0,)], ids=["none lost", "the first lost"])
def test_a_receipt_proves_the_joint_label_and_its_draws_give_the_counts_again(bundle, mode, name, lost):
    asked = task(bundle, FIRSTS[name], mode, key_id="")
    receipt = receipt_of(answered(bundle, asked, lost))
    assert receipt.schema == SIXTH
    assert (wrong(receipt), undeclared(bundle, receipt)) == ([], [])
    assert read(json.loads(receipt.to_bytes())) == receipt
    again = replay(
        receipt, bundle.law, asked.rows[0], lambda rows: plain_votes(rows[:, 0]), bundle.detector.calibration
    )
    assert [each.field for each in again if not each.agrees] == []
    assert "joint.votes" in [each.field for each in again]


def moved(votes, place, to):
    """One vote of a label given to another."""
    found = list(votes)
    found[place] -= 1
    found[to] += 1
    return tuple(found)


def test_another_claim_than_the_counts_prove_is_found(bundle):
    receipt = receipt_of(answered(bundle, task(bundle)))
    for path, value in (
        ("claims.joint.radius", receipt.claims.joint.radius * 1.001),
        ("claims.joint.p_lower", receipt.claims.joint.p_lower + 1e-6),
        ("claims.joint.verdict", "out_of_distribution"),
        ("claims.joint.class_index", 0),
    ):
        assert wrong(altered(receipt, path, value)) == [path]
    larger = altered(receipt, "split.of_joint", 0.05)
    assert wrong(larger) == ["claims.joint.radius", "claims.joint.p_lower"]
    assert undeclared(bundle, larger) == ["split"]


def test_other_counts_are_found_by_the_draws_and_another_threshold_by_the_bundle(bundle):
    """Without the scores, which would tell at once."""
    asked = task(bundle, parts=frozenset({"joint"}))
    receipt = receipt_of(answered(bundle, asked))
    assert receipt.scores is None
    other = altered(receipt, "joint.votes", moved(receipt.joint.votes, 1, 2))
    again = replay(other, bundle.law, asked.rows[0], lambda rows: plain_votes(rows[:, 0]))
    assert [each.field for each in again if not each.agrees] == ["joint.votes"]
    assert undeclared(bundle, altered(receipt, "joint.threshold", 161.0)) == ["joint.threshold"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", FIFTH, "schema: expected 'certserve-receipt/6', the version of what it has"),
        ("split.of_joint", None, "schema: expected 'certserve-receipt/4', the version of what it has"),
        ("split.of_joint", 0.0, "split: expected shares"),
        ("split.of_joint", 0.2, "split: expected shares"),
        ("joint", None, "joint: expected counts if a joint label is claimed, else none"),
        ("claims.joint", None, "joint: expected counts if a joint label is claimed, else none"),
        ("joint.threshold", 159.0, "joint.threshold: expected that of the scores"),
        ("joint.votes", lambda votes: votes[:-1], "joint.votes: expected 3 counts: one for each class, and 'out'"),
        ("joint.votes", lambda votes: (-1, votes[1], votes[2]), "joint.votes: expected counts"),
        ("joint.votes", lambda votes: (votes[0], votes[1] + 1, votes[2]), "joint.votes: expected counts that sum with"),
        ("joint.votes", lambda votes: moved(votes, 1, 0), "joint.votes: expected no more of a class than its votes"),
        ("joint.votes", lambda votes: (votes[0], votes[1] - 1, votes[2]), "joint.votes: expected as many that are out"),
        ("joint.votes", lambda votes: moved(votes, 1, 2), "that are out, as many as scored above the threshold"),
        ("votes", lambda votes: (votes[0] - 1, votes[1]), "joint.votes: expected no more of a class than its votes"),
    ],
)
def test_a_receipt_that_contradicts_itself_is_refused(bundle, path, value, message):
    receipt = receipt_of(answered(bundle, task(bundle, 155)))
    old = receipt
    for name in path.split("."):
        old = getattr(old, name)
    with pytest.raises(ReceiptError, match=message):
        altered(receipt, path, value(old) if callable(value) else value)


def test_no_joint_label_stands_where_the_class_alone_is_claimed(bundle):
    off, fixed = (receipt_of(answered(bundle, task(bundle, mode=mode, draws=1_000))) for mode in ("off", "fixed"))
    whole = receipt_of(answered(bundle, task(bundle)))
    with pytest.raises(ReceiptError, match="joint: expected none without a share of alpha, and none if off or fixed"):
        replace(off, joint=replace(whole.joint, votes=(0, 0, 32)), claims=replace(off.claims, joint=whole.claims.joint))
    with pytest.raises(ReceiptError, match="split: expected shares"):
        replace(fixed, schema=SIXTH, split=replace(fixed.split, of_joint=0.1))
