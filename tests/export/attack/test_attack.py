from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from certify.bounds import anytime
from certify.smoothing.gaussian import Gaussian
from export.attack import report, simulation
from export.attack.ball import GridBall
from export.attack.campaign import AttackError, CampaignPlan, attack, shaped
from export.attack.claims import MOST_CLAIMS, Aim, Keeps, Median, NoClassAbove, NoLead, VoteShare, issued
from export.attack.judge import judge, level_of
from export.attack.sample import Sample, VoteEvent, own_key
from export.attack.search import stein
from tests.half_space import CUT, LABELS, SIGMA, THRESHOLD, true_radius, write_half_space

PLAN = CampaignPlan(pictures=4, draws=4_096, seed=3)
WEIGHT = 0.9
WRONG_LABEL = {"certificate", "p_a_lower", "p_b_upper"}  # both bounds speak of the label


def noisy(lattice):
    return (lattice[:, 0] > CUT).astype(np.int64), lattice[:, 0].astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def inputs():
    return np.array([[150, 1, 2, 3], [100, 9, 9, 9], [165, 0, 0, 255], [143, 7, 7, 7]], dtype=np.int64)


def honest(bundle, lattice):
    """The answer with the sharpest true claims: no honest procedure claims more."""
    label, radius = true_radius(lattice)
    share = float(ndtr(radius / SIGMA))
    loss = float(ndtri(1 / (2 * WEIGHT))) * SIGMA
    first, reach = int(lattice[0]), int(SIGMA / 2)
    verdict = "undetermined"
    if first + reach <= THRESHOLD:
        verdict = "in_distribution"
    elif first - reach > THRESHOLD:
        verdict = "out_of_distribution"
    return {
        "certificate": {
            **{"status": "certified", "label": LABELS[label], "radius": radius - 1e-6, "norm": "l2", "sigma": SIGMA},
            **{"p_a_lower": share - 1e-9, "p_b_upper": 1 - share + 1e-9, "target_radius": None},
            "radius_tolerance": 2e-6,
        },
        "mixture": {"label": LABELS[label], "robust_weight": WEIGHT, "radius": max(0.0, radius - loss - 1e-6)},
        "ood": {
            "threshold": THRESHOLD,
            "certified": {
                **{"verdict": verdict, "score_lower": first - reach, "score_upper": first + reach},
                "radius": SIGMA / 2,
            },
        },
        "alpha": 0.001,
        "model": {"digest": bundle.digest, "runtime": "exact"},
    }


def lie(bundle, part, **changes):
    """Answers in which some fields are functions of the honest answer."""

    def answering(lattice):
        answer = honest(bundle, lattice)
        target = answer["ood"]["certified"] if part == "score" else answer[part]
        target |= {name: change(answer) for name, change in changes.items()}
        return answer

    return answering


def found_in(bundle, inputs, answering, plan=PLAN, run=noisy):
    return attack(bundle, run, answering, inputs, inputs[:, 0] > CUT, plan, runtime="exact", quiet=True)


def names(findings):
    return {each.claim for each in findings.counterexamples}


def test_the_sharpest_true_claims_stand(bundle, inputs):
    findings = found_in(bundle, inputs, lambda lattice: honest(bundle, lattice))
    assert findings.answers == 4
    assert not findings.counterexamples
    assert {each.claim for each in findings.attempts} >= {
        "certificate",
        "p_a_lower",
        "mixture",
        "p_b_upper",
        "score_upper",
    }
    # The search is no sham: it walks to the very edge, where a true claim has next to no margin left.
    edge = [each for each in findings.attempts if each.claim in ("certificate", "score_upper", "score_lower")]
    assert min(each.distance / each.radius for each in edge) > 0.9
    assert max(each.verdict.margin for each in edge) < 0.1


@pytest.mark.parametrize(
    ("part", "changes", "claims"),
    [
        ("certificate", {"radius": lambda a: 1.3 * a["certificate"]["radius"]}, {"certificate"}),
        ("certificate", {"p_a_lower": lambda a: 1 - (1 - a["certificate"]["p_a_lower"]) / 2}, {"p_a_lower"}),
        ("certificate", {"label": lambda a: LABELS[1 - LABELS.index(a["certificate"]["label"])]}, WRONG_LABEL),
        ("certificate", {"p_b_upper": lambda a: a["certificate"]["p_b_upper"] / 2}, {"p_b_upper"}),
        (
            "certificate",
            {"status": lambda a: "refuted", "target_radius": lambda a: 0.6 * a["certificate"]["radius"]},
            {"refuted"},
        ),
        ("certificate", {"radius": lambda a: 0.6 * a["certificate"]["radius"]}, {"precision"}),
        ("mixture", {"radius": lambda a: a["certificate"]["radius"]}, {"mixture"}),
        ("score", {"score_upper": lambda a: a["ood"]["certified"]["score_upper"] - 4}, {"score_upper"}),
        ("score", {"score_lower": lambda a: a["ood"]["certified"]["score_lower"] + 4}, {"score_lower"}),
        ("score", {"verdict": lambda a: "in_distribution"}, {"in_distribution"}),
        ("score", {"verdict": lambda a: "out_of_distribution"}, {"out_of_distribution"}),
    ],
)
def test_planted_lies_are_found_and_nothing_else(bundle, inputs, part, changes, claims):
    findings = found_in(bundle, inputs, lie(bundle, part, **changes))
    assert names(findings) == claims
    for each in findings.counterexamples:
        start = inputs[each.picture]
        squared = sum((Fraction(a) - Fraction(int(b))) ** 2 for a, b in zip(each.point, start, strict=True))
        assert squared <= Fraction(each.radius) ** 2
    assert not report.passed(findings, [])


def test_a_run_is_repeatable_and_bounded(bundle, inputs):
    def answering(lattice):
        return honest(bundle, lattice)

    first, again = (found_in(bundle, inputs, answering) for _ in range(2))
    assert [each.verdict for each in first.attempts] == [each.verdict for each in again.attempts]
    assert found_in(bundle, inputs, answering, dataclasses.replace(PLAN, pictures=1)).answers == 1
    assert found_in(bundle, inputs, answering, dataclasses.replace(PLAN, seconds=1e-9)).attempts == []
    hunts, points = 5, MOST_CLAIMS
    assert first.passes <= 4 * (hunts + points) * (PLAN.draws + 4 * 1_024)


def test_what_cannot_be_attacked_is_said(bundle, inputs):
    for changes, said in [
        ({"digest": "sha256:other"}, "attack the bundle that is served"),
        ({"runtime": "another"}, "comes from 'another', and here runs 'exact'"),
    ]:
        answer = honest(bundle, inputs[0])
        answer["model"] |= changes
        with pytest.raises(AttackError, match=said):
            found_in(bundle, inputs, lambda _, answer=answer: answer)
    with pytest.raises(AttackError, match="expected pictures from 1"):
        CampaignPlan(draws=1)
    with pytest.raises(AttackError, match="are no inputs"):
        shaped(np.zeros((2, 3, 3), np.uint8), bundle)
    with pytest.raises(ValueError, match="too many"):
        GridBall.of(np.zeros(2**16), 1.0, 1.0, 2**24 - 1)


def test_an_abstention_claims_nothing_but_its_bounds():
    certificate = {
        "status": "undecided",
        "label": None,
        "radius": 0.0,
        "sigma": 1.0,
        "p_a_lower": None,
        "p_b_upper": 0.7,
    }
    answer = {"certificate": certificate, "mixture": {"radius": 0.0}, "ood": None}
    assert issued(answer, LABELS, Gaussian(1.0)) == [NoClassAbove("p_b_upper", 0.7, 2)]
    assert issued({"certificate": None, "mixture": None, "ood": None}, LABELS, Gaussian(1.0)) == []


TWO_SIDED = {
    "status": "refuted",
    "label": None,
    "radius": 0.0,
    "sigma": 1.0,
    "p_a_lower": None,
    "p_b_upper": 1.0,
    "target_radius": 0.5,
    "radius_tolerance": None,
    "two_sided": True,
}


def test_a_refutation_by_two_sides_speaks_of_the_lead():
    answer = {"certificate": TWO_SIDED, "mixture": None, "ood": None}
    assert issued(answer, ("a", "b", "c"), Gaussian(1.0)) == [NoLead("refuted", 0.5, 3, Gaussian(1.0))]
    known = TWO_SIDED | {"status": "certified", "radius": 0.25, "radius_tolerance": 0.5, "label": "a", "p_a_lower": 0.4}
    claims = issued({"certificate": known, "mixture": None, "ood": None}, ("a", "b", "c"), Gaussian(1.0))
    assert [each.target for each in claims if each.name == "precision"] == [math.nextafter(0.75, 1)]


@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=5),
    st.lists(st.integers(1, 400), min_size=2, max_size=5),
    st.floats(0, 1.5),
)
def test_where_no_class_leads_by_enough_one_of_the_events_is_rare_whatever_was_sampled(weights, seen, target):
    """And where one does, the events of a large sample of it contradict that none does."""
    shares = np.array(weights) / sum(weights)
    seen = (seen + [1] * 5)[: len(shares)]
    claim = NoLead("refuted", target, len(shares), Gaussian(1.0))
    lead = float(np.diff(ndtri(np.sort(shares)[-2:]))[0]) / 2
    chance = {"vote is": lambda c: shares[int(c)], "vote is not": lambda c: 1 - shares[int(c)]}

    def contradicted(counts):
        sample = Sample(np.repeat(np.arange(len(shares)), counts), np.zeros(sum(counts)))
        return all(chance[each.kind](each.value) > each.most for each in claim.events(sample, 0.0))

    if lead < target:
        assert not contradicted(seen)
    if lead > target + 0.05:
        assert contradicted(np.maximum(1, np.round(shares * 100_000)).astype(int).tolist())


@given(
    centre=arrays(np.int64, st.integers(1, 12), elements=st.integers(0, 255)),
    radius=st.floats(0, 600),
    step=st.floats(1e-3, 10),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_the_projection_never_leaves_the_ball(centre, radius, step, data):
    ball = GridBall.of(centre, radius, step, 255)
    wild = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])
    target = data.draw(arrays(np.float64, centre.shape, elements=wild))
    for point in (ball.inward(target), ball.farthest(target)):
        assert ball.holds(point)
        squared = sum(Fraction(int(a) - int(b)) ** 2 for a, b in zip(point, centre, strict=True))
        assert squared * Fraction(step) ** 2 <= Fraction(radius) ** 2
        assert point.min() >= 0
        assert point.max() <= 255
    inside = ball.inward(target)
    assert np.array_equal(ball.inward(inside.astype(float)), inside)


def test_the_farthest_point_reaches_the_radius_where_the_grid_lets_it():
    ball = GridBall.of(np.full(784, 128), 127.5, 1.0, 255)
    direction = np.random.default_rng(0).standard_normal(784)
    point = ball.farthest(direction)
    assert ball.reach - ball.squared(point) ** 0.5 < 0.2
    cosine = direction @ (point - ball.centre) / np.linalg.norm(direction) / ball.squared(point) ** 0.5
    assert cosine > 0.99
    corner = GridBall.of(np.zeros(3, int), 1_000.0, 1.0, 255)
    assert corner.farthest(np.array([1.0, -1.0, 0.5])).tolist() == [255, 0, 255]


def true_claims():
    """The events of claims that are true with nothing to spare, and the law of votes under which they are."""
    near = sampled([0.55, 0.35, 0.1], 2_000, 1)
    return {
        "keeps": (Keeps("mixture", 1.0, 0, 0.2, 3).events(near, 0.0), [0.55, 0.35, 0.1]),
        "share": (VoteShare(1.0, 0, float(ndtr(1.0)), Gaussian(1.0)).events(near, 0.5), [ndtr(0.5), ndtr(-0.5)]),
        "above": (NoClassAbove("refuted", 0.6, 2).events(near, 0.0), [0.6, 0.4]),
    }


def sampled(shares, draws, seed):
    votes = np.random.default_rng(seed).choice(len(shares), draws, p=shares)
    return Sample(votes, votes.astype(float))


@pytest.mark.parametrize("name", ["keeps", "share", "above"])
def test_the_judge_is_wrong_no_more_often_than_its_level(name):
    """20,000 tests of claims that hold with equality, at level .01; over seeds the limit is passed in one of 10^6."""
    events, shares = true_claims()[name]
    level, runs = 0.01, 20_000
    generator = np.random.default_rng(5)
    counts = generator.multinomial(400, shares, size=runs)
    kinds, false = {}, 0
    for row in map(tuple, counts):
        if row not in kinds:
            votes = np.repeat(np.arange(len(shares)), row)
            verdict = judge(Sample(votes, votes.astype(float)), events, 0.0, level)
            kinds[row] = (verdict.contradicted, verdict.proven_margin)
        false += kinds[row][0]
    assert false <= binom.isf(1e-6, runs, level)


def test_the_judge_has_power_and_proves_margins():
    event = VoteEvent("vote is", 1, 0.5)
    found = judge(sampled([0.4, 0.6], 4_000, 2), (event,), 0.0, level_of(1e-3, 100))
    assert found.contradicted
    assert found.margin < 0
    assert found.proven_margin < found.margin
    safe = judge(sampled([0.7, 0.3], 4_000, 2), (event,), 0.0, 1e-6)
    assert not safe.contradicted
    assert 0 < safe.proven_margin < safe.margin
    assert level_of(1e-3, 100) == pytest.approx(1e-3 / 900)


def test_a_charge_only_helps_the_claim():
    sample, event = sampled([0.4, 0.6], 1_000, 3), (VoteEvent("vote is", 1, 0.5),)
    assert judge(sample, event, 0.05, 0.01).p_value > judge(sample, event, 0.0, 0.01).p_value


def test_scores_at_the_bound_contradict_nothing():
    sample = Sample(np.zeros(100, int), np.full(100, 5.0))
    for kind, contradicted in (("score above", False), ("score below", False), ("score up to", True)):
        events = Median("x", 1.0, kind, 5.0).events(sample, 0.0)
        assert judge(sample, events, 0.0, 1e-6).contradicted is contradicted


def test_keys_differ_by_seed_and_place():
    keys = {own_key(*place) for place in ((1, "a", 2), (2, "a", 2), (1, "a", 3), (1, "judge", 2), (1, "a", 2, 0))}
    assert len(keys) == 5


def test_the_noise_itself_points_at_the_boundary():
    generator = np.random.default_rng(1)
    point = np.full(50, 100)
    lattice = point + np.rint(16 * generator.standard_normal((4_000, 50))).astype(np.int32)
    parts = [(lattice, Sample((lattice[:, 7] > 110).astype(int), lattice[:, 7].astype(float)))]
    assert stein(parts, point, Aim("away", 0))[7] > 0.9
    assert stein(parts, point, Aim("away", 1))[7] < -0.9
    assert stein(parts, point, Aim("up"))[7] > 0.9
    assert stein(parts, point, Aim("down"))[7] < -0.9


def test_the_simulation_passes_and_says_its_limits():
    tallies = simulation.simulate(32, seed=1, quiet=True)
    assert {each.kind for each in tallies} == set(simulation.BUDGETS)
    assert all(each.passed and each.runs == 32 for each in tallies)
    assert report.passed(None, tallies)
    assert "no counterexample was found" in report.summary(None, tallies)


def test_the_simulation_finds_an_optional_stopping_fault(monkeypatch):
    def mutant(draws, hits, m, alpha, complement=None):
        share = hits / draws  # a normal interval, looked at again and again
        return share - 1.96 * (share * (1 - share) / draws) ** 0.5 > m

    monkeypatch.setattr(anytime, "chosen_exceeds", mutant)
    simulation._false_votes.cache_clear()
    try:
        tallies = {each.kind: each for each in simulation.simulate(96, seed=1, quiet=True)}
    finally:
        simulation._false_votes.cache_clear()
    assert not tallies["certificate"].passed
    assert not report.passed(None, list(tallies.values()))


def test_the_document_holds_what_the_summary_says(bundle, inputs):
    findings = found_in(bundle, inputs, lie(bundle, "mixture", radius=lambda a: a["certificate"]["radius"]))
    document = json.loads(json.dumps(report.document(findings, [])))
    assert document["passed"] is False
    assert document["attack"]["counterexamples"] == len(findings.counterexamples) > 0
    assert all(("point" in each) == each["contradicted"] for each in document["attack"]["attempts"])
    assert document["attack"]["plan"]["seed"] == PLAN.seed
    text = report.summary(findings, [])
    assert text.count("COUNTEREXAMPLE") == len(findings.counterexamples)
    assert "closest call" in text
