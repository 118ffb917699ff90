"""Bounds of every class at every look: the confidence sequence under greedy stops, exactly where that can be had."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from certify.bounds import anytime, binomial

ALPHA, HORIZON, FALSE_ALARM = 0.05, 300, 1e-6


def least_hits(m, rejects, horizon=HORIZON):
    """For each number of draws the least hits with which m is rejected, one more than the draws if there are none."""
    needed, least = np.zeros(horizon + 1, dtype=np.int64), 0
    for n in range(1, horizon + 1):
        while least <= n and not (least > n * m and rejects(n, least)):
            least += 1
        needed[n] = least
    return needed


def chosen(m, alpha=ALPHA):
    return least_hits(m, lambda n, k: anytime.chosen_exceeds(n, k, m, alpha))


def plain(m, alpha=ALPHA, kappa=anytime.KAPPA):
    return least_hits(m, lambda n, k: anytime.exceeds(n, k, m, alpha, kappa))


def clopper_pearson(m, alpha=ALPHA):
    return least_hits(m, lambda n, k: 1 - binomial.clopper_pearson_complement(n, k, alpha) > m)


def ever_false(p, needed, misses_needed=None):
    """The exact probability that some look has this many hits, or this many misses."""
    alive, stopped = np.array([1.0]), 0.0
    for n in range(1, needed.size):
        alive = np.append(alive * (1 - p), 0) + np.insert(alive * p, 0, 0)
        hits = np.arange(n + 1)
        ends = hits >= needed[n]
        if misses_needed is not None:
            ends |= n - hits >= misses_needed[n]
        stopped += alive[ends].sum()
        alive[ends] = 0
    return stopped


SHARES = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]


@pytest.mark.parametrize("p", SHARES)
def test_one_class_at_every_look_by_exact_dynamic_programming(p):
    """Found before: at most .85 of alpha over 12 values of p."""
    assert 0 < ever_false(p, plain(p)) <= 0.86 * ALPHA
    assert ever_false(p, chosen(p)) <= ALPHA * p


@pytest.mark.parametrize("p", SHARES)
def test_one_class_is_refuted_falsely_in_at_most_its_level_by_exact_dynamic_programming(p):
    """The upper bound, whose hits are the misses of the class, under its own prior."""
    assert 0 < ever_false(1 - p, plain(1 - p, kappa=anytime.KAPPA_UPPER)) <= ALPHA


def test_the_mutant_with_clopper_pearson_at_every_look_fails_exactly():
    """5.4 times alpha in the worst case."""
    found = [ever_false(p, clopper_pearson(p)) for p in SHARES]
    assert all(share > 2 * ALPHA for share in found[:-1])  # at .95 the horizon is too short for much harm
    assert 5 * ALPHA < max(found) < 6 * ALPHA


@pytest.mark.parametrize("p", [0.5, 0.7, 0.9])
def test_the_better_of_two_classes_at_every_look_by_exact_dynamic_programming(p):
    """The class is chosen by the draws; the mutant at plain alpha fails at .5."""
    assert ever_false(p, chosen(p), chosen(1 - p)) <= ALPHA
    if p == 0.5:
        assert ever_false(p, plain(p), plain(1 - p)) > ALPHA


def runs_with_a_false_class(classes, runs, needed, seed):
    """How many runs, all classes equally likely, ever have some class at its boundary."""
    rng, at, false = np.random.default_rng(seed), np.arange(runs), np.zeros(runs, dtype=bool)
    counts = np.zeros((runs, classes), dtype=np.int32)
    for n in range(1, needed.size):
        voted = rng.integers(0, classes, runs)
        counts[at, voted] += 1
        false |= counts[at, voted] >= needed[n]  # the boundary never falls, so only the class that was hit can reach it
    return int(false.sum())


@pytest.mark.parametrize("classes", [10, 1_000])
def test_any_of_many_equal_classes_at_every_look(classes):
    """Of 10 and of 1,000; 4,000 seeded runs, false-alarm rate 1e-6."""
    runs, m = 4_000, 1 / classes
    limit = binom.isf(FALSE_ALARM, runs, ALPHA)
    assert runs_with_a_false_class(classes, runs, chosen(m), seed=1) <= limit
    assert runs_with_a_false_class(classes, runs, plain(m), seed=1) > 2 * limit
    assert runs_with_a_false_class(classes, runs, clopper_pearson(m, ALPHA * m), seed=1) > limit


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 10, 1_000])
def test_any_of_many_equal_classes_at_every_look_in_many_runs(classes):
    runs, needed = 100_000, chosen(1 / classes)
    false = sum(runs_with_a_false_class(classes, 5_000, needed, seed) for seed in range(runs // 5_000))
    print(f"\n{classes} classes: {false / runs:.4f} of {runs} runs false at {ALPHA}")
    assert false <= binom.isf(FALSE_ALARM, runs, ALPHA)


@pytest.mark.parametrize(("classes", "published"), [(2, 0.093), (10, 0.319), (100, 0.928)])
def test_the_top_class_at_a_fixed_number_of_draws(classes, published):
    """n = 60; the mutant at plain alpha is as bad as was worked out beforehand."""
    rng, runs, n = np.random.default_rng(2), 20_000, 60
    tops = rng.multinomial(n, [1 / classes] * classes, size=runs).max(axis=1)
    lower = np.array([1 - binomial.clopper_pearson_chosen_complement(n, k, ALPHA) for k in range(n + 1)])
    naive = np.array([1 - binomial.clopper_pearson_complement(n, k, ALPHA) for k in range(n + 1)])
    assert np.sum(lower[tops] > 1 / classes) <= binom.isf(FALSE_ALARM, runs, ALPHA)
    assert np.mean(naive[tops] > 1 / classes) == pytest.approx(published, abs=5 * math.sqrt(0.25 / runs))
