"""A bundle that declares a robust alarm: what its answers say, on both wires, what receipts prove and a replay finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from certify.claims.procedures import PROCEDURES, made
from certify.ood.robust_alarm import RobustAlarm, threshold_of
from certify.receipts.receipt import ReceiptError
from certify.receipts.recheck import recheck
from certify.receipts.replay import replay
from certify.receipts.versions import SCHEMA, SIXTH
from certify.smoothing.ball import Euclidean
from certify.smoothing.ball import parse as parse_ball
from export.bundle import AlarmSpec, BundleError
from serving.engine.job import Job, SliceResult
from serving.engine.record import undeclared
from serving.messages import Answer, Model, ModelIdentity, Options
from serving.security.signing import Notary, Signer, parse
from serving.wires import answer_document
from serving.wires.open_inference import tensors
from serving.wires.typed import certserve_document
from tests.half_space import CUT, LABELS, SIGMA, calibration, write_half_space
from tests.serving.engine.test_shares import task_of

DECLARED = AlarmSpec(far=0.05, radius=SIGMA / 2, of_median=0.005, of_bound=0.005)
NOTARY, BASE = Notary(signer=Signer(bytes(32)), runtime="none"), np.array([0.25, 0.75], np.float32)
DRAWS = 640


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"), alarm=DECLARED)


def network(lattice):
    return (lattice[:, 0] > CUT).astype(np.int64), lattice[:, 0].astype(np.float32)


def answered(bundle, first=230, mode="best", lost=()):
    """The answer about an input whose score is normal around its first number; the slices `lost` give nothing."""
    rows = np.array([[first, 1, 2, 3]], dtype=np.int32)
    procedure = made(PROCEDURES[mode], parse_ball((Euclidean("steps"),), 8.0), 4.0, DRAWS)
    own = (b"s" * 16,) if mode == "fixed" else ()
    task = task_of(mode, DRAWS, rows=rows, procedure=procedure, receipt=True, digest=bundle.digest, score_keys=own)
    job = Job(bundle, task, 0, NOTARY)
    job.receive_base(BASE)
    for place in range(job.first, DRAWS, 32):
        key, start = job.source(place)
        votes, scores = network(bundle.law.at(rows[0]).sample(key, start, start + 32))
        job.receive(place, SliceResult(32, None, None) if place in lost else SliceResult(32, votes, scores))
    return job.answer()


def receipt_of(answer):
    return parse(answer.receipt.encode()).receipt


def disagreeing(receipt):
    return [each.field for each in recheck(receipt) if not each.agrees]


def test_it_is_raised_far_outside_and_nowhere_near_the_calibration(bundle):
    """The score of level .05 is 157.5 steps; an attack of 8 steps, and a clean median of 32 draws, cost 18 more."""
    assert bundle.detector.alarm.threshold == threshold_of(calibration(), 0.05) == pytest.approx(157.5, abs=0.1)
    found = {first: answered(bundle, first).ood.robust_alarm for first in (60, 150, 165, 172, 200, 255)}
    assert [each.raised for each in found.values()] == [False, False, False, False, True, True]
    assert {each.radius for each in found.values()} == {SIGMA / 2}
    assert {round(each.false_alarms, 12) for each in found.values()} == {0.06}
    assert not answered(bundle, 172).ood.in_distribution  # the plain rule flags it


@pytest.mark.parametrize("first", [165, 200])
def test_it_is_that_of_the_library(bundle, first):
    answer = answered(bundle, first)
    law = bundle.law.at(np.zeros(4, np.int32)).guarantee
    rule = RobustAlarm(far=0.05, radius=SIGMA / 2, law=law, score_draws=32, of_median=0.005, of_bound=0.005)
    _, scores = network(bundle.law.at(np.array([first, 1, 2, 3])).sample(b"k" * 16, 0, DRAWS))
    lower = rule.lower_bound(scores.astype(np.float64), rule.anytime_rank(DRAWS))
    assert answer.ood.robust_alarm.raised == rule.raised(calibration(), lower)


@pytest.mark.parametrize("mode", ["target", "best", "precision", "off"])
def test_receipts_count_it_and_prove_it(bundle, mode):
    answer = answered(bundle, mode=mode)
    receipt = receipt_of(answer)
    assert (receipt.schema, receipt.claims.ood.robust_alarm) == (SIXTH, answer.ood.robust_alarm.raised)
    assert disagreeing(receipt) == []
    assert undeclared(bundle, receipt) == []


def test_a_receipt_that_was_altered_is_found(plain, bundle):
    receipt = receipt_of(answered(bundle))
    alarm, ood = receipt.scores.alarm, receipt.claims.ood

    def having(**changes):
        return replace(receipt, scores=replace(receipt.scores, alarm=replace(alarm, **changes)))

    for said in (False, None):
        claimed = replace(receipt.claims, ood=replace(ood, robust_alarm=said))
        assert disagreeing(replace(receipt, claims=claimed)) == ["claims.ood.robust_alarm"]
    assert disagreeing(having(above=receipt.scores.above // 2, threshold=170.0)) == ["claims.ood.robust_alarm"]
    for name, value in (("far", 0.1), ("radius", 4.0), ("of_median", 0.1), ("of_bound", 0.1), ("threshold", 160.5)):
        assert "scores.alarm" in undeclared(bundle, having(**{name: value}))
    assert "scores.alarm" in undeclared(plain, receipt)
    assert "scores.alarm" in undeclared(bundle, receipt_of(answered(plain)))
    assert "scores.alarm" not in undeclared(plain, receipt_of(answered(plain)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"far": 0.0}, "scores.alarm: expected levels between 0 and 1"),
        ({"of_bound": 1.0}, "scores.alarm: expected levels between 0 and 1"),
        ({"radius": float("inf")}, r"scores\.alarm\.radius: expected 0 or more"),
        ({"threshold": float("inf")}, r"scores\.alarm\.threshold: expected a finite number"),
        ({"above": DRAWS + 1}, r"scores\.alarm\.above: expected some of the draws"),
        ({"above": -1}, r"scores\.alarm\.above: expected some of the draws"),
        ({"above": 0, "threshold": 100.0}, r"scores\.alarm\.above: expected what \d+ above"),
        ({"above": 0, "threshold": 160.0}, r"scores\.alarm\.above: expected"),
    ],
)
def test_what_contradicts_itself_is_no_receipt(bundle, changes, said):
    receipt = receipt_of(answered(bundle))
    with pytest.raises(ReceiptError, match=f"^{said}"):
        replace(receipt, scores=replace(receipt.scores, alarm=replace(receipt.scores.alarm, **changes)))


def test_a_receipt_with_it_is_of_version_6(bundle):
    receipt = receipt_of(answered(bundle))
    with pytest.raises(ReceiptError, match="^schema: expected"):
        replace(receipt, schema=SCHEMA)
    with pytest.raises(ReceiptError, match="^schema: expected"):
        replace(receipt, scores=replace(receipt.scores, alarm=None))


@pytest.mark.parametrize("lost", [(), (64, 320)])
def test_a_replay_counts_it_again(bundle, lost):
    lattice = np.array([230, 1, 2, 3], dtype=np.int32)
    receipt = receipt_of(answered(bundle, lost=lost))
    found = {each.field: each for each in replay(receipt, bundle.law, lattice, network, bundle.detector.calibration)}
    assert all(each.agrees for each in found.values())
    assert found["scores.alarm.above"].found >= receipt.scores.alarm.above
    fewer = replace(receipt.scores.alarm, above=receipt.scores.alarm.above - 1, threshold=228.0)
    other = replace(receipt, scores=replace(receipt.scores, alarm=fewer))
    differing = replay(other, bundle.law, lattice, network, bundle.detector.calibration)
    assert [each.field for each in differing if not each.agrees] == ["scores.alarm.above"]


def test_lost_draws_never_raise_it(bundle):
    every = tuple(range(32, DRAWS, 32))
    assert answered(bundle, 255, lost=every[::2]).ood.robust_alarm.raised is False
    assert answered(bundle, 255, lost=every[:1]).ood.robust_alarm.raised is True


def test_fixed_draws_and_other_bundles_have_none(plain, bundle):
    fixed = answered(bundle, mode="fixed")
    assert (fixed.ood.robust_alarm, receipt_of(fixed).schema) == (None, SCHEMA)
    assert undeclared(bundle, receipt_of(fixed)) == ["procedure.max_draws"]  # 640 are not on the menu
    assert (answered(plain).ood.robust_alarm, receipt_of(answered(plain)).schema) == (None, SCHEMA)
    assert "alarm" not in plain.manifest.model_dump_json(exclude_none=True)


def test_every_wire_says_it_and_only_of_such_a_bundle(plain, bundle):
    for model, there in ((bundle, True), (plain, False)):
        made_by = ModelIdentity(name="half-space", version="1", digest=model.digest, runtime="none")
        answer = Answer(
            model=made_by,
            predictions=(replace(answered(model), receipt=None),),
            labels=LABELS,
            queue_s=0.0,
            compute_s=0.0,
        )
        (document,) = answer_document.rows(answer, Options())
        said = {"raised": True, "radius": SIGMA / 2, "false_alarms": pytest.approx(0.06)}
        assert document["ood"].get("robust_alarm") == (said if there else None)
        read = certserve_document.document(certserve_document.message([document]))["predictions"][0]
        assert read["ood"] == document["ood"]
        manifest = Model(manifest=model.manifest, digest=model.digest).manifest
        assert (tensors.ALARM in tensors.offered(manifest)) == there
        (tensor,) = tensors.encode([tensors.WantedOutput(name=tensors.ALARM)], answer)
        assert (tensor.datatype, tensor.array.tolist()) == ("BOOL", [there])


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"radius": 100.0}, "no number of draws raises it within 100"), ({"far": 1e-4}, "no p-value of 0.0001 or less")],
)
def test_an_alarm_that_could_never_be_raised_is_refused(tmp_path, changes, said):
    with pytest.raises(BundleError, match=said):
        write_half_space(tmp_path, alarm=DECLARED.model_copy(update=changes))
