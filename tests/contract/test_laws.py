"""What every law of smoothing has to keep, whatever it draws: the served one, and two that are written here alone.

The oracle is enumeration: where every output of a law at an input and at its neighbour is known with its probability, the
least that a function of probability p here can have there is found exactly (the lemma of Neyman and Pearson).
"""

from __future__ import annotations

import itertools
import json
import pickle
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from certify.claims.certificate import AlphaSplit, Terms
from certify.claims.counts import Counts
from certify.claims.decision import Flag
from certify.claims.procedures import SLICE, Best, Precision, RunningProcedure, Target
from certify.mixture.mix import radius as mixture_radius
from certify.receipts.receipt import read
from certify.receipts.recheck import asked, recheck
from certify.smoothing.ball import Ball, Euclidean, parse
from certify.smoothing.lattice_gaussian import LatticeGaussian, RoundedGaussian
from certify.smoothing.law import scale
from certify.smoothing.laws import LAWS, rebuilt
from export.build.noise_table import rounded_gaussian_tails
from serving.engine.job import Job, SliceResult
from serving.messages import Task
from serving.security.signing import Notary, Signer
from serving.security.signing import parse as parse_signed
from tests.contract.laws import HIDDEN, PAD, Columns, Deletion
from tests.half_space import write_half_space

KEY = b"0123456789abcdef"
PROBABILITIES = (0.02, 0.3, 0.5, 0.6, 0.9, 0.99, 1 - 1e-6, 1.0)
THRESHOLDS = (0.05, 0.5)
SPLIT = AlphaSplit(of_class=0.6, of_upper=0.4)


def table(sigma):
    return RoundedGaussian(sigma, rounded_gaussian_tails(sigma))


def chances(noise):
    """Every value that can be drawn, with its probability."""
    above = [int(tail) / 2**64 for tail in noise.tails]
    up = [above[k - 1] - above[k] for k in range(1, len(above))]
    return {0: 1 - 2 * above[0]} | dict(enumerate(up, 1)) | {-k: p for k, p in enumerate(up, 1)}


def exact_gaussian(law, x):
    return {(int(x[0]) + z,): p for z, p in chances(law.table).items()}


def exact_deletion(law, x):
    tokens, found = [int(token) for token in x if token != PAD], Counter()
    for kept in itertools.product((False, True), repeat=len(tokens)):
        left = [token for token, stays in zip(tokens, kept, strict=True) if stays]
        chance = law.rate ** (len(tokens) - len(left)) * (1 - law.rate) ** len(left)
        found[tuple(left + [PAD] * (len(x) - len(left)))] += chance
    return dict(found)


def exact_columns(law, x):
    """One column of numbers."""
    shown = list(itertools.combinations(range(1, len(x)), law.kept))
    found = {}
    for (z, p), places in itertools.product(chances(law.tables[0]).items(), shown):
        rest = tuple(int(x[j]) if j in places else HIDDEN for j in range(1, len(x)))
        found[int(x[0]) + z, *rest] = p / len(shown)
    return found


@dataclass(frozen=True)
class Case:
    law: object
    x: np.ndarray
    exact: object
    balls: tuple
    neighbour: object
    """The worst neighbour at the size of a ball, by intuition: there the bound is attained, or nearly so."""
    nearly: float


def gaussian_case():
    law = LatticeGaussian(table(8.0), 2.0, Euclidean("units", (0.25,)))
    move = lambda x, sizes: x + int(4 * sizes[0])  # noqa: E731
    return Case(law, np.array([100]), exact_gaussian, (0.0, 0.5, 2.0, 6.0), move, 0.03)


def deletion_case():
    def substituted(x, sizes):
        changed = x.copy()
        changed[: int(sizes[0])] = 9  # a token that is nowhere else
        return changed

    return Case(Deletion(), np.array([1, 2, 4, 3, PAD, PAD]), exact_deletion, (0.0, 1.0, 3.0), substituted, 1e-12)


def columns_case():
    law = Columns(sigmas=(8,), tables=(table(8.0),), kept=1, changed=1)

    def moved(x, sizes):
        changed = x.copy()
        changed[0] += int(8 * sizes[0])
        changed[1 : 1 + int(sizes[1])] = 7
        return changed

    balls = ({"l2": 0.0, "categories": 0}, {"l2": 0.25, "categories": 1}, {"l2": 1.0, "categories": 2})
    return Case(law, np.array([50, 1, 2, 3, 4]), exact_columns, balls, moved, 0.03)


CASES = {"gaussian": gaussian_case, "token deletion": deletion_case, "columns": columns_case}


@pytest.fixture(params=CASES, ids=CASES, scope="module")
def case(request):
    return CASES[request.param]()


@pytest.fixture
def known(case, monkeypatch):
    """The laws of the tests, registered by their one line."""
    for law in (Deletion, Columns):
        monkeypatch.setitem(LAWS, law.name, law.rebuild)
    return case.law.at(case.x).guarantee


def balls(case):
    parts = case.law.at(case.x).guarantee.parts
    return [parse(parts, said) for said in case.balls]


def least_by_enumeration(p, here, there):
    """The least probability there of any function, with values in [0, 1], whose probability here is p or more."""
    rising = sorted(here, key=lambda output: there.get(output, 0.0) / here[output])
    left, found = p, 0.0
    for output in rising:
        taken = min(1.0, left / here[output]) if here[output] else 0.0
        found, left = found + taken * there.get(output, 0.0), left - taken * here[output]
        if left <= 0:
            break
    return found


def test_a_draw_depends_on_key_and_index_alone(case):
    at = case.law.at(case.x)
    drawn = at.sample(KEY, 0, 100)
    for start, stop in ((0, 1), (17, 40), (99, 100)):
        assert np.array_equal(at.sample(KEY, start, stop), drawn[start:stop])
    assert not np.array_equal(at.sample(KEY[::-1], 0, 100), drawn)
    assert (drawn.dtype, drawn.shape) == (np.int32, (100, *case.x.shape))
    assert at.name == case.law.name
    assert (at.ballots, bool(at.stream)) == (1, True)


def test_no_number_of_a_perturbed_input_lies_outside_of_the_span(case):
    """Of all that can be drawn, and for the Gaussian law one step less would be too little."""
    low, high = case.law.span(int(case.x.min()), int(case.x.max()))
    numbers = {number for output in case.exact(case.law, case.x) for number in output}
    assert low <= min(numbers) <= max(numbers) <= high
    if isinstance(case.law, LatticeGaussian):
        assert (low, high) == (min(numbers), max(numbers))


def test_draws_have_the_probabilities_that_the_law_declares(case):
    """Each output of 4,000 draws within six standard deviations of its probability, all outputs together whole."""
    exact, draws = case.exact(case.law, case.x), 4_000
    assert sum(exact.values()) == pytest.approx(1.0, abs=1e-12)
    seen = Counter(map(tuple, case.law.at(case.x).sample(KEY, 0, draws).tolist()))
    assert set(seen) <= set(exact)
    for output, p in exact.items():
        assert abs(seen[output] / draws - p) <= 6 * (p * (1 - p) / draws) ** 0.5 + 1 / draws


def test_no_function_is_less_probable_at_a_neighbour_than_the_law_says_and_some_is_hardly_more(case):
    here = case.exact(case.law, case.x)
    law = case.law.at(case.x).guarantee
    for ball, p in itertools.product(balls(case), PROBABILITIES):
        there = case.neighbour(case.x, ball.sizes)
        assert ball.contains(case.x, there)
        least = least_by_enumeration(p, here, case.exact(case.law, there))
        most = 1 - least_by_enumeration(1 - p, here, case.exact(case.law, there))
        low, high = law.least(p - law.charge, ball) - law.charge, law.most(p + law.charge, ball) + law.charge
        assert low <= least + 1e-12
        assert high >= most - 1e-12
        assert (low, high) == pytest.approx((least, most), abs=case.nearly)


def test_no_neighbour_of_any_kind_is_worse_for_deleted_tokens():
    """Every text of two tokens to length 4 within two edits, insertions and deletions among them."""
    case = deletion_case()
    x, law = np.array([1, 2, 1, PAD]), case.law.at(np.array([1, 2, 1, PAD])).guarantee
    here, tried = exact_deletion(case.law, x), Counter()
    for text in itertools.product((PAD, 1, 2), repeat=4):
        other = np.array(sorted(text, key=lambda token: token == PAD))
        for edits in (1.0, 2.0):
            ball = parse(law.parts, edits)
            if ball.contains(x, other):
                tried[edits] += 1
                for p in PROBABILITIES:
                    found = least_by_enumeration(p, here, exact_deletion(case.law, other))
                    assert law.least(p, ball) <= found + 1e-12
    assert tried[1.0] > 10
    assert tried[2.0] > tried[1.0]


def test_bounds_move_with_the_ball_and_with_the_probability(case):
    law = case.law.at(case.x).guarantee
    for p, (small, large) in itertools.product(PROBABILITIES, itertools.pairwise(balls(case))):
        assert small <= large
        assert not large <= small
        assert 0 <= law.least(p, large) <= law.least(p, small) <= p <= law.most(p, small) <= law.most(p, large) <= 1
        assert law.least(p, small) == pytest.approx(law.least(p, small, complement=1 - p), abs=1e-9)
    for ball, (low, high) in itertools.product(balls(case), itertools.pairwise(PROBABILITIES)):
        assert law.least(low, ball) <= law.least(high, ball)
        assert law.most(low, ball) <= law.most(high, ball)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_what_is_needed_is_what_proves_and_no_more(case, threshold):
    law = case.law.at(case.x).guarantee
    for ball in balls(case):
        needed, refuted = law.needed(ball, threshold), law.needed(ball, threshold, side=-1)
        assert refuted < needed
        if needed < 1:
            assert law.least(needed - law.charge, ball) >= threshold - 1e-12
            assert law.least(refuted + law.charge, ball) <= threshold + 1e-12
            assert needed - refuted <= 2 * law.charge + 1e-9
        else:
            assert law.least(1.0, ball) <= threshold


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_radius_is_proven_and_hardly_any_larger_one_is(case, threshold):
    law = case.law.at(case.x).guarantee
    for p in PROBABILITIES[:-1]:
        found, above = law.radius(1 - p, threshold), law.radius_above(p, threshold)
        assert found <= above
        if found.size:
            assert law.least(p, found) >= threshold - 1e-12
            farther = replace(found, sizes=(found.size + 1.0, *found.sizes[1:]))
            assert law.least(p, farther) < threshold or not farther <= law.reach
    assert law.radius(1.0 - threshold, threshold).empty


def test_a_lead_is_proven(case):
    law = case.law.at(case.x).guarantee
    for (p, rival), margin in itertools.product([(0.9, 0.1), (0.99, 0.005), (0.6, 0.4), (0.4, 0.1)], [0.0, 0.1, 0.6]):
        found = law.lead(1 - p, rival, margin)
        assert found.empty or law.least(p, found) - law.most(rival, found) >= margin - 1e-12
        assert found <= law.lead_above(p, rival)
    assert law.lead(0.5, 0.5, 0.0).empty
    assert not law.lead(0.001, 0.001, 0.1).empty


def test_no_lead_is_larger_than_the_ball_that_is_said_to_hold_all(case):
    """Nor hardly smaller, where balls have one part."""
    law = case.law.at(case.x).guarantee
    for p, rival in itertools.product(PROBABILITIES, PROBABILITIES[::3]):
        above = law.lead_above(p, rival)
        assert law.lead_above(p, min(1.0, rival + 0.01)) <= above <= law.lead_above(min(1.0, p + 0.01), rival)
        for less in (1e-3, 0.1):
            assert law.lead(1 - p + less, rival, 0.0) <= above
        if len(law.parts) == 1 and p < 1 and not above.empty:
            farther = Ball(law.parts, (above.size + 1.0,))
            assert law.least(p, farther) <= law.most(rival, farther) or not farther <= law.reach


def test_a_guarantee_is_rebuilt_from_its_name_and_parameters(known):
    """As a receipt has them: numbers and texts, through the registry."""
    assert all(isinstance(value, float | str) for value in known.parameters.values())
    assert rebuilt(known.name, known.parameters, known.charge) == known
    with pytest.raises(ValueError, match="law: expected one of"):
        rebuilt("no such law", known.parameters, known.charge)
    assert pickle.loads(pickle.dumps(known)) == known
    assert 0 < scale(known) <= known.reach.size < np.inf


def test_what_a_law_is_drawn_from_is_kept_in_a_file_of_tensors(case):
    kept = load(save(dict(case.law.tensors)))
    assert {name: found.tolist() for name, found in kept.items()} == {
        name: table.tolist() for name, table in case.law.tensors.items()
    }


def test_a_ball_is_parsed_from_the_wire_and_refuses_what_is_none(case):
    parts = case.law.at(case.x).guarantee.parts
    sizes = {part.norm: 1.0 for part in parts}
    assert parse(parts, sizes) == Ball(parts, (1.0,) * len(parts))
    if len(parts) == 1:
        assert parse(parts, 1) == parse(parts, sizes)
    wrong = [-1.0, float("nan"), float("inf"), "1", None, True, [1.0], {}, {**sizes, "colour": 1.0}]
    wrong += [{**sizes, part.norm: 0.5} for part in parts if part.whole]
    for said in wrong if len(parts) == 1 else [1.0, *wrong]:
        with pytest.raises(ValueError, match="expected"):
            parse(parts, said)


def test_membership_is_exact_at_the_edge():
    for case, inside, outside in (
        (gaussian_case(), [108], [109]),
        (deletion_case(), [2, 4, 3, PAD, PAD, PAD], [2, 3, 4, PAD, PAD, PAD]),
        (columns_case(), [58, 9, 2, 3, 4], [58, 9, 9, 3, 4]),
    ):
        parts = case.law.at(case.x).guarantee.parts
        said = {"l2": 2.0, "edits": 1, "categories": 1}
        ball = parse(parts, {part.norm: said[part.norm] for part in parts})
        if len(parts) == 2:
            ball = parse(parts, {"l2": 1.0, "categories": 1})
        assert ball.contains(case.x, np.array(inside))
        assert not ball.contains(case.x, np.array(outside))


def counted(hits, draws, lost=0):
    return Counts(draws=draws, votes=(hits, draws - hits - lost), lost=lost)


@pytest.mark.parametrize("decision", [None, Flag(0, 0.05)], ids=["argmax", "flag"])
def test_procedures_claim_what_the_law_proves_and_no_more(case, decision):
    """Of one stream of votes: a target that is reached lies in the ball that is proven, and refuted ones do not."""
    law = case.law.at(case.x).guarantee
    terms = Terms(law=law, alpha=0.01, split=SPLIT, classes=2, **({"decision": decision} if decision else {}))
    threshold = terms.decision.threshold
    for share in (0.2, 0.45, 0.97, 1.0):
        seen = counted(round(3_200 * share), 3_200)
        best = Best().conclude(terms, seen)
        assert (best.class_index is not None) == (decision is None or share > 0.05)
        if best.ball and not best.ball.empty and best.class_index == 0:
            assert law.least(share, best.ball) > threshold
        for ball in balls(case):
            aimed = RunningProcedure(Target(ball), terms, 3_200).conclude(seen)
            if aimed.status == "certified":
                assert ball <= aimed.ball or not aimed.ball <= ball  # balls of two parts may cross
                assert law.least(share if aimed.class_index == 0 else 1 - share, ball) > threshold
            if aimed.status == "refuted":
                assert law.least(max(share, 1 - share) if decision is None else share, ball) <= threshold
    assert Best().conclude(terms, counted(0, 0)).ball is None


def test_the_radius_is_known_to_the_precision_that_is_asked_for(case):
    law = case.law.at(case.x).guarantee
    terms = Terms(law=law, alpha=0.01, split=SPLIT, classes=2)
    run = RunningProcedure(Precision(1.0), terms, 10**6)
    for draws in (SLICE * 2**step for step in range(16)):
        certificate = run.receive(counted(round(0.9 * draws), draws))
        if certificate:
            break
    truth = law.radius_above(0.9).size
    assert certificate.status == "certified"
    assert certificate.radius <= truth <= certificate.radius + 1.0
    assert run.expected_remaining(counted(31, 32)) >= SLICE


def test_a_mixture_keeps_its_label_where_the_law_says_so(case):
    law = case.law.at(case.x).guarantee
    terms = Terms(law=law, alpha=0.01, split=SPLIT, classes=2)
    certificate = Best().conclude(terms, counted(9_990, 10_000))
    assert 0 < mixture_radius(certificate, 0.9) <= mixture_radius(certificate, 1.0)
    assert mixture_radius(certificate, 0.5) == 0.0


@pytest.fixture(scope="module")
def some_bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


def receipted(known, case, bundle, procedure):
    """The receipt that an engine signs for 960 draws, all but two of one class, under the law of the case."""
    served = replace(bundle, law=case.law, detector=None)
    task = Task(
        model="half-space",
        version="1",
        digest=bundle.digest,
        rows=(case.x.astype(np.int32),),
        keys=(KEY,),
        procedure=procedure,
        max_draws=960,
        alpha=0.01,
        timeout_s=1.0,
        parts=frozenset({"certificate", "mixture"}),
        receipt=True,
    )
    signer = Signer(bytes(32))
    job = Job(served, task, 0, Notary(signer=signer, runtime="none"))
    job.receive_base(np.array([0.25, 0.75], dtype=np.float32))
    for start in range(0, 960, SLICE):
        votes = np.where(np.arange(start, start + SLICE) % 480 == 7, 0, 1)
        job.receive(start, SliceResult(SLICE, votes, np.zeros(SLICE, dtype=np.float32)))
    return parse_signed(job.answer().receipt.encode()).receipt


def test_a_receipt_holds_whole_balls_and_none_of_their_parts_can_be_altered(known, case, some_bundle):
    """Of every law: what is aimed at, certified and kept by the mixture is rebuilt, and compared part by part."""
    for procedure in (Best(), Target(balls(case)[1])):
        receipt = receipted(known, case, some_bundle, procedure)
        assert [each for each in recheck(receipt) if not each.agrees] == []
        assert read(json.loads(receipt.to_bytes())) == receipt
        again = asked(receipt)
        assert type(again) is type(procedure)
        assert getattr(again, "ball", balls(case)[1]).sizes == balls(case)[1].sizes
        said, mixed = receipt.claims.certificate, receipt.claims.mixture
        assert said.radius > 0
        if len(known.parts) == 1:
            assert (said.ball, mixed.ball, receipt.procedure.target) == (None, None, None)
            continue
        assert [(part.norm, part.units) for part in said.ball] == [(part.norm, part.units) for part in known.parts]
        for field, ball in (("certificate", said.ball), ("mixture", mixed.ball)):
            for place, part in enumerate(ball[1:], 1):
                for other in (part.size + 1.0, 0.0):
                    changed = (*ball[:place], replace(part, size=other), *ball[place + 1 :])
                    claimed = replace(getattr(receipt.claims, field), ball=changed)
                    tampered = replace(receipt, claims=replace(receipt.claims, **{field: claimed}))
                    wrong = [each.field for each in recheck(tampered) if not each.agrees]
                    assert wrong == [f"claims.{field}.ball"]
