from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from certify.claims.certificate import LowerBound
from certify.smoothing.anisotropic import Ellipsoid, ellipsoid
from tests.certify.gaussian import radius as radius_of

sigma = st.floats(0.01, 100)
sigmas = st.lists(sigma, min_size=1, max_size=4).map(tuple)


def bound(complement):
    return LowerBound(class_index=0, complement=complement, draws=100, alpha=0.001)


def worst_share(p_a, scales, lengths):
    """What a half-space leaves of p_A at perturbations of these lengths along its normal, whatever the normal.

    With normal n in the stretched space the share is Phi(Phi^-1(p_A) - n . (d / sigma)); the worst n is d / sigma's own.
    """
    return ndtr(ndtri(p_a) - math.sqrt(sum((length / s) ** 2 for length, s in zip(lengths, scales, strict=True))))


@given(st.floats(0.501, 0.9999), sigmas, st.data())
def test_half_spaces_keep_the_class_inside_and_lose_it_just_outside(p_a, scales, data):
    """Exact, and attained in every direction of the parts."""
    found = ellipsoid(1 - p_a, scales)
    direction = data.draw(st.lists(st.floats(0, 1), min_size=len(scales), max_size=len(scales)))
    length = math.sqrt(sum(each**2 for each in direction))
    assume(length > 1e-3)
    at_the_edge = [each / length * s * found.reach for each, s in zip(direction, scales, strict=True)]
    inside, outside = ([each * factor for each in at_the_edge] for factor in (1 - 1e-9, 1 + 1e-9))
    assert found.contains(inside)
    assert worst_share(p_a, scales, inside) > 0.5 - 1e-12
    assert not found.contains(outside)
    assert (
        worst_share(p_a, scales, [each * (1 + 1e-6) + 1e-9 * s for each, s in zip(outside, scales, strict=True)]) < 0.5
    )


@given(st.floats(1e-9, 0.499), sigma, st.integers(1, 5))
def test_equal_sigmas_are_the_ordinary_radius(complement, scale, parts):
    found, ordinary = ellipsoid(complement, (scale,) * parts), radius_of(bound(complement), scale)
    assert found.inner_l2() == found.alone(0) == ordinary
    assert found.contains([ordinary / math.sqrt(parts) * (1 - 1e-12)] * parts)
    assert not found.contains([ordinary / math.sqrt(parts) * (1 + 1e-12)] * parts)


@given(st.floats(0.01, 6), sigmas)
def test_a_part_alone_reaches_its_own_sigma_and_the_ball_that_of_the_smallest(reach, scales):
    """One part unperturbed. Exact: each length is certified, by rational numbers."""
    found = Ellipsoid(reach=reach, sigmas=scales)
    for part, scale in enumerate(scales):
        lengths = [0.0] * len(scales)
        lengths[part] = found.alone(part)
        assert found.contains(lengths)
        lengths[part] = math.nextafter(math.nextafter(scale * reach, math.inf), math.inf)
        assert not found.contains(lengths)
        lengths[part] = found.inner_l2()
        assert found.contains(lengths)
    smallest = scales.index(min(scales))
    assert found.alone(smallest) == found.inner_l2()


@given(st.floats(0.01, 6), st.lists(st.tuples(sigma, st.integers(1, 5_000)), min_size=1, max_size=4))
def test_every_coordinate_may_move_by_the_inner_l_infinity_radius(reach, parts):
    scales, sizes = zip(*parts, strict=True)
    step = Ellipsoid(reach=reach, sigmas=scales).inner_l_infinity(sizes)

    def square(by):
        return sum(size * (Fraction(by) / Fraction(s)) ** 2 for s, size in parts)

    assert square(step) <= Fraction(reach) ** 2
    assert square(step * (1 + 1e-14)) > Fraction(reach) ** 2 * (1 - Fraction(1, 10**15))
    assert step == pytest.approx(reach / math.sqrt(sum(size / s**2 for s, size in parts)), rel=1e-13)


def test_one_sigma_for_all_would_be_unsound():
    """Mutants: the ordinary radius of the largest, or of the mean, sigma for the sum over parts of other scales."""
    p_a, scales = 0.95, (0.1, 1.0)
    for mutant in (max(scales) * ndtri(p_a), np.mean(scales) * ndtri(p_a)):
        assert worst_share(p_a, scales, (mutant, 0.0)) < 0.5
    assert worst_share(p_a, scales, (ellipsoid(1 - p_a, scales).inner_l2(), 0.0)) >= 0.5


def test_simulated_noise_of_two_scales_agrees_with_the_ellipsoid():
    """400,000 draws of a half-space across both parts; .01 from one half is 12 standard errors."""
    rng, scales, cut = np.random.default_rng(9), np.array([0.5, 3.0]), ndtri(0.9)
    noise = rng.standard_normal((400_000, 2))
    for angle, factor in itertools.product((0.3, 0.8, 1.3), (0.97, 1.03)):
        normal = np.array([math.cos(angle), math.sin(angle)])
        moved = normal * scales * cut * factor  # the worst perturbation for this normal
        share = np.mean((noise + moved / scales) @ normal <= cut)
        assert (share > 0.5) is np.bool_(ellipsoid(0.1, scales.tolist()).contains(moved.tolist()))


@pytest.mark.parametrize("complement", [0.5, 0.7, 1.0])
def test_below_one_half_the_ellipsoid_is_empty(complement):
    found = ellipsoid(complement, (1.0, 2.0))
    assert (found.reach, found.inner_l2(), found.alone(1), found.inner_l_infinity((3, 4))) == (0.0, 0.0, 0.0, 0.0)
    assert not found.contains([0.0, 0.0])


@pytest.mark.parametrize(
    "wrong", [{"sigmas": ()}, {"sigmas": (1.0, 0.0)}, {"sigmas": (math.inf,)}, {"reach": -1.0}, {"reach": math.inf}]
)
def test_what_is_no_ellipsoid_is_refused(wrong):
    with pytest.raises(ValueError, match="^expected positive sigmas"):
        Ellipsoid(**{"reach": 1.0, "sigmas": (1.0,)} | wrong)


@pytest.mark.parametrize("lengths", [[1.0], [1.0, -1.0], [0.1, math.nan], [0.1, math.inf]])
def test_lengths_that_are_none_are_refused(lengths):
    with pytest.raises(ValueError, match="^expected 2 lengths"):
        Ellipsoid(reach=1.0, sigmas=(1.0, 2.0)).contains(lengths)


@pytest.mark.parametrize("sizes", [[1], [3, 0]])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(ValueError, match="^expected 2 numbers of coordinates"):
        Ellipsoid(reach=1.0, sigmas=(1.0, 2.0)).inner_l_infinity(sizes)
