"""Certified confidence from thresholds of soft votes."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from certify.bounds import anytime
from certify.claims import soft
from certify.claims.confidence import mean_in
from tests.certify import exact
from tests.certify.claims.test_soft import FALSE_ALARM, TERMS, bits
from tests.certify.gaussian import ball

THRESHOLDS = tuple(k / 8 for k in range(1, 9))


def test_thresholds_give_more_than_the_mean_where_the_network_is_sure():
    rng, draws = np.random.default_rng(8), 10_000
    units = soft.exclusive(np.stack([p := rng.beta(80, 2, draws), 1 - p], axis=1))
    hits = soft.reached(units, THRESHOLDS)[0]
    by_mean = mean_in(TERMS, soft.lower_complement(soft.histogram(units, bits(draws))[0], 0.001), ball(0.25))
    by_threshold = soft.threshold_confidence(TERMS, draws, hits.tolist(), THRESHOLDS, 0.001, ball(0.25))
    assert by_mean < by_threshold < p.mean()


def test_a_threshold_is_reached_by_so_many_classes_at_once():
    votes = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.499, 0.501, 0.0]])
    assert soft.reached(soft.exclusive(votes), (0.5, 1.0)).tolist() == [[2, 1], [2, 0], [0, 0]]


@pytest.mark.parametrize("thresholds", [(0.0, 0.5), (0.5, 0.5), (0.5, 1.1), (0.6, 0.5), (math.nan, 0.5)])
def test_thresholds_must_rise(thresholds):
    with pytest.raises(ValueError, match="rise"):
        soft.reached(soft.exclusive(np.array([[0.5, 0.5]])), thresholds)


def reaching(p, at_once, classes, runs, draws, level, seed):
    """In how many runs the count of some class proves more than p for `P(v >= 1/at_once)`: `at_once` classes at a time."""
    rng = np.random.default_rng(seed)
    needed = np.full(draws + 1, draws + 1)
    for n in range(1, draws + 1):
        low = needed[n - 1] if needed[n - 1] <= draws else 1
        needed[n] = next((k for k in range(low, n + 1) if anytime.chosen_exceeds(n, k, p, level)), draws + 1)
    false = 0
    for _ in range(0, runs, size := 500):
        order = rng.random((size, draws, classes)).argsort(axis=2)
        hits = np.cumsum(order < at_once, axis=1)
        false += int((hits >= needed[1:, None]).any(axis=(1, 2)).sum())
    return false


def test_the_mutant_with_thresholds_at_plain_alpha_m_fails():
    """t <= 1/2 at plain alpha m, ten of twenty classes reaching 1/10 in each draw: .18-.34 at .05.

    At a tenth of the level it holds. 1,000 seeded runs, false-alarm rate 1e-6.
    """
    limit = binom.isf(FALSE_ALARM, 1_000, 0.05)
    assert reaching(0.5, 10, 20, 1_000, 100, 0.05, seed=1) > 2 * limit
    assert reaching(0.5, 10, 20, 1_000, 100, 0.05 / 10, seed=1) <= limit


def test_the_mutant_that_pairs_a_step_with_the_threshold_below_it_fails():
    """(t_(j+1) - t_j) P(v >= t_j) is an upper sum; here it claims almost 1 for votes of 1/2."""
    draws, thresholds = 10**6, (0.5, 1.0)
    hits = soft.reached(soft.exclusive(np.full((1, 2), 0.5)), thresholds)[0] * draws
    honest = soft.threshold_confidence(TERMS, draws, hits.tolist(), thresholds, 0.001, ball(0.0))
    paired = soft.threshold_confidence(TERMS, draws, [draws, int(hits[0])], thresholds, 0.001, ball(0.0))
    assert 0.499 < honest <= 0.5
    assert paired > 0.99


def test_the_sum_over_thresholds_is_rounded_down():
    draws, hits = 1_000, [990, 950, 700]
    thresholds = (0.1, 0.3, 0.7)
    found = soft.threshold_confidence(TERMS, draws, hits, thresholds, 0.001, ball(0.1))
    total = 0
    for step, below, hit, at_once in zip(thresholds, (0, *thresholds), hits, (9, 3, 1), strict=False):
        complement = anytime.chosen_lower_complement(draws, hit, 0.001 / (3 * at_once))
        total += (step - below) * float(ndtr(float(-exact.normal_quantile(mpmath.mpf(complement))) - 0.4))
    assert total * (1 - 1e-9) < found < total * (1 + 1e-12)


def test_every_threshold_needs_its_count():
    for hits in ([5], [5, 4, 3]):
        with pytest.raises(ValueError, match="zip"):
            soft.threshold_confidence(TERMS, 10, hits, (0.5, 1.0), 0.001, ball(0.0))


def test_the_sum_of_the_products_is_rounded_down_at_each_step():
    """The proven confidences are taken as they are; of one threshold to a thousand, no sum is above the exact one."""
    rng, draws = np.random.default_rng(3), 1_000
    for count in (*[1] * 20, 2, 3, 200, 1_000):
        thresholds = np.sort(rng.uniform(0.01, 1.0, count)).tolist()
        hits = np.sort(rng.integers(900, draws, count))[::-1].tolist()
        found = soft.threshold_confidence(TERMS, draws, hits, thresholds, 0.05, ball(0.1))
        total = Fraction(0)
        for threshold, below, hit in zip(thresholds, [0.0, *thresholds], hits, strict=False):
            share = 0.05 / (count * (soft.UNIT // math.ceil(threshold * soft.UNIT)))
            proven = mean_in(TERMS, anytime.chosen_lower_complement(draws, hit, share), ball(0.1))
            total += (Fraction(threshold) - Fraction(below)) * Fraction(proven)
        assert total * (1 - Fraction(1, 10**10)) < Fraction(found) <= total
