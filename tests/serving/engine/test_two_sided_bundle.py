"""A bundle that declares two-sided bounds: what its answers certify, say on the wires, and prove by their receipts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from certify.claims.procedures import PROCEDURES, made
from certify.receipts.receipt import ReceiptError
from certify.receipts.recheck import recheck
from certify.receipts.versions import SCHEMA, SIXTH
from certify.smoothing.ball import Euclidean
from certify.smoothing.ball import parse as parse_ball
from export.bundle import BundleError, claims
from export.bundle.files import load
from serving.engine.job import Job, SliceResult
from serving.engine.record import undeclared
from serving.engine.shares import ShareJob, merge
from serving.messages import Answer, ModelIdentity, Options, Reply
from serving.security.signing import Notary, Signer, parse
from serving.wires import answer_document
from serving.wires.typed import certserve_document
from tests.serving.engine.test_shares import task_of
from tests.three_classes import LABELS, write_three_classes

SHARES, BASE = (0.44, 0.3, 0.26), np.array([0.2, 0.5, 0.3], np.float32)
NOTARY = Notary(signer=Signer(bytes(32)), runtime="none")
TARGET = 1.0  # steps; .44 against .3 leads within .187 of 16 steps
ANYTIME = ("target", "best", "precision")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_three_classes(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_three_classes(tmp_path_factory.mktemp("models"), two_sided=True)


def slices(draws=6_400, seed=0):
    votes = np.random.default_rng(seed).choice(3, draws, p=SHARES).astype(np.int64)
    return [(at, SliceResult(32, votes[at : at + 32], np.zeros(32, np.float32))) for at in range(0, draws, 32)]


def task(mode="target", draws=6_400, target=TARGET, **changes):
    procedure = made(PROCEDURES[mode], parse_ball((Euclidean("steps"),), target), 4.0, draws)
    return task_of(mode, draws, procedure=procedure, digest="sha256:" + "d" * 64, receipt=True, **changes)


def answered(bundle, mode="target", kind=Job, **changes):
    job = kind(bundle, task(mode, **changes), 0, NOTARY)
    job.receive_base(BASE)
    for start, result in slices():
        job.receive(start, result)
    return job.answer()


def receipt_of(answer):
    return parse(answer.receipt.encode()).receipt


def disagreeing(receipt):
    return [each.field for each in recheck(receipt) if not each.agrees]


@pytest.mark.parametrize("mode", ANYTIME)
def test_a_class_below_one_half_is_certified_and_so_is_the_mixture(plain, bundle, mode):
    two, one = answered(bundle, mode).certificate, answered(plain, mode).certificate
    assert (two.status, two.class_index, two.two_sided) == ("certified", 0, True)
    assert 0 < two.p_b_upper < two.p_a_lower < 0.5
    assert 0 < two.radius < 0.187 * 16
    assert (one.class_index, one.radius, one.two_sided) == (None, 0.0, False)


def test_a_target_is_refuted_by_the_lead_alone(plain, bundle):
    assert answered(bundle, target=6.0).certificate.status == "refuted"
    assert answered(bundle, target=2.9).certificate.status == "undecided"
    assert answered(plain, target=TARGET).certificate.status == "refuted"  # no class has one half


@pytest.mark.parametrize("mode", ANYTIME)
def test_a_receipt_says_so_and_proves_its_claims(bundle, mode):
    receipt = receipt_of(answered(bundle, mode))
    assert (receipt.schema, receipt.two_sided) == (SIXTH, True)
    assert disagreeing(receipt) == []
    assert "two_sided" not in undeclared(bundle, receipt)


def test_a_receipt_whose_claims_are_larger_or_whose_bounds_are_others_is_found(plain, bundle):
    receipt = receipt_of(answered(bundle))
    certificate = receipt.claims.certificate
    for name, value in (
        ("radius", certificate.radius * 1.001),
        ("p_b_upper", certificate.p_b_upper * 0.99),
        ("p_a_lower", certificate.p_a_lower * 1.01),
    ):
        claimed = replace(receipt.claims, certificate=replace(certificate, **{name: value}))
        assert f"claims.certificate.{name}" in disagreeing(replace(receipt, claims=claimed))
    one_sided = replace(receipt, schema=SCHEMA, two_sided=None)
    assert "claims.certificate.class_index" in disagreeing(one_sided)
    assert "two_sided" in undeclared(bundle, one_sided)
    assert "two_sided" in undeclared(plain, receipt)
    assert "two_sided" not in undeclared(plain, receipt_of(answered(plain)))
    other_split = replace(receipt, split=replace(receipt.split, of_upper=0.1))
    assert "claims.certificate.p_b_upper" in disagreeing(other_split)


def test_a_receipt_of_another_version_or_of_a_procedure_without_such_bounds_is_refused(bundle):
    receipt = receipt_of(answered(bundle))
    for changes in ({"schema": SCHEMA}, {"two_sided": None}):
        with pytest.raises(ReceiptError, match="^schema: expected"):
            replace(receipt, **changes)
    off = replace(receipt.procedure, name="off", target_radius=None)
    for changes in ({"two_sided": False}, {"procedure": off}):
        with pytest.raises(ReceiptError, match="^two_sided: expected true or nothing"):
            replace(receipt, **changes)


@pytest.mark.parametrize("mode", ["fixed", "off"])
def test_what_bounds_no_class_at_every_number_of_draws_is_answered_as_ever(plain, bundle, mode):
    two, one = answered(bundle, mode), answered(plain, mode)
    assert two.certificate == one.certificate
    assert (receipt_of(two).schema, receipt_of(two).two_sided) == (SCHEMA, None)
    assert replace(receipt_of(two), model=receipt_of(one).model) == receipt_of(one)
    assert "two_sided" not in undeclared(bundle, receipt_of(two))


def test_shares_of_several_engines_give_the_answer_of_one(bundle):
    whole, of_best = answered(bundle, "best"), replace(task("best"), receipt=False)
    ranges, replies = (range(3_200), range(3_200, 6_400)), []
    for draws in ranges:
        job = ShareJob(bundle, of_best, 0, draws)
        job.receive_base(BASE)
        for start, result in slices():
            if start in draws:
                job.receive(start, result)
        replies.append(Reply(rows=(job.answer(),), queue_s=0.0, compute_s=0.0, digest=bundle.digest, runtime="none"))
    assert (
        merge(bundle, replace(of_best, digest=bundle.digest), ranges, replies).rows[0].certificate == whole.certificate
    )


def test_lost_slices_only_weaken(bundle):
    job = Job(bundle, task("best"), 0, NOTARY)
    job.receive_base(BASE)
    for start, result in slices():
        job.receive(start, SliceResult(32, None, None) if start % 2_048 == 0 else result)
    found, whole = job.answer().certificate, answered(bundle, "best").certificate
    assert found.lost == 128
    assert found.radius < whole.radius
    assert found.p_b_upper > whole.p_b_upper
    assert disagreeing(receipt_of(job.answer())) == []


def test_both_wires_say_it_and_only_of_such_a_bundle(plain, bundle):
    for model, said in ((bundle, {"two_sided": True}), (plain, {})):
        made_by = ModelIdentity(name="three-classes", version="1", digest=model.digest, runtime="none")
        rows = (replace(answered(model), receipt=None),)
        (document,) = answer_document.rows(
            Answer(model=made_by, predictions=rows, labels=LABELS, queue_s=0.0, compute_s=0.0), Options()
        )
        found = {name: value for name, value in document["certificate"].items() if name == "two_sided"}
        assert found == said
        message = certserve_document.message([document])
        assert certserve_document.document(message)["predictions"][0]["certificate"] == document["certificate"]


def test_a_bundle_without_the_claim_does_not_name_it_and_one_without_a_share_is_refused(plain, bundle, tmp_path):
    assert "two_sided" not in plain.manifest.model_dump_json(exclude_none=True)
    assert bundle.manifest.two_sided
    with pytest.raises(ValueError, match=r"claims\.class\.two_sided needs claims\.upper"):
        claims(of_class=1.0, two_sided=True)
    write_three_classes(tmp_path)
    manifest = tmp_path / "three-classes/1/manifest.json"
    manifest.write_text(manifest.read_text().replace('"alpha": 0.8', '"alpha": 0.8, "two_sided": false'))
    with pytest.raises(BundleError, match="two_sided"):
        load(manifest.parent)
