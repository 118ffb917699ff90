from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from certify.bounds import anytime
from certify.claims.certificate import LowerBound
from certify.smoothing import dual
from tests.certify import exact


def bound(p, class_index=0):
    return LowerBound(class_index=class_index, complement=1 - p, draws=100, alpha=0.0005)


def radius(p_left, p_right, sigma=1.0):
    return dual.radius(bound(p_left), bound(p_right), sigma)


def unsound_root_of_squares(p_left, p_right):
    return math.hypot(ndtri(p_left), ndtri(p_right))


def unsound_clipped(p_left, p_right):
    return (max(ndtri(p_left), 0) + max(ndtri(p_right), 0)) / math.sqrt(2)


def least_sum(p_left, p_right, distance):
    """The smallest `p_l + p_r` of half-spaces at any perturbation of that length, over all ways to divide it."""
    angles = np.linspace(0, math.pi / 2, 2_001)
    left, right = distance * np.cos(angles), distance * np.sin(angles)
    return float(np.min(ndtr(ndtri(p_left) - left) + ndtr(ndtri(p_right) - right)))


probabilities = st.floats(0.02, 0.9999)


@given(probabilities, probabilities)
def test_half_spaces_never_flip_within_the_radius_and_flip_just_outside(p_left, p_right):
    """The radius holds over all divisions of a perturbation between the halves, and is attained."""
    r = radius(p_left, p_right)
    if r > 0:
        assert least_sum(p_left, p_right, r) >= 1 - 1e-12
        assert least_sum(p_left, p_right, r + 1e-5) < 1
    else:
        assert p_left + p_right <= 1 + 1e-12


@given(probabilities, probabilities, st.floats(0.01, 100))
def test_the_radius_is_rounded_down(p_left, p_right, sigma):
    left, right = (-exact.normal_quantile(mpmath.mpf(1 - p)) for p in (p_left, p_right))
    truth = max(0, mpmath.mpf(sigma) * (left + right) / mpmath.sqrt(2))
    assert truth - 1e-13 * sigma * (1 + abs(left) + abs(right)) <= radius(p_left, p_right, sigma) <= truth


@given(probabilities, probabilities, st.floats(0.01, 100))
def test_sum_and_quotient_are_rounded_down_in_rational_numbers(p_left, p_right, sigma):
    left, right = (Fraction(dual.signed_units(bound(p))) for p in (p_left, p_right))
    assert 2 * Fraction(radius(p_left, p_right, sigma)) ** 2 <= (Fraction(sigma) * max(left + right, 0)) ** 2


@given(probabilities, st.floats(0.02, 0.49))
def test_a_half_below_one_half_lowers_the_radius(p_left, p_right):
    assert radius(p_left, p_right) <= radius(p_left, 0.5)
    assert radius(p_left, p_right) < radius(p_left, 0.5) or radius(p_left, 0.5) == 0


def test_two_equal_halves_reach_as_far_as_one_network_of_all_coordinates_times_the_root_of_two():
    assert radius(0.9, 0.9, 0.25) == pytest.approx(0.25 * ndtri(0.9) * math.sqrt(2))
    assert radius(0.5, 0.5) == 0.0
    assert radius(0.9, 0.0) == 0.0


def test_the_halves_must_speak_of_one_class():
    with pytest.raises(ValueError, match="^both halves .* got 0 and 1: choose the class by the sum of the votes, then"):
        dual.radius(bound(0.9), bound(0.9, class_index=1), 1.0)


DRAWS, CENTRE = 400_000, (ndtri(0.98), ndtri(0.3))


def served_class_by_simulation(distance, seed):
    """Draw both halves: each votes for class 0 where its noisy coordinate lies below its cut. The worst division."""
    rng = np.random.default_rng(seed)
    shift = distance / math.sqrt(2)
    votes = [np.mean(rng.standard_normal(DRAWS) + shift <= cut) for cut in CENTRE]
    return 0 if sum(votes) > 1 else 1


@pytest.mark.parametrize(
    ("formula", "sound"), [(radius, True), (unsound_root_of_squares, False), (unsound_clipped, False)]
)
def test_simulated_half_spaces_flip_inside_the_radii_of_the_mutants_alone(formula, sound):
    """p_r = .3 < 1/2. A sum .03 from its limit has 20 standard errors to spare in 400,000 draws."""
    inside = formula(*ndtr(CENTRE)) * 0.95
    assert (served_class_by_simulation(inside, seed=6) == 0) is sound


def false_share(runs, alpha, seed):
    """How often, at any look and for any class, a bound of a half or the radius of their sum claims more than is true.

    Looks at 20, 40, ..., 200 draws. Half-spaces of .7 and .3: the sum is exactly one, so every radius above 0 is false.
    """
    rng, looks = np.random.default_rng(seed), np.arange(1, 11) * 20
    hits = [rng.binomial(20, p, size=(runs, len(looks))).cumsum(axis=1) for p in (0.7, 0.3)]
    bound_false, radius_false = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for i, n in enumerate(looks):
        lower = np.array([1 - anytime.chosen_lower_complement(int(n), k, alpha / 2) for k in range(n + 1)])
        left, right = (each[:, i] for each in hits)
        for own, p in (((left, right), (0.7, 0.3)), ((n - left, n - right), (0.3, 0.7))):
            bound_false |= (lower[own[0]] > p[0]) | (lower[own[1]] > p[1])
            radius_false |= ndtri(lower[own[0]]) + ndtri(lower[own[1]]) > 0
    return bound_false.mean(), radius_false.mean()


@pytest.mark.parametrize(
    "runs", [pytest.param(4_000, id="short"), pytest.param(200_000, marks=pytest.mark.slow, id="long")]
)
def test_both_halves_share_one_alpha(runs):
    """At alpha / 2 a half, some bound is false in at most alpha of the runs; the binomial limit is at 1e-6."""
    bound_false, radius_false = false_share(runs, 0.1, seed=8)
    print(f"\ndual: some bound false {bound_false:.5f}, the radius false {radius_false:.5f}, at alpha .1")
    assert 0 < radius_false <= bound_false <= binom.isf(1e-6, runs, 0.1) / runs
