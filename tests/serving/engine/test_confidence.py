"""Confidence of a bundle that claims it: counted alike in every order, parted from votes everywhere, and in receipts."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from certify.claims.confidence import confidence, grades_of, labels_of
from certify.receipts.receipt import ReceiptError, read
from certify.receipts.replay import replay
from certify.receipts.versions import FIFTH, SCHEMA, SIXTH
from export.bundle.batches import without_grades
from serving.engine.job import Job, SliceResult
from serving.engine.record import undeclared
from serving.engine.shares import ShareJob, merge
from serving.messages import Reply
from tests.certify.made_receipts import altered
from tests.half_space import CUT, THRESHOLDS, graded_votes, write_half_space
from tests.serving.engine import further_claims
from tests.serving.engine.further_claims import BASE, DRAWS, merged, plain_votes, receipt_of, shuffled, task, wrong

FIRSTS = {"below": 90, "above": 145, "far": 200, "near": 131}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"), confident=True, joint=True)


def passes(column):
    return graded_votes(column), column.astype(np.float32)


answered = partial(further_claims.answered, network=passes)
slices = partial(further_claims.slices, network=passes)


@pytest.mark.parametrize("name", FIRSTS)
@pytest.mark.parametrize("mode", ["target", "best", "precision"])
@pytest.mark.parametrize("lost", [(), (0, 64, 96)], ids=["none lost", "some lost"])
def test_what_is_claimed_is_what_a_count_of_the_same_draws_proves(bundle, mode, name, lost):
    asked = task(bundle, FIRSTS[name], mode)
    answer = answered(bundle, asked, lost)
    column = bundle.law.at(asked.rows[0]).sample(asked.keys[0], 0, answer.draws)[:, 0]
    kept = np.array([index // 32 * 32 not in lost for index in range(answer.draws)])
    leader = int((column[kept] > CUT).mean() > 0.5)
    mine = graded_votes(column[kept & ((column > CUT) == leader)])
    reached = tuple(int(np.sum(grades_of(mine, 2) > place)) for place in range(len(THRESHOLDS)))
    receipt = receipt_of(answer)
    assert (receipt.confidence.reached, receipt.confidence.thresholds) == (reached, THRESHOLDS)
    terms = Job(bundle, asked, 0)._terms
    assert terms.split.of_confidence == pytest.approx(0.1)
    said, certificate = answer.confidence, answer.certificate
    assert said == confidence(certificate, reached, THRESHOLDS, terms)
    assert (said.class_index, said.radius) == (certificate.class_index, certificate.radius)
    if name != "near":
        assert 0 < said.lower < said.lower_at_input


@pytest.mark.parametrize("mode", ["target", "best", "precision", "off", "fixed"])
def test_all_else_is_as_if_votes_had_no_grades(bundle, mode):
    """Labels, scores, joint labels and their receipts: what is counted of a graded vote is its label."""
    asked = task(bundle, mode=mode, draws=1_000)
    graded, others = (answered(bundle, asked, (32,), network=network) for network in (passes, plain_votes))
    for name in ("certificate", "ood", "mixture", "joint", "draws", "lost_draws"):
        assert getattr(graded, name) == getattr(others, name)
    one, other = receipt_of(graded), receipt_of(others)
    assert (one.votes, one.lost, one.joint, one.scores) == (other.votes, other.lost, other.joint, other.scores)
    asked_of = without_grades(lambda rows: passes(rows[:, 0]), 2)
    assert asked_of(np.array([[100], [300]]))[0].tolist() == [0, 1]


@pytest.mark.parametrize("mode", ["target", "best", "precision"])
@pytest.mark.parametrize("lost", [(), (32, 320)], ids=["none lost", "some lost"])
def test_any_order_of_slices_and_late_ones_give_one_answer_and_one_receipt(bundle, mode, lost):
    asked = task(bundle, mode=mode)
    found = [answered(bundle, asked, lost, order, late) for order in (list, reversed, shuffled) for late in (0, 40)]
    assert len({each.receipt for each in found}) == 1
    assert len({each.confidence for each in found}) == 1


def test_a_lost_slice_only_lowers_it(bundle):
    whole, holed = (answered(bundle, task(bundle), lost).confidence for lost in ((), (320, 640)))
    assert holed.lower_at_input < whole.lower_at_input
    assert holed.radius < whole.radius


@pytest.mark.parametrize("lost", [(), (64, 1_024)], ids=["none lost", "some lost"])
def test_shares_of_several_engines_give_the_answer_of_one(bundle, lost):
    asked = task(bundle, receipt=False)
    together = merged(bundle, asked, lost, passes)
    alone = answered(bundle, task(bundle), lost)
    assert (together.confidence, together.joint) == (alone.confidence, alone.joint)


@pytest.mark.parametrize("labels", [50, 51, 127, 254, 255, 256, 13_106, 13_107])
def test_graded_votes_pass_between_engines_whatever_the_labels(bundle, labels):
    """They travel in as few bytes as hold the largest: of 50 labels and none, with five grades, 255 numbers; of 51, 260."""
    many = replace(bundle, manifest=bundle.manifest.model_copy(update={"labels": tuple(map(str, range(labels)))}))
    last, top = labels - 1, len(THRESHOLDS)
    votes = np.array([last + (labels + 1) * top] * 28 + [labels] * 2 + [0, last])
    asked, base = task(many, receipt=False), np.full(labels, 1 / labels, np.float32)
    whole, share = Job(many, asked, 0), ShareJob(many, asked, 0, range(DRAWS))
    for job in (whole, share):
        job.receive_base(base)
        for place in range(0, DRAWS, 32):
            job.receive(place, SliceResult(32, votes, np.zeros(32, np.float32)))
    reply = Reply(rows=(share.answer(),), queue_s=0.0, compute_s=0.0, digest=bundle.digest, runtime="none")
    (again,) = merge(many, asked, (range(DRAWS),), (reply,)).rows
    alone = whole.answer()
    assert (again.confidence, again.joint, again.certificate) == (alone.confidence, alone.joint, alone.certificate)
    assert (again.certificate.class_index, again.joint.class_index) == (last, last)
    assert again.confidence.lower_at_input > 0.7
    assert labels_of(share.answer().votes[:32], labels).tolist() == [last] * 28 + [labels] * 2 + [0, last]


def test_each_stop_claims_what_was_counted_by_then(bundle):
    """As live events do: the answer of a job that goes on."""
    job = Job(bundle, task(bundle), 0)
    job.receive_base(BASE)
    assert job.answer().confidence.lower is None
    for place, result in slices(job).items():
        job.receive(place, result)
        said = job.answer()
        assert said.confidence.radius == said.certificate.radius
    assert said.confidence.lower > 0.2


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
    answer = answered(one, task(one, **case), network=passes if one is bundle else plain_votes)
    receipt = receipt_of(answer)
    assert (answer.confidence, receipt.confidence, receipt.claims.confidence) == (None, None, None)
    with_share = name in ("not asked for", "off")
    assert (receipt.schema, receipt.split.of_confidence) == ((SIXTH, 0.1) if with_share else (SCHEMA, None))
    assert (wrong(receipt), undeclared(one, receipt)) == ([], [])
    assert read(json.loads(receipt.to_bytes())) == receipt


@pytest.mark.parametrize("name", FIRSTS)
@pytest.mark.parametrize("mode", ["target", "best", "precision"])
@pytest.mark.parametrize("lost", [(), (0,)], ids=["none lost", "the first lost"])
def test_a_receipt_proves_it_and_its_draws_give_the_counts_again(bundle, mode, name, lost):
    asked = task(bundle, FIRSTS[name], mode, key_id="")
    receipt = receipt_of(answered(bundle, asked, lost))
    assert receipt.schema == SIXTH
    assert (wrong(receipt), undeclared(bundle, receipt)) == ([], [])
    assert read(json.loads(receipt.to_bytes())) == receipt
    again = replay(receipt, bundle.law, asked.rows[0], lambda rows: passes(rows[:, 0]), bundle.detector.calibration)
    assert [each.field for each in again if not each.agrees] == []
    assert {"votes", "joint.votes", "confidence.reached"} <= {each.field for each in again}


def test_it_is_proven_where_the_certificate_was_not_asked_for(bundle):
    receipt = receipt_of(answered(bundle, task(bundle, parts=frozenset({"confidence"}))))
    assert (receipt.claims.certificate, receipt.claims.confidence.class_index) == (None, 1)
    assert (wrong(receipt), undeclared(bundle, receipt)) == ([], [])


def test_another_claim_than_the_counts_prove_is_found(bundle):
    receipt = receipt_of(answered(bundle, task(bundle)))
    claim, counted = receipt.claims.confidence, receipt.confidence
    for path, value in (
        ("claims.confidence.radius", claim.radius * 1.001),
        ("claims.confidence.lower", claim.lower + 1e-6),
        ("claims.confidence.lower_at_input", claim.lower_at_input + 1e-6),
        ("claims.confidence.class_index", 0),
    ):
        assert wrong(altered(receipt, path, value)) == [path]
    numbers = ["claims.confidence.lower", "claims.confidence.lower_at_input"]
    larger = altered(receipt, "split.of_confidence", 0.05)
    assert (wrong(larger), undeclared(bundle, larger)) == (numbers, ["split"])
    higher = altered(receipt, "confidence.thresholds", (*THRESHOLDS[:-1], 0.9921875))
    assert (wrong(higher), undeclared(bundle, higher)) == (numbers, ["confidence.thresholds"])
    fewer = altered(receipt, "confidence.reached", (*counted.reached[:-1], counted.reached[-1] - 1))
    assert wrong(fewer) == numbers
    again = replay(fewer, bundle.law, task(bundle).rows[0], lambda rows: passes(rows[:, 0]))
    assert [each.field for each in again if not each.agrees] == ["confidence.reached"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", FIFTH, "schema: expected 'certserve-receipt/6', the version of what it has"),
        ("split.of_confidence", 0.0, "split: expected shares"),
        ("split.of_confidence", 0.3, "split: expected shares"),
        ("split.of_confidence", None, "confidence: expected none without a share of alpha, and none if off or fixed"),
        ("confidence", None, "confidence: expected counts if a confidence is claimed, else none"),
        ("claims.confidence", None, "confidence: expected counts if a confidence is claimed, else none"),
        ("confidence.thresholds", (0.5, 0.5, 0.6, 0.7), "confidence.thresholds: expected single floats that rise"),
        ("confidence.thresholds", (0.1, 0.5, 0.6, 0.7), "confidence.thresholds: expected single floats that rise"),
        ("votes", (), "votes: expected two classes or more"),
        ("confidence.thresholds", (), "confidence.thresholds: expected single floats that rise"),
        ("confidence.thresholds", (0.5,), "confidence.reached: expected one count for each threshold"),
        ("confidence.reached", lambda reached: reached[:-1], "confidence.reached: expected one count for each"),
        ("confidence.reached", lambda reached: reached[::-1], "confidence.reached: expected counts that do not rise"),
        (
            "confidence.reached",
            lambda reached: (DRAWS, *reached[1:]),
            "confidence.reached: expected counts that do not",
        ),
        ("confidence.reached", lambda reached: (*reached[:-1], -1), "confidence.reached: expected counts that do not"),
    ],
)
def test_a_receipt_that_contradicts_itself_is_refused(bundle, path, value, message):
    receipt = receipt_of(answered(bundle, task(bundle)))
    old = receipt
    for name in path.split("."):
        old = getattr(old, name)
    with pytest.raises(ReceiptError, match=message):
        altered(receipt, path, value(old) if callable(value) else value)


def test_none_stands_where_the_class_alone_is_claimed(bundle):
    off, fixed = (receipt_of(answered(bundle, task(bundle, mode=mode, draws=1_000))) for mode in ("off", "fixed"))
    whole = receipt_of(answered(bundle, task(bundle)))
    none = replace(whole.confidence, reached=(0,) * len(THRESHOLDS))
    with pytest.raises(ReceiptError, match="confidence: expected none without a share of alpha, and none if off"):
        replace(off, confidence=none, claims=replace(off.claims, confidence=whole.claims.confidence))
    with pytest.raises(ReceiptError, match="split: expected shares"):
        replace(fixed, schema=SIXTH, split=replace(fixed.split, of_confidence=0.1))
