from __future__ import annotations

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom

from certify.bounds import anytime
from certify.bounds.binomial import first_true
from certify.claims.certificate import AlphaSplit
from certify.ood.verdict import (
    Detector,
    assess,
    fixed_interval,
    fixed_rank,
    interval,
    lower_median,
    proving_rank,
    tally,
    verdict,
)
from tests.certify import exact
from tests.certify.claims.test_procedures import terms
from tests.certify.gaussian import ball

DETECTOR = Detector(threshold=10.0, radius=0.25, score_draws=32, calibration=np.arange(99.0))
TERMS = terms(sigma=0.25)


def test_score_is_the_lower_median_of_the_first_draws_alone():
    scores = np.concatenate([np.arange(32.0), np.full(1_000, 99.0)])
    verdict = assess(scores, TERMS, DETECTOR)
    assert verdict.score == 15.0
    assert verdict.p_value == (1 + 99 - 15) / 100
    assert verdict.in_distribution is False


@pytest.mark.parametrize("scores", [np.arange(31.0), np.where(np.arange(64) == 7, np.nan, 1.0)], ids=["few", "lost"])
def test_without_all_of_the_first_draws_there_is_no_verdict(scores):
    assert assess(scores, TERMS, DETECTOR) is None


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        (np.full(1_000, 9.0), "in_distribution"),
        (np.full(1_000, 10.0), "in_distribution"),
        (np.full(1_000, 10.1), "out_of_distribution"),
        (np.full(1_000, np.inf), "out_of_distribution"),
        (np.tile([9.0, 11.0], 500), "undetermined"),
        (np.full(32, 9.0), "undetermined"),
    ],
)
def test_three_way_verdict(scores, verdict):
    certified = assess(scores, TERMS, DETECTOR).certified
    assert certified.verdict == verdict
    assert certified.radius == 0.25


def test_trivial_bounds_are_absent():
    certified = assess(np.full(32, 9.0), TERMS, DETECTOR).certified
    assert (certified.score_lower, certified.score_upper) == (None, None)


def test_nothing_is_certified_without_a_share():
    assert assess(np.full(1_000, 9.0), TERMS, DETECTOR, certify=False).certified is None


def test_without_a_share_neither_side_nor_interval_is_claimed():
    bare = terms(split=AlphaSplit(of_class=0.8, of_upper=0.2))
    certified = assess(np.full(1_000, 9.0), bare, DETECTOR).certified
    assert (certified.verdict, certified.score_lower, certified.score_upper) == ("undetermined", None, None)


@given(st.integers(100, 600), st.integers(0, 80), st.integers(0, 2**32 - 1))
def test_lost_draws_only_widen(draws, lost, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=draws)
    gaps = scores.copy()
    gaps[rng.permutation(draws)[:lost]] = np.nan
    low, high = interval(scores, TERMS, 0.1)
    gap_low, gap_high = interval(gaps, TERMS, 0.1)
    assert gap_low <= low <= high <= gap_high


@given(st.floats(0, 0.3), st.floats(0, 0.3))
def test_the_interval_grows_with_the_radius(one, other):
    scores = np.random.default_rng(1).normal(size=2_000)
    small, large = sorted((one, other))
    inner, outer = interval(scores, TERMS, small), interval(scores, TERMS, large)
    assert outer[0] <= inner[0] <= inner[1] <= outer[1]


def test_the_interval_holds_at_every_look_on_the_tight_linear_score():
    """Scores N(0, sigma^2), the median moved by R: false at any of 60 looks in at most the share of alpha.

    3,000 seeded runs at alpha .25, interval share .2: budget .05; binomial limit at a false-alarm rate of 1e-6.
    """
    rng, runs, false = np.random.default_rng(3), 3_000, 0
    t = terms(alpha=0.25, sigma=1.0)
    for _ in range(runs):
        scores = rng.normal(size=640)
        bounds_seen = [interval(scores[:n], t, 0.5) for n in range(32, 641, 64)]
        false += any(low > -0.5 or high < 0.5 for low, high in bounds_seen)
    assert 0 < false <= binom.isf(1e-6, runs, 0.05)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50))
def test_lower_median_by_definition(scores):
    median = lower_median(np.array(scores))
    assert sum(s <= median for s in scores) >= math.ceil(len(scores) / 2)
    assert sum(s < median for s in scores) < math.ceil(len(scores) / 2)


INTERVAL_ALONE = AlphaSplit(of_class=0.001, of_upper=0.0, of_interval=0.999)
RANKS = [
    # draws, (k_lo, k_hi) at R/sigma = .5, at 1; largest R/sigma
    (100, (16, 85), (5, 96), 1.45),
    (200, (41, 160), (16, 185), 1.78),
    (500, (121, 380), (54, 447), 2.17),
    (1_000, (261, 740), (122, 879), 2.43),
    (10_000, (2_934, 7_067), (1_467, 8_534), 3.17),
    (100_000, (30_374, 69_627), (15_486, 84_515), 3.79),
]


@pytest.mark.parametrize(("draws", "half", "whole", "largest"), RANKS)
def test_fixed_ranks_worked_out_beforehand(draws, half, whole, largest):
    """(k_lo, k_hi) at alpha/2 = .0005, and R_max = sigma Phi^-1(b^(1/n))."""
    t = terms(alpha=0.001 / 0.999, sigma=1.0, split=INTERVAL_ALONE)
    for radius, (low, high) in ((0.5, half), (1.0, whole)):
        rank = fixed_rank(draws, t, radius)
        assert (draws + 1 - rank, rank) == (low, high)
    assert fixed_rank(draws, t, largest - 0.01) is not None
    assert fixed_rank(draws, t, largest + 0.01) is None


@given(st.integers(1, 400), st.floats(0, 2), st.floats(1e-4, 0.5))
def test_fixed_ranks_by_exact_enumeration(draws, radius, alpha):
    """Violated with the tail of a binomial, at most b; read from 0, one rank too high, it is not.

    Continuous scores: `S_(k) > h_q` if and only if fewer than k of n lie below h_q.
    """
    t = terms(alpha=alpha, sigma=1.0, split=INTERVAL_ALONE)
    level, share = alpha * 0.999 / 2, ndtr(-radius)
    rank = fixed_rank(draws, t, radius)
    if rank is None:
        assert binom.cdf(0, draws, share) > level * (1 - 1e-8)
        return
    low = draws + 1 - rank
    assert binom.cdf(low - 1, draws, share) <= level
    assert binom.cdf(low, draws, share) > level * (1 - 1e-8)  # what a 0-based index would have taken
    assert binom.sf(rank - 1, draws, 1 - share) <= level
    assert rank <= (proving_rank(draws, t, radius) or draws + 1)


@pytest.mark.parametrize("lattice", [0.0, 0.5, 100.0], ids=["linear", "lattice", "constant"])
def test_the_fixed_interval_covers_scores_with_ties(lattice):
    """Coverage on linear, lattice and constant scores; 2,000 runs, share .2 of alpha, limit at 1e-6.

    The score x + noise, rounded to the lattice; the median at x + R is that of the rounded normal.
    """
    rng, runs, radius = np.random.default_rng(5), 2_000, 0.5
    t = terms(alpha=0.25, sigma=1.0, split=AlphaSplit(of_class=0.2, of_upper=0.0, of_interval=0.8))

    def score(values):
        return np.round(values / lattice) * lattice if lattice else values

    false = 0
    for _ in range(runs):
        low, high = fixed_interval(score(rng.normal(size=200)), t, radius)
        # The median of a monotone function of a normal is the function of its mean, or the lower of two at a tie.
        false += low > score(-radius + 1e-9) or high < score(radius - 1e-9)
    assert false <= binom.isf(1e-6, runs, 0.2)
    assert lattice or false > 0.1 * runs


def test_the_order_of_draws_is_all_the_same_and_a_grown_radius_contains():
    """L falls and U rises with R. Both for a fixed and for any number of draws."""
    scores = np.random.default_rng(9).normal(size=500)
    for rule in (interval, fixed_interval):
        spans = [rule(scores, TERMS, radius) for radius in (0.0, 0.1, 0.2, 0.3)]
        assert [rule(scores[::-1], TERMS, radius) for radius in (0.0, 0.1, 0.2, 0.3)] == spans
        assert all(b[0] <= a[0] <= a[1] <= b[1] for a, b in pairwise(spans))
        assert rule(scores, TERMS, 10.0) == (-math.inf, math.inf)


def ever_false(rank, runs: int) -> float:
    """How often `S_(n + 1 - rank)` exceeds the median at one of many looks, or `S_(rank)` is below it."""
    rng, looks = np.random.default_rng(13), np.arange(32, 2_049, 32)
    above = np.cumsum(rng.binomial(32, 0.5, (runs, len(looks))), axis=1)
    needed = np.array([rank(int(n)) or n + 1 for n in looks])
    return float(np.mean(np.any((above >= needed) | (looks - above >= needed), axis=1)))


def check_looks(runs: int) -> None:
    t = terms(alpha=0.1, sigma=1.0, split=AlphaSplit(of_class=0.5, of_upper=0.0, of_interval=0.5))
    honest = ever_false(lambda n: proving_rank(n, t, 0.0), runs)
    mutant = ever_false(lambda n: fixed_rank(n, t, 0.0), runs)
    print(f"\n{runs} runs, 64 looks at the median, nominal .05: {honest:.4f}; mutant with fixed-n ranks {mutant:.3f}")
    assert 0 < honest <= binom.isf(1e-6, runs, 0.05) / runs
    assert mutant > 0.2


def test_fixed_ranks_at_every_look_are_void_and_anytime_ranks_hold():
    """Ranks of the median for a number of draws fixed beforehand, used at every look, fail."""
    check_looks(4_000)


@pytest.mark.slow
def test_fixed_ranks_at_every_look_are_void_and_anytime_ranks_hold_long():
    """As above, in 1e5 runs."""
    check_looks(100_000)


def test_tally_counts_what_the_claims_need():
    scores = np.concatenate([np.full(40, 9.0), np.full(20, 11.0), [np.nan] * 4])
    counts = tally(scores, TERMS, DETECTOR)
    assert (counts.draws, counts.lost, counts.above, counts.at_most) == (64, 4, 20, 40)
    assert (counts.score, counts.calibration_at_least) == (9.0, 90)


def test_a_verdict_is_certified_unless_said_otherwise_and_carries_its_threshold():
    found = verdict(tally(np.full(1_000, 10.0), TERMS, DETECTOR), TERMS, DETECTOR.terms)
    assert (found.threshold, found.in_distribution, found.certified.verdict) == (10.0, True, "in_distribution")


OF_INTERVAL_ALONE = terms(split=AlphaSplit(of_class=0.5, of_upper=0.2, of_interval=0.2))
OF_THRESHOLD_ALONE = terms(split=AlphaSplit(of_class=0.5, of_upper=0.2, of_threshold=0.1))


@pytest.mark.parametrize("fixed", [OF_INTERVAL_ALONE, OF_THRESHOLD_ALONE], ids=["interval", "threshold"])
@pytest.mark.parametrize(
    ("score", "expected"), [(9.0, "in_distribution"), (10.0, "in_distribution"), (10.5, "out_of_distribution")]
)
def test_interval_and_threshold_each_prove_the_verdict(fixed, score, expected):
    certified = assess(np.full(1_000, score), fixed, DETECTOR).certified
    assert certified.verdict == expected
    ends = (score, score) if fixed is OF_INTERVAL_ALONE else (None, None)
    assert (certified.score_lower, certified.score_upper) == ends


@pytest.mark.parametrize("draws", [1, 60, 80, 200, 1_000, 3_000])
def test_the_proving_rank_is_the_least_that_the_test_rejects_at_half_of_its_share(draws):
    needed = TERMS.needed(ball(0.1))
    proven = [k for k in range(draws + 1) if anytime.exceeds(draws, k, needed, 0.001 * 0.2 / 2)]
    assert proving_rank(draws, TERMS, 0.1) == (proven[0] if proven else None)


def test_the_ends_of_the_interval_are_these_order_statistics():
    scores = np.random.default_rng(2).permutation(3_000).astype(float)
    rank = proving_rank(3_000, TERMS, 0.1)
    assert interval(scores, TERMS, 0.1) == (3_000 - rank, rank - 1)


def test_a_radius_that_no_share_can_prove_has_no_interval_and_no_verdict():
    assert proving_rank(10_000, TERMS, 1e9) is None
    wide = Detector(threshold=10.0, radius=1e9, score_draws=32, calibration=np.arange(99.0))
    assert assess(np.full(1_000, 9.0), TERMS, wide).certified.verdict == "undetermined"


@pytest.mark.parametrize("draws", [100, 150, 200, 400])
@pytest.mark.parametrize("ratio", [1e-12, 1e-3, 0.25, 1.0])
def test_each_side_of_the_threshold_is_proven_at_its_share_whatever_the_radius(draws, ratio):
    """By 50 digits: at level share * alpha * m. As the radius goes to 0, m goes to one half, and both sides share alike."""
    narrow = Detector(threshold=10.0, radius=ratio * 0.25, score_draws=32, calibration=np.arange(99.0))
    m, level = mpmath.ncdf(mpmath.mpf(ratio)), mpmath.log(10**4)
    for side, near, far in (("out_of_distribution", 10.5, 9.5), ("in_distribution", 10.0, 11.0)):

        def proven(hits, near=near, far=far, side=side):
            scores = np.where(np.arange(draws) < hits, near, far)
            return assess(scores, OF_THRESHOLD_ALONE, narrow).certified.verdict == side

        least = first_true(0, draws, proven)
        assert mpmath.log(m) + exact.log_evidence_by_fraction(draws, least, m) >= level
        assert mpmath.log(m) + exact.log_evidence_by_fraction(draws, least - 1, m) < level + 2e-6
