"""The two-sided certificate: its table, its coverage, and where it claims nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from certify.bounds import anytime, binomial
from certify.claims.certificate import WHOLE_ON_CLASS, AlphaSplit, Terms, certifying
from certify.claims.conclusions import anytime_bound
from certify.claims.counts import Counts
from certify.claims.decision import Flag
from certify.claims.procedures import SLICE, Best, Precision, RunningProcedure, Target
from certify.claims.two_sided import at_any_time, at_fixed_draws, largest
from certify.mixture import mix
from certify.smoothing.ball import Ball
from certify.smoothing.gaussian import Gaussian
from tests.certify.gaussian import radius as radius_of

SPLIT = AlphaSplit(of_class=0.9, of_upper=0.1)
FALSE_ALARM = 1e-6


def terms(alpha=0.001, split=SPLIT, charge=0.0):
    return Terms(law=Gaussian(1.0, charge), alpha=alpha, split=split, classes=3, two_sided=True)


def one_sided(of):
    return replace(of, two_sided=False)


def spread(p_a, p_b, draws):
    """Counts with these two shares, the rest spread over classes no larger than the second."""
    first, second = round(p_a * draws), round(p_b * draws)
    rest, votes = draws - first - second, [first, second]
    while rest > 0:
        votes.append(min(rest, second))
        rest -= votes[-1]
    return Counts(draws=draws, votes=tuple(votes))


@pytest.mark.parametrize(
    ("p_a", "p_b", "draws", "one_sided", "two_sided"),
    [
        (0.4, 0.1, 10_000, None, 0.461),
        (0.6, 0.1, 10_000, 0.214, 0.714),
        (0.8, 0.02, 10_000, 0.797, 1.370),
        (0.99, 0.002, 10_000, 2.212, 2.417),
        (0.99, 0.009, 10_000, 2.212, 2.215),
        (0.999, 0.001, 1_000, 2.358, 2.353),
    ],
)
def test_the_table_worked_out_beforehand(p_a, p_b, draws, one_sided, two_sided):
    """R/sigma at a fixed number of draws.

    These figures bound the class at plain alpha_A; to choose it from the same draws, at alpha_A m, costs up to .0025.
    """
    counts = spread(p_a, p_b, draws)
    found = radius_of(at_fixed_draws(terms(), counts), 1.0)
    assert two_sided - 0.0025 < found < two_sided + 0.0006
    one = binomial.quantile_of_complement_below(binomial.clopper_pearson_complement(draws, counts.votes[0], 0.001))
    assert one < 0 if one_sided is None else one == pytest.approx(one_sided, abs=6e-4)
    assert radius_of(at_any_time(terms(), counts), 1.0) < found


@given(st.integers(1, 5_000), st.floats(0.5, 1), st.sampled_from([0.05, 1e-3, 1e-9]))
def test_two_classes_reduce_to_the_one_sided_certificate(draws, share, alpha):
    """At the level of the class alone."""
    hits = math.ceil(share * draws)
    counts, t = Counts(draws=draws, votes=(hits, draws - hits)), terms(alpha=alpha)
    one, two = anytime_bound(one_sided(t), counts), at_any_time(t, counts)
    assert (one is None) == (two is None)
    if one and two:
        assert radius_of(two, 0.25) == pytest.approx(radius_of(one, 0.25), rel=1e-9, abs=1e-12)


def test_without_a_share_for_the_upper_bounds_the_rest_is_the_rival():
    t = terms(split=WHOLE_ON_CLASS)
    for counts in (spread(0.9, 0.03, 1_000), spread(0.4, 0.1, 1_000)):
        one, two = anytime_bound(one_sided(t), counts), at_any_time(t, counts)
        assert (radius_of(two, 1.0) if two else 0.0) == pytest.approx(radius_of(one, 1.0) if one else 0.0)


@pytest.mark.parametrize("bound", [at_any_time, at_fixed_draws])
@pytest.mark.parametrize(
    "counts",
    [
        Counts(draws=0, votes=(0, 0, 0)),
        Counts(draws=1_000, votes=(400, 400, 200)),
        Counts(draws=1_000, votes=(400, 150, 0), lost=350),  # the lost draws may all be the second's
        Counts(draws=1_000, votes=(400, 100, 100)),  # "none" has as many votes as the leader
    ],
    ids=["none drawn", "tie", "lost", "votes for none"],
)
def test_no_certificate_where_the_leader_does_not_lead_for_certain(bound, counts):
    """None with L_A <= p_B."""
    assert bound(terms(), counts) is None


@pytest.mark.parametrize("bound", [at_any_time, at_fixed_draws])
@given(votes=st.lists(st.integers(0, 900), min_size=2, max_size=6), lost=st.integers(0, 100), charge=st.floats(0, 0.01))
def test_lost_draws_and_the_charge_only_weaken(bound, votes, lost, charge):
    whole = bound(terms(), Counts(draws=sum(votes), votes=tuple(votes)))
    gaps = bound(terms(charge=charge), Counts(draws=sum(votes) + lost, votes=tuple(votes), lost=lost))
    if gaps:
        assert gaps.class_index == whole.class_index
        assert radius_of(gaps, 1.0) <= radius_of(whole, 1.0)
        assert gaps.p_b >= whole.p_b
        assert 0 < gaps.p_b < 1 - gaps.complement


def test_the_radius_is_below_the_exact_one():
    import mpmath

    from tests.certify import exact

    bound = at_fixed_draws(terms(), spread(0.6, 0.1, 10_000))
    lead = -exact.normal_quantile(mpmath.mpf(bound.complement)) - exact.normal_quantile(mpmath.mpf(bound.p_b))
    truth = mpmath.mpf(0.25) * lead / 2
    assert truth * (1 - mpmath.mpf(10) ** -12) < radius_of(bound, 0.25) <= truth


VECTORS = {
    "two ahead, tied": [0.4, 0.4, 0.1, 0.1],
    "three tied": [1 / 3] * 3,
    "ten tied": [0.1] * 10,
    "one ahead, two tied behind": [0.5, 0.25, 0.25],
    "one and ten tied behind": [0.5, *[0.05] * 10],
    "near the top": [0.42, 0.38, 0.2],
}


def simulated(p, runs, looks, seed):
    """Counts (look, run, class) of `runs` streams."""
    rng, steps = np.random.default_rng(seed), np.diff([0, *looks])
    return np.cumsum(np.stack([rng.multinomial(step, p, size=runs) for step in steps]), axis=0)


def falsities(p, runs, looks, alpha, seed, bound="anytime", mutant=False):
    """In how many runs some look has L_A > p_A, or p_B below the true probability of a class other than A."""
    p, t = np.asarray(p), terms(alpha=alpha)
    seen, false = simulated(p, runs, looks, seed), np.zeros(runs, dtype=bool)
    best_other = np.array([np.delete(p, c).max() for c in range(p.size)])
    for n, counts in zip(looks, seen, strict=True):
        lower, upper = tables(n, t, bound)
        leader, ordered = counts.argmax(axis=1), np.sort(counts, axis=1)
        low = lower[ordered[:, -1]]
        p_b = ordered[:, -2] / n if mutant else np.minimum(upper[ordered[:, -2]], 1 - low)
        false |= (low > p[leader]) | (p_b < best_other[leader])
    return int(false.sum())


def tables(n, t, bound):
    low, high = t.alpha * t.split.of_class, t.alpha * t.split.of_upper / 2
    if bound == "anytime":
        upper = partial(anytime.upper, kappa=anytime.KAPPA)
        pairs = [(anytime.chosen_lower_complement(n, k, low), upper(n, k, high)) for k in range(n + 1)]
    else:
        chosen, upper = binomial.clopper_pearson_chosen_complement, binomial.clopper_pearson_upper
        pairs = [(chosen(n, k, low), upper(n, k, high)) for k in range(n + 1)]
    complement, above = np.array(pairs).T
    return 1 - complement, above


def test_the_simulated_bound_is_the_module_s():
    for bound, function in (("anytime", at_any_time), ("fixed", at_fixed_draws)):
        lower, upper = tables(100, terms(alpha=0.1), bound)
        found = function(terms(alpha=0.1), Counts(draws=100, votes=(60, 25, 15)))
        assert 1 - found.complement == pytest.approx(lower[60])
        assert found.p_b == pytest.approx(min(upper[25], 1 - lower[60]))


@pytest.mark.parametrize("p", VECTORS.values(), ids=VECTORS)
def test_coverage_with_ties_at_the_top(p):
    """False in at most the budget .10, at a fixed n and at any of 12 looks.

    4,000 seeded runs each; limits at a false-alarm rate of 1e-6.
    """
    alpha, runs, looks = 0.1, 4_000, [*range(10, 130, 10)]
    limit = binom.isf(FALSE_ALARM, runs, alpha)
    assert falsities(p, runs, looks, alpha, seed=4) <= limit
    assert falsities(p, runs, [120], alpha, seed=5, bound="fixed") <= limit


@pytest.mark.parametrize("p", [[0.5, 0.3, 0.2], [0.4, 0.4, 0.1, 0.1], [0.42, 0.38, 0.2]])
def test_the_mutant_whose_p_b_is_the_observed_share_fails(p):
    """p_B = k_B/n."""
    limit = binom.isf(FALSE_ALARM, 4_000, 0.1)
    assert falsities(p, 4_000, [120], 0.1, seed=6, bound="fixed", mutant=True) > 2 * limit


@pytest.mark.slow
@pytest.mark.parametrize("p", VECTORS.values(), ids=VECTORS)
def test_coverage_with_ties_at_the_top_in_many_runs(p):
    alpha, runs, looks = 0.1, 100_000, [*range(10, 310, 10)]
    anytime_false = falsities(p, runs, looks, alpha, seed=14)
    fixed_false = falsities(p, runs, [300], alpha, seed=15, bound="fixed")
    print(
        f"\n{np.round(p, 3).tolist()}: anytime {anytime_false / runs:.4f}, fixed {fixed_false / runs:.4f}, budget {alpha}"
    )
    limit = binom.isf(FALSE_ALARM, runs, alpha)
    assert anytime_false <= limit
    assert fixed_false <= limit


def test_a_class_below_one_half_can_be_certified():
    bound = at_any_time(terms(), spread(0.4, 0.1, 10_000))
    assert bound.complement > 0.5
    assert radius_of(bound, 1.0) > 0.4
    assert radius_of(certifying(anytime_bound(one_sided(terms()), spread(0.6, 0.1, 10_000))), 1.0) < 0.25


@pytest.mark.parametrize("bound", [at_any_time, at_fixed_draws])
def test_the_bound_names_its_class_and_draws(bound):
    found = bound(terms(), Counts(draws=1_000, votes=(50, 900, 50)))
    assert (found.class_index, found.draws) == (1, 1_000)


def test_a_charge_beyond_certainty_leaves_nothing():
    assert at_any_time(terms(charge=0.999), Counts(draws=1_000, votes=(900, 100))) is None


def aim(size):
    return Target(Ball(Gaussian(1.0).parts, (size,)))


def test_a_target_is_proven_and_refuted_by_the_lead_over_the_second_class():
    """.4 against .1 leads within .51 sigma; a class below one half is refuted at any radius where bounds are one-sided."""
    counts = spread(0.4, 0.1, 16_384)
    found = {size: aim(size).conclude(terms(), counts) for size in (0.0, 0.45, 0.5, 0.6)}
    assert [each.status for each in found.values()] == ["certified", "certified", "undecided", "refuted"]
    assert {each.class_index for each in found.values()} == {0}
    assert all(each.two_sided and 0.45 < each.radius < 0.5 for each in found.values())
    assert found[0.45].p_a_lower < 0.4 < 0.5
    assert 0.1 < found[0.45].p_b_upper < found[0.45].p_a_lower
    plain = aim(0.0).conclude(one_sided(terms()), counts)
    assert (plain.status, plain.class_index, plain.two_sided) == ("refuted", None, False)


@pytest.mark.parametrize("size", [0.05, 0.8])
def test_a_target_is_looked_at_now_and_then_and_decided_as_soon_as_it_is_seen(size):
    """Counts of a stream in which the shares are exact at every look; looks are few where there are many draws."""
    run = RunningProcedure(aim(size), terms(), 10**6)
    looked = [n for n in range(SLICE, 40_000, SLICE) if run.receive(spread(0.4, 0.1, n)) is not None]
    status = run.conclude(spread(0.4, 0.1, looked[0])).status
    assert status == ("certified" if size < 0.4 else "refuted")
    assert all(aim(size).conclude(terms(), spread(0.4, 0.1, n)).status == status for n in looked[:50])
    assert 1 <= len([n for n in looked if n >= 32_768]) <= 8
    assert looked[0] % SLICE == 0


def test_the_radius_is_known_from_both_sides():
    """Once its bounds lie within the tolerance, the true radius of the lead is at most that much more than is proven."""
    truth, run = radius_of_lead(0.4, 0.1), RunningProcedure(Precision(0.1), terms(), 10**6)
    for draws in (SLICE * 2**step for step in range(16)):
        certificate = run.receive(spread(0.4, 0.1, draws))
        if certificate:
            break
    assert (certificate.status, certificate.draws < 10**6) == ("certified", True)
    assert certificate.radius <= truth <= certificate.radius + 0.1


def radius_of_lead(first, second):
    law = Gaussian(1.0)
    low, high = law.lead(1 - first, second, 0.0).size, law.lead_above(first, second).size
    assert low <= high <= low * (1 + 1e-12)
    return high


@given(st.lists(st.integers(0, 900), min_size=2, max_size=6), st.integers(0, 200), st.floats(0, 2), st.floats(0, 1e-3))
def test_no_target_is_both_proven_and_refuted_and_what_is_proven_lies_within_the_largest(votes, lost, size, charge):
    counts = Counts(draws=sum(votes) + lost, votes=tuple(votes), lost=lost)
    t = terms(charge=charge)
    certificate, target = Best().conclude(t, counts), aim(size).conclude(t, counts)
    above = largest(t, counts).size
    assert certificate.radius <= above
    assert target.status != "certified" or size <= certificate.radius <= target.radius <= above
    assert (target.status == "refuted") == (above < size)
    assert certificate.p_b_upper == target.p_b_upper


def test_the_mixture_gains_by_the_bound_of_the_others():
    """Its radius needs a lead of (1-w)/w: .6 against .1, worked out beforehand at equal bounds, is .49 sigma over .012."""
    counts = spread(0.6, 0.1, 100_000)
    two, one = (Best().conclude(each, counts) for each in (terms(), one_sided(terms())))
    assert mix.radius(two, 0.84) > 0.45
    assert mix.radius(one, 0.84) < 0.02
    assert mix.radius(Best().conclude(terms(), spread(0.4, 0.1, 100_000)), 0.84) > 0.05
    assert one.radius < two.radius


def test_lost_draws_are_misses_of_the_second_class_as_well_where_it_refutes():
    """All the lost ones may have been the leader's, and none the second's."""
    whole = Counts(draws=4_000, votes=(2_000, 1_900, 100))
    gaps = Counts(draws=4_000, votes=(2_000, 1_000, 100), lost=900)
    assert aim(0.5).conclude(terms(), whole).status == "refuted"
    assert aim(0.5).conclude(terms(), gaps).status == "undecided"


def test_two_sides_are_refused_where_they_mean_nothing():
    with pytest.raises(ValueError, match="two-sided bounds compare the most probable label"):
        replace(terms(), decision=Flag(0, 0.05))
