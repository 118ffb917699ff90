from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from certify import anytime
from certify.certificate import AlphaSplit
from certify.ood import Detector, assess, interval, lower_median, proving_rank, tally, verdict
from tests.certify.test_procedures import terms

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


def test_tally_counts_what_the_claims_need():
    scores = np.concatenate([np.full(40, 9.0), np.full(20, 11.0), [np.nan] * 4])
    counts = tally(scores, TERMS, DETECTOR)
    assert (counts.draws, counts.lost, counts.above, counts.at_most) == (64, 4, 20, 40)
    assert (counts.score, counts.calibration_at_least) == (9.0, 90)


def test_a_verdict_is_certified_unless_said_otherwise_and_carries_its_threshold():
    found = verdict(tally(np.full(1_000, 10.0), TERMS, DETECTOR), TERMS, DETECTOR.terms)
    assert (found.threshold, found.in_distribution, found.certified.verdict) == (10.0, True, "in_distribution")


INTERVAL_ALONE = terms(split=AlphaSplit(of_class=0.5, of_upper=0.2, of_interval=0.2))
THRESHOLD_ALONE = terms(split=AlphaSplit(of_class=0.5, of_upper=0.2, of_threshold=0.1))


@pytest.mark.parametrize("fixed", [INTERVAL_ALONE, THRESHOLD_ALONE], ids=["interval", "threshold"])
@pytest.mark.parametrize(
    ("score", "expected"), [(9.0, "in_distribution"), (10.0, "in_distribution"), (10.5, "out_of_distribution")]
)
def test_interval_and_threshold_each_prove_the_verdict(fixed, score, expected):
    certified = assess(np.full(1_000, score), fixed, DETECTOR).certified
    assert certified.verdict == expected
    ends = (score, score) if fixed is INTERVAL_ALONE else (None, None)
    assert (certified.score_lower, certified.score_upper) == ends


@pytest.mark.parametrize("draws", [1, 60, 80, 200, 1_000, 3_000])
def test_the_proving_rank_is_the_least_that_the_test_rejects_at_half_of_its_share(draws):
    needed = TERMS.needed(0.1)
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
