from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from certify.ood import Detector, assess, interval, lower_median
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
    """acceptance: claims 7.7."""
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
    from certify.certificate import AlphaSplit

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
