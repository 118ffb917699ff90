from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import entropy

from certify.bounds import anytime, binomial
from certify.claims import conclusions
from certify.claims.certificate import WHOLE_ON_CLASS, AlphaSplit, Certificate, LowerBound, Terms, certifying
from certify.claims.counts import Counts
from certify.claims.procedures import SLICE
from certify.smoothing.gaussian import Gaussian
from tests.certify.gaussian import ball, best_run, fixed_run, precision_run, target_run
from tests.certify.gaussian import radius as radius_of

SPLIT = AlphaSplit(of_class=0.5, of_upper=0.2, of_threshold=0.1, of_interval=0.2)


def terms(alpha=0.001, sigma=0.25, split=SPLIT, charge=0.0, classes=3):
    return Terms(law=Gaussian(sigma, charge), alpha=alpha, split=split, classes=classes)


def counts(*votes, none=0, lost=0):
    return Counts(draws=sum(votes) + none + lost, votes=votes, lost=lost)


TARGET = target_run(terms(), 10_000, 0.25)

TARGET_TABLE = [
    # counts, does it conclude, status, class, radius at least, radius at most
    (counts(32, 0, 0), False, "undecided", 0, 0.0, 0.25),
    (counts(64, 0, 0), True, "certified", 0, 0.25, 0.35),
    (counts(0, 0, 64), True, "certified", 2, 0.25, 0.35),
    (counts(700, 280, 20), True, "refuted", 0, 0.01, 0.25),
    (counts(40, 40, 40), True, "refuted", None, 0.0, 0.0),
    (counts(0, 0, 0, none=64), True, "refuted", None, 0.0, 0.0),
    (counts(8_450, 1_550, 0), True, "undecided", 0, 0.2, 0.25),
    (counts(0, 0, 0, lost=64), False, "undecided", None, 0.0, 0.0),
]


@pytest.mark.parametrize(("seen", "stops", "status", "label", "low", "high"), TARGET_TABLE)
def test_target(seen, stops, status, label, low, high):
    received, concluded = TARGET.receive(seen), TARGET.conclude(seen)
    assert (received is not None) is stops
    assert received in (None, concluded)
    assert (concluded.status, concluded.class_index) == (status, label)
    assert low <= concluded.radius <= high
    assert (concluded.target_radius, concluded.procedure, concluded.draws) == (0.25, "target", seen.draws)


def test_a_radius_at_the_stop_may_exceed_the_target_and_never_falls_short_of_it():
    for hits in range(40, 400):
        certificate = TARGET.conclude(counts(hits, 0, 0))
        if certificate.status == "certified":
            assert certificate.radius >= 0.25
            assert certificate.p_a_lower > ndtr(1.0) - 1e-9
            assert certificate.p_b_upper <= 1 - certificate.p_a_lower + 1e-15


def test_a_target_of_zero_certifies_the_label_with_thirteen_draws_at_alpha_whole():
    procedure = target_run(terms(split=AlphaSplit(of_class=1.0, of_upper=0.0)), 10_000, 0.0)
    first = next(n for n in itertools.count(1) if procedure.receive(counts(n, 0, 0)))
    assert first == 13


@pytest.mark.parametrize("procedure", [best_run, fixed_run])
def test_best_and_fixed_stop_at_their_draws(procedure):
    p = procedure(terms(split=WHOLE_ON_CLASS if procedure is fixed_run else SPLIT), 1_000)
    assert p.receive(counts(992, 0, 0)) is None
    certificate = p.receive(counts(1_000, 0, 0))
    assert certificate.status == "certified"
    assert p.expected_remaining(counts(900, 0, 0)) == 100


def test_fixed_equals_the_literature_up_to_the_price_of_the_label():
    certificate = fixed_run(terms(split=WHOLE_ON_CLASS), 1_000).receive(counts(1_000, 0, 0))
    ceiling = 0.25 * ndtri(0.001 ** (1 / 1_000))
    assert 0.99 * ceiling < certificate.radius <= ceiling
    assert certificate.p_b_upper == pytest.approx(1 - certificate.p_a_lower)


@pytest.mark.parametrize("procedure", [best_run(terms(), 100), TARGET, fixed_run(terms(split=WHOLE_ON_CLASS), 100)])
def test_before_the_first_draw_nothing_is_claimed(procedure):
    certificate = procedure.conclude(counts(0, 0, 0))
    assert (certificate.status, certificate.class_index, certificate.p_b_upper) == ("undecided", None, 1.0)


def test_a_fixed_run_that_was_cut_claims_nothing():
    certificate = fixed_run(terms(split=WHOLE_ON_CLASS), 1_000).conclude(counts(992, 0, 0))
    assert (certificate.status, certificate.class_index, certificate.radius) == ("undecided", None, 0.0)


@given(st.lists(st.integers(0, 400), min_size=3, max_size=3), st.integers(0, 50))
def test_lost_draws_only_weaken(votes, lost):
    """Lost draws only lower L and raise U."""
    if not sum(votes):
        return
    procedure = best_run(terms(), 10_000)
    whole = procedure.conclude(Counts(draws=sum(votes), votes=tuple(votes)))
    gaps = procedure.conclude(Counts(draws=sum(votes) + lost, votes=tuple(votes), lost=lost))
    assert gaps.radius <= whole.radius
    assert (gaps.p_a_lower or 0) <= (whole.p_a_lower or 0)
    assert gaps.class_index in (None, whole.class_index)


@given(st.floats(0, 1e-3))
def test_the_charge_is_taken_off(charge):
    """d eps, for the table of the noise, is subtracted."""
    free, charged = (best_run(terms(charge=c), 10_000).conclude(counts(990, 10, 0)) for c in (0.0, charge))
    assert charged.p_a_lower <= free.p_a_lower - charge * 0.999
    assert charged.p_b_upper >= free.p_b_upper


ALL_KINDS = [best_run(terms(), 900), target_run(terms(), 900, 0.1), fixed_run(terms(), 900)]


@pytest.mark.parametrize("procedure", ALL_KINDS, ids=lambda each: each.procedure.name)
def test_a_certificate_records_what_it_rests_on(procedure):
    certificate = procedure.conclude(counts(880, 5, 5, lost=10))
    assert certificate.procedure == procedure.procedure.name
    assert (certificate.draws, certificate.lost) == (900, 10)
    assert certificate.law.parameters == {"sigma": 0.25, "norm": "l2"}
    assert (certificate.bound.draws, certificate.bound.alpha) == (900, 0.001 * SPLIT.of_class)


@pytest.mark.parametrize("charge", [0.0, 1e-3])
def test_bounds_are_those_of_their_shares_and_bear_the_charge(charge):
    """Level: share times alpha. The charge weakens both sides, in both kinds of bound."""
    t, seen = terms(charge=charge), counts(850, 30, 20)
    fixed, best = fixed_run(t, 900).conclude(seen), best_run(t, 900).conclude(seen)
    level = 0.001 * SPLIT.of_class
    for found, complement in (
        (fixed, binomial.clopper_pearson_chosen_complement(900, 850, level)),
        (best, anytime.chosen_lower_complement(900, 850, level)),
    ):
        assert complement + charge < found.bound.complement < complement + charge + 1e-15
    even = best_run(t, 1_200).conclude(counts(400, 400, 400))
    highest = anytime.upper(1_200, 400, 0.001 * SPLIT.of_upper)
    assert highest < 0.5
    assert highest + charge < even.p_b_upper < highest + charge + 1e-15
    assert best_run(terms(charge=0.1), 900).conclude(counts(1, 1, 1)).p_b_upper == 1.0


@pytest.mark.parametrize("charge", [0.0, 0.04])
def test_a_target_is_reached_and_refuted_at_the_levels_of_its_shares(charge):
    """Every number of hits of 600: reached at Phi(1) + charge, refuted at Phi(1) - charge."""
    procedure = target_run(terms(charge=charge), 10_000, 0.25)
    reached, refuted = float(ndtr(1.0)) + charge, float(ndtr(1.0)) - charge
    for hits in range(301, 601):
        status = procedure.conclude(counts(hits, 600 - hits, 0)).status
        certified = anytime.chosen_exceeds(600, hits, reached, 0.001 * SPLIT.of_class)
        below = anytime.exceeds(600, 600 - hits, 1 - refuted, 0.001 * SPLIT.of_upper, anytime.KAPPA_UPPER)
        assert status == ("certified" if certified else "refuted" if below else "undecided")


@pytest.mark.parametrize("seen", [(31, 1, 0), (28, 4, 0), (500, 100, 0), (1_000, 150, 50)])
def test_the_forecast_is_the_missing_evidence_over_the_divergence(seen):
    total = sum(seen)
    share, needed = (seen[0] + 0.5) / (total + 1), TARGET.terms.needed(ball(0.25))
    wanted = (math.log(total + 2) - math.log(0.001)) / entropy([share, 1 - share], [needed, 1 - needed])
    assert TARGET.expected_remaining(counts(*seen)) == int(min(10_000 - total, max(SLICE, wanted - total)))


def test_before_the_first_draw_a_divergence_of_a_twentieth_is_expected():
    assert TARGET.expected_remaining(counts(0, 0, 0)) == int((math.log(2) - math.log(0.001)) / 0.05)


@pytest.mark.parametrize("hits", [16, 32, 64])
def test_without_a_miss_as_few_draws_are_expected_as_can_decide(hits):
    wanted = (math.log(hits + 2) - math.log(0.001)) / -math.log(TARGET.terms.needed(ball(0.25)))
    assert TARGET.expected_remaining(counts(hits, 0, 0)) == int(max(SLICE, wanted - hits))
    assert target_run(terms(), 10_000, 1e9).expected_remaining(counts(32, 0, 0)) > 0  # a target that no share reaches


@pytest.mark.parametrize(("votes", "lost"), [((6, 5), 0), ((5, 5), 1), ((-1, 5), 0), ((5, 5), -1)])
def test_votes_for_labels_that_do_not_exclude_each_other_are_refused(votes, lost):
    """Labels of which several may be right at once."""
    with pytest.raises(ValueError, match="exclude each other"):
        Counts(draws=10, votes=votes, lost=lost)


@given(st.lists(st.integers(0, 3_000), min_size=3, max_size=3), st.integers(0, 300))
def test_all_stop_rules_together_do_not_contradict_each_other(votes, lost):
    """On one set of counts, whatever radius is asked for, and by whichever rule."""
    seen = Counts(draws=sum(votes) + lost + 1, votes=tuple(votes), lost=lost)
    best = best_run(terms(), 10_000).conclude(seen)
    enclosed = precision_run(terms(), 10_000, 1e9).conclude(seen)
    targets = {r: target_run(terms(), 10_000, r).conclude(seen) for r in np.linspace(0, 1, 11)}
    proven = [r for r, each in targets.items() if each.status == "certified"]
    refuted = [r for r, each in targets.items() if each.status == "refuted"]
    assert max(proven, default=-1) < min(refuted, default=2)
    assert all(r <= best.radius + 1e-9 for r in proven)
    assert all(r > best.radius or best.class_index is None for r in refuted)
    assert enclosed.radius == best.radius
    assert {each.class_index for each in (*targets.values(), best, enclosed)} <= {best.class_index, None}


@given(st.integers(1, 10**6), st.floats(0, 1), st.sampled_from([0.05, 1e-3, 1e-9]))
def test_no_radius_is_above_the_ceiling_of_its_draws(draws, share, alpha):
    """Phi^-1(alpha^(1/n)) is what n draws that all agree could prove, and no more is claimed."""
    hits = round(share * draws)
    seen = Counts(draws=draws, votes=(hits, draws - hits))
    ceiling = max(0.0, float(-ndtri(-math.expm1(math.log(alpha) / draws)))) * (1 + 1e-12)
    whole = terms(alpha=alpha, sigma=1.0, split=WHOLE_ON_CLASS)
    procedures = (
        best_run(whole, draws),
        fixed_run(whole, draws),
        target_run(whole, draws, 1.0),
        precision_run(whole, draws, 1.0),
    )
    assert max(each.conclude(seen).radius for each in procedures) <= ceiling


def test_no_certificate_at_one_half():
    """Where L <= 1/2 it abstains."""
    bound = LowerBound(class_index=0, complement=0.5, draws=10, alpha=0.001)
    assert certifying(bound) is None
    assert radius_of(bound, 1.0) == 0.0
    assert certifying(LowerBound(class_index=0, complement=0.499, draws=10, alpha=0.001)) is not None


@given(st.floats(1e-12, 0.4999), st.floats(0.01, 100))
def test_a_printed_radius_is_below_the_true_one(complement, sigma):
    import mpmath

    from tests.certify import exact

    bound = LowerBound(class_index=0, complement=complement, draws=10, alpha=0.001)
    truth = -mpmath.mpf(sigma) * exact.normal_quantile(mpmath.mpf(complement))
    assert float(repr(radius_of(bound, sigma))) <= truth
    assert radius_of(bound, sigma) >= float(truth) * (1 - 1e-12) - 1e-15 * sigma


@given(st.floats(1e-12, 0.4999), st.floats(0.01, 100))
def test_the_product_with_sigma_is_rounded_down(complement, sigma):
    radius = radius_of(LowerBound(class_index=0, complement=complement, draws=10, alpha=0.001), sigma)
    assert Fraction(radius) <= Fraction(sigma) * Fraction(binomial.quantile_of_complement_below(complement))


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_ratio_that_a_radius_needs_is_rounded_to_its_side(radius, sigma):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binomial, "probability_above", lambda z: z)
        patch.setattr(binomial, "probability_below", lambda z: z)
        fixed = terms(sigma=sigma)
        exact = Fraction(radius) / Fraction(sigma)
        assert Fraction(fixed.needed(ball(radius), side=-1)) < exact < Fraction(fixed.needed(ball(radius)))


def test_contradicting_bounds_abstain(monkeypatch):
    """Counts that lie below every bound cannot arise; the bounds are made to contradict each other here."""
    monkeypatch.setattr(conclusions, "most_probable_above", lambda terms, counts: 0.3)
    certificate = best_run(terms(), 10_000).conclude(counts(1_000, 0, 0))
    assert (certificate.status, certificate.class_index, certificate.p_b_upper) == ("undecided", None, 1.0)


def test_a_forecast_is_positive_and_within_the_budget():
    for seen in [counts(0, 0, 0), counts(32, 0, 0), counts(20, 12, 0), counts(9_900, 50, 20)]:
        assert 0 <= TARGET.expected_remaining(seen) <= 10_000 - seen.draws
    assert TARGET.expected_remaining(counts(32, 0, 0)) < TARGET.expected_remaining(counts(28, 4, 0))


def test_shares_of_alpha_cannot_sum_to_more_than_one():
    with pytest.raises(ValueError, match="shares"):
        AlphaSplit(of_class=0.9, of_upper=0.2)
    with pytest.raises(ValueError, match="shares"):
        AlphaSplit(of_class=0.0, of_upper=0.2)
    # Shares like .8 + .1 + .1 do not sum to one exactly.
    assert AlphaSplit(of_class=1.0, of_upper=1e-12).of_upper > 0


def test_mean_draws_are_those_worked_out_beforehand():
    """R = sigma, z = .25: 738 draws on average at alpha .001 whole on the class, in 400 seeded runs.

    The standard error of the mean is about 20 draws and looks come every 32 draws, half of which is lost: +16.
    """
    p = float(ndtr(1.25))
    procedure = target_run(terms(split=AlphaSplit(of_class=1.0, of_upper=0.0)), 10**6, 0.25)
    rng, used = np.random.default_rng(11), []
    for _ in range(400):
        draws = hits = 0
        while True:
            hits += rng.binomial(SLICE, p)
            draws += SLICE
            if procedure.receive(Counts(draws=draws, votes=(hits, draws - hits, 0))):
                break
        used.append(draws)
    assert 738 - 5 * 20 < np.mean(used) < 738 + 16 + 5 * 20


def test_needed_probabilities_lie_on_their_sides():
    t = terms(charge=1e-6)
    assert t.needed(ball(0.25)) > ndtr(1.0) + 1e-6 > ndtr(1.0) - 1e-6 > t.needed(ball(0.25), side=-1)
    assert binomial.quantile_below(t.needed(ball(0.0))) > 0


def test_a_certificate_without_a_bound_has_no_radius():
    certificate = Certificate(
        status="undecided",
        procedure="best",
        law=Gaussian(0.25),
        bound=None,
        p_b_upper=1.0,
        draws=0,
        lost=0,
        target=ball(0.5),
    )
    assert (certificate.radius, certificate.class_index, certificate.p_a_lower) == (0.0, None, None)


def test_what_the_target_s_test_has_proven_counts_where_the_inverted_bound_falls_short(monkeypatch):
    right, seen = anytime.chosen_lower_complement, counts(2_000, 0, 0)
    needed = TARGET.terms.needed(ball(0.25))
    monkeypatch.setattr(anytime, "chosen_lower_complement", lambda *args: right(*args) + 0.2)
    assert TARGET.conclude(seen).bound.complement == pytest.approx(1 - needed, abs=1e-12)
    assert conclusions.anytime_bound(TARGET.terms, seen, 0.9).complement == pytest.approx(0.1, abs=1e-12)
    assert conclusions.anytime_bound(TARGET.terms, seen).complement > 0.2
