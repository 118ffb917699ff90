from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.smoothing.conversions import float_radius, float_radius_off_grid, l_infinity_radius

radii, steps, sizes = st.floats(1e-3, 100), st.floats(1e-3, 10), st.integers(1, 200_000)


@given(radii, steps, sizes, st.floats(0, 3))
def test_all_are_rounded_down(radius, step, coordinates, snap):
    root = mpmath.sqrt(coordinates)
    r, s = mpmath.mpf(radius), mpmath.mpf(step)
    truths = {
        l_infinity_radius(radius, coordinates): r / root,
        float_radius(radius, step, coordinates): max(r / 2, r - s * root / 2),
        float_radius_off_grid(radius, step, coordinates, snap): max(0, r - mpmath.mpf(snap) - s * root / 2),
    }
    for found, truth in truths.items():
        assert found <= truth
        assert found >= truth - 1e-14 * (r + s * root)


@given(radii, st.integers(1, 10_000))
def test_a_corner_of_the_cube_stays_inside_the_ball(radius, coordinates):
    step = l_infinity_radius(radius, coordinates)
    assert coordinates * Fraction(step) ** 2 <= Fraction(radius) ** 2


def test_examples_worked_out_beforehand():
    """R = 1 in l2 is 4.6/255 at CIFAR's size, .66/255 at ImageNet's; costs at most .109 and .76."""
    cifar, imagenet = 3 * 32 * 32, 3 * 224 * 224
    assert 255 * l_infinity_radius(1.0, cifar) == pytest.approx(4.6, abs=0.01)
    assert 255 * l_infinity_radius(1.0, imagenet) == pytest.approx(0.66, abs=0.01)
    assert 2.0 - float_radius(2.0, 1 / 255, cifar) == pytest.approx(0.109, abs=5e-4)
    assert 2.0 - float_radius(2.0, 1 / 255, imagenet) == pytest.approx(0.76, abs=5e-3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.3, 4))
def test_what_a_float_attacker_reaches_rounds_into_the_ball(seed, coordinates, radius):
    """|round(x') - X| <= min(2 r, r + s sqrt(d) / 2), on random points of the largest sphere."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(size=(200, coordinates)) * rng.integers(0, 2, size=(200, coordinates))
    moves *= (
        float_radius(radius, 1.0, coordinates) * 0.999999 / np.maximum(np.linalg.norm(moves, axis=1), 1e-9)[:, None]
    )
    assert np.linalg.norm(np.floor(moves + 0.5), axis=1).max() < radius


def test_twice_the_distance_is_attained_on_the_grid():
    assert np.floor(0.5 + 0.5) == 1.0  # a move of half a step rounds to a whole one: r = R / 2 for R = one step
    assert float_radius(1.0, 1.0, 10_000) == math.nextafter(0.5, 0.0)


def test_around_a_point_off_the_grid_half_of_the_radius_is_not_safe():
    """A step much smaller than s may move the snapped point by s sqrt(d); the float radius honours it."""
    coordinates, radius = 16, 3.5
    centre = np.full(coordinates, 0.5 - 1e-9)
    snapped = np.floor(centre + 0.5)
    moved = np.floor(centre + 2e-9 + 0.5)
    assert np.linalg.norm(moved - snapped) == 4.0 > radius  # the certificate at `snapped` says nothing of `moved`
    snap = float(np.linalg.norm(centre - snapped))
    assert float_radius_off_grid(radius, 1.0, coordinates, snap) == 0.0
    assert float_radius(radius, 1.0, coordinates) > 1.7  # which would have covered it
    assert float_radius_off_grid(4.1, 1.0, coordinates, snap) == pytest.approx(0.1, abs=1e-6)
