from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from certify.conformal import p_value, pac_rank, pac_threshold
from tests.certify.exact import tail_at_least

INF = math.inf


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.5, 1.0),  # nothing scores lower: everything is as far out
        (1.0, 1.0),
        (1.5, Fraction(4, 5)),
        (2.0, Fraction(4, 5)),  # both ties count
        (2.5, Fraction(2, 5)),
        (3.0, Fraction(2, 5)),
        (3.1, Fraction(1, 5)),
        (INF, Fraction(1, 5)),
        (math.nan, Fraction(1, 5)),  # not a number is the farthest there is
    ],
)
def test_p_value_by_hand(score, expected):
    assert p_value(np.array([1.0, 2.0, 2.0, 3.0]), score) == float(expected)


def test_an_infinite_calibration_score_is_tied_with_an_infinite_score():
    assert p_value(np.array([1.0, INF]), INF) == pytest.approx(2 / 3)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_p_values_of_exchangeable_scores_are_valid_for_every_level(scores):
    """Exactly, with ties: let each of m+1 scores be the new one in turn; at most a share `a` may have p <= a."""
    ps = np.array(
        [p_value(np.sort(np.delete(np.array(scores, float), i)), float(scores[i])) for i in range(len(scores))]
    )
    for level in np.unique(ps):
        assert np.mean(ps <= level) <= level + 1e-12


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), st.floats(-4, 4), st.floats(0, 2))
def test_p_value_never_rises_with_the_score(calibration, score, more):
    ordered = np.sort(np.array(calibration))
    assert p_value(ordered, score + more) <= p_value(ordered, score)


def test_repeated_rows_need_noise_keyed_by_row():
    """acceptance: claims 7.7: 20 distinct rows in 200, an alarm at p <= .05: keyed by row it holds, keyed by input not.

    20,000 seeded draws of rows and noise; binomial limit at a false-alarm rate of 1e-6. The mutant is off by .02.
    """
    rng, runs, far = np.random.default_rng(6), 20_000, 0.05
    alarms = {True: 0, False: 0}
    for _ in range(runs):
        rows, shared = rng.normal(size=20), rng.normal(scale=2.0, size=20)
        which, fresh = rng.integers(20, size=200), rng.normal(scale=2.0, size=201)
        mine = rng.integers(20)
        for keyed in (True, False):
            scores = rows[which] + (fresh[:200] if keyed else shared[which])
            alarms[keyed] += p_value(np.sort(scores), rows[mine] + fresh[200]) <= far
    limit = binom.isf(1e-6, runs, far)
    assert alarms[True] <= limit < alarms[False]


@pytest.mark.parametrize(("size", "rank"), [(90, 90), (200, 197), (500, 487), (1000, 966), (5000, 4786), (10000, 9551)])
def test_ranks_of_the_reference(size, rank):
    assert pac_rank(size, 0.05, 0.01) == rank


@given(st.integers(1, 400), st.floats(0.01, 0.6), st.floats(0.001, 0.5))
def test_rank_is_the_least_that_is_proven(size, far, eta):
    exact = [tail_at_least(size, k, 1 - mpmath.mpf(far)) for k in range(size + 1)] if size <= 40 else None
    tail = exact or [binom.sf(k - 1, size, 1 - far) for k in range(size + 1)]
    proven = [k for k in range(size + 1) if tail[k] <= eta * (1 - 1e-8)]
    if not proven:
        return
    rank = pac_rank(size, far, eta)
    assert tail[rank] <= eta
    assert rank <= proven[0]


def test_it_exists_from_the_stated_size_on():
    assert pac_rank(90, 0.05, 0.01) == 90
    with pytest.raises(ValueError, match="at least 90 are needed"):
        pac_rank(89, 0.05, 0.01)
    with pytest.raises(ValueError, match="0 calibration scores"):
        pac_rank(0, 0.05, 0.01)


@pytest.mark.parametrize(("far", "eta"), [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.0), (math.nan, 0.1)])
def test_levels_outside_the_open_interval_are_refused(far, eta):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        pac_rank(1000, far, eta)


def test_threshold_is_that_order_statistic_in_any_order():
    scores = np.random.default_rng(3).permutation(1000).astype(float)
    assert pac_threshold(scores, 0.05, 0.01) == 965.0  # rank 966, counted from 0.0
    with pytest.raises(ValueError, match="without NaN"):
        pac_threshold(np.array([math.nan] * 100), 0.05, 0.01)


def failures(values, size: int, far: float, eta: float, runs: int) -> float:
    """How often a threshold from `size` scores has a true false-alarm rate above `far`; `values` are equally likely."""
    generator = np.random.default_rng(11)
    wrong = 0
    for _ in range(runs):
        threshold = pac_threshold(generator.choice(values, size).astype(float), far, eta)
        wrong += np.mean(values > threshold) > far
    return wrong / runs


@pytest.mark.parametrize("values", [np.arange(100_000), np.arange(10), np.array([0] * 94 + [1] * 6)])
def test_pac_failures_stay_below_eta(values):
    runs, eta = 3000, 0.1
    assert failures(values, 200, 0.05, eta, runs) <= binom.ppf(1 - 1e-6, runs, eta) / runs


def test_the_rank_below_would_fail(monkeypatch):
    """The same simulation sees a threshold one order statistic too low."""
    right = pac_rank
    monkeypatch.setattr("certify.conformal.pac_rank", lambda *args: right(*args) - 1)
    assert failures(np.arange(100_000), 200, 0.05, 0.1, 3000) > binom.ppf(1 - 1e-6, 3000, 0.1) / 3000
