"""The radii of a mixture, against the theorem itself at 50 digits and against adversaries that attain them."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from certify.smoothing import margins
from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.build.noise_table import rounded_gaussian_tails
from tests.certify import exact


def published(p_a, p_b, weight):
    """Bai et al. (2023), theorem 2: h and the mixture taken apart class by class."""
    return 0.5 * (ndtri(weight * p_a) - ndtri(weight * p_b + 1 - weight))


def bounds_and_weight():
    return st.tuples(st.floats(0.51, 0.9999), st.floats(1e-6, 0.499), st.floats(0.501, 1.0))


@pytest.mark.parametrize(
    ("weight", "shift"),
    [
        *((0.96, 0.052), (0.95, 0.066), (0.90, 0.140), (0.84, 0.241), (0.815, 0.288)),
        *((0.80, 0.319), (0.76, 0.407), (0.70, 0.566), (0.67, 0.663), (0.60, 0.967)),
    ],
)
def test_the_price_of_the_weight_in_units_of_sigma(weight, shift):
    """Phi^-1(1 / (2 w)), worked out beforehand."""
    assert -margins.one_sided(0.5, weight) == pytest.approx(shift, abs=6e-4)


@pytest.mark.parametrize(
    ("p_a", "p_b", "expected"),
    [
        (0.99, 0.005, (0.969, 2.085, 2.191, 2.208)),
        (0.9, 0.02, (0.811, 1.041, 1.314, 1.408)),
        (0.6, 0.1, (0.352, 0.012, 0.433, 0.492)),
    ],
)
def test_the_four_forms_worked_out_beforehand(p_a, p_b, expected):
    """At w = .84."""
    found = (
        published(p_a, p_b, 0.84),
        margins.one_sided(1 - p_a, 0.84),
        margins.of_margin(1 - p_a, p_b, 0.84),
        margins.two_sided(1 - p_a, p_b, 0.84),
    )
    assert found == pytest.approx(expected, abs=6e-4)


@given(bounds_and_weight())
def test_no_form_is_larger_than_the_two_sided_one(case):
    """Two-sided >= margin >= one-sided; two-sided >= the published form, and >= the Lipschitz form."""
    p_a, p_b, weight = case
    assume(p_b <= 1 - p_a)
    one = margins.one_sided(1 - p_a, weight)
    margin = margins.of_margin(1 - p_a, p_b, weight)
    two = max(0.0, margins.two_sided(1 - p_a, p_b, weight))
    constant = margins.smoothed_constant(1.0)
    assert max(0.0, margin) >= max(0.0, one) - 1e-9
    for smaller in (margin, published(p_a, p_b, weight), margins.lipschitz(p_a - p_b, constant, weight)):
        assert two >= smaller - 1e-9


@given(bounds_and_weight())
def test_the_two_sided_form_satisfies_the_theorem_and_wastes_nothing(case):
    p_a, p_b, weight = case
    complement = 1 - p_a
    r = margins.two_sided(complement, p_b, weight)
    w, top = mpmath.mpf(weight), -exact.normal_quantile(mpmath.mpf(complement))
    next_ = exact.normal_quantile(mpmath.mpf(p_b))

    def lead(at):
        return mpmath.ncdf(top - at) - mpmath.ncdf(next_ + at) - (1 - w) / w

    if r < 0:
        assert lead(0) < 1e-12
    else:
        assert lead(r) > 0
        assert lead(mpmath.mpf(r) + mpmath.mpf("1e-8")) < 0


@given(st.floats(1e-12, 0.6), st.floats(0.501, 1.0))
def test_the_one_sided_form_is_rounded_down(complement, weight):
    truth = -exact.normal_quantile(mpmath.mpf(complement)) - exact.normal_quantile(1 / (2 * mpmath.mpf(weight)))
    r = margins.one_sided(complement, weight)
    assert r <= truth
    assert r > truth - 1e-13 * (1 + abs(truth)) - mpmath.mpf(1e-15) / mpmath.npdf(truth + 1)


@given(st.floats(0.0, 1.0), st.floats(0.1, 10), st.floats(0.501, 1.0))
def test_the_lipschitz_form_is_rounded_down(margin, sigma, weight):
    m, w, s = mpmath.mpf(margin), mpmath.mpf(weight), mpmath.mpf(sigma)
    truth = (m - (1 - w) / w) / 2 * s * mpmath.sqrt(2 * mpmath.pi)
    r = margins.lipschitz(margin, margins.smoothed_constant(sigma), weight)
    assert max(truth, 0) - 1e-12 * s < r <= max(truth, 0)


@given(st.floats(0.0, 1.0), st.floats(0.01, 10), st.floats(0.501, 1.0))
def test_the_lipschitz_form_is_rounded_down_for_any_constant(margin, constant, weight):
    m, w = Fraction(margin), Fraction(weight)
    truth = max(Fraction(0), (w * m + w - 1) / (2 * w * Fraction(constant)))
    assert Fraction(margins.lipschitz(margin, constant, weight)) <= truth


@given(st.floats(0.01, 100))
def test_the_constant_is_rounded_up(sigma):
    truth = 1 / (mpmath.mpf(sigma) * mpmath.sqrt(2 * mpmath.pi))
    assert truth <= margins.smoothed_constant(sigma) < truth * (1 + mpmath.mpf(2) ** -48)


def test_the_constant_is_attained_by_a_half_space_and_is_half_of_the_published_one():
    sigma, step = 0.7, 1e-5
    slope = (ndtr(step / sigma) - ndtr(-step / sigma)) / (2 * step)
    assert margins.smoothed_constant(sigma) == pytest.approx(slope, rel=1e-8)
    assert margins.smoothed_constant(sigma) == pytest.approx(math.sqrt(2 / math.pi) / sigma / 2)


@given(st.floats(0.6, 0.9999), st.floats(0.501, 0.9999))
def test_a_half_space_and_a_one_hot_adversary_flip_at_the_one_sided_radius(p, weight):
    """No flip inside r, a flip just outside (1e-5). h votes A where z < a; g says the other class."""
    r = margins.one_sided(1 - p, weight)
    assume(r > 1e-5)
    for distance, holds in ((r - 1e-5, True), (r, True), (r + 1e-5, False)):
        share = ndtr(ndtri(p) - distance)
        assert (weight * share > weight * (1 - share) + (1 - weight)) is np.bool_(holds)


@given(bounds_and_weight())
def test_two_half_spaces_and_a_one_hot_adversary_flip_at_the_two_sided_radius(case):
    """A where z < a, B where z > -b, many small classes between; all moves are towards B."""
    p_a, p_b, weight = case
    assume(p_b <= 1 - p_a)
    r = margins.two_sided(1 - p_a, p_b, weight)
    assume(1e-5 < r < 5)  # farther out a step of 1e-5 is no longer seen by doubles
    for distance, holds in ((r - 1e-5, True), (r, True), (r + 1e-5, False)):
        own, other = ndtr(ndtri(p_a) - distance), ndtr(ndtri(p_b) + distance)
        assert (weight * own > weight * other + (1 - weight)) is np.bool_(holds)


def test_the_one_sided_bound_beside_a_p_b_that_is_no_bound_of_the_others_flips():
    """Mutant: p_B is the observed share of the runner-up, 0 here, though a class of .05 was not seen."""
    p_a, weight = 0.9, 0.7
    mutant = margins.two_sided(1 - p_a, 1e-9, weight)
    own, other = ndtr(ndtri(p_a) - mutant), ndtr(ndtri(0.05) + mutant)
    assert weight * own < weight * other + (1 - weight)


def test_no_flip_within_the_radius_on_the_grid_by_enumeration():
    """Half-space and one-hot g, every integer shift within r, by the exact noise table."""
    sigma, weight, reach = 3.0, 0.8, 14
    law = RoundedGaussian(sigma, rounded_gaussian_tails(sigma))
    upper = law.tails.astype(float) / 2.0**64
    half = upper[:-1] - upper[1:]  # P(Z = 1), P(Z = 2), ...
    mass = np.concatenate([half[::-1], [1 - 2 * upper[0]], half])
    size = len(half)
    lines = np.add.outer(3 * np.arange(-size, size + 1), 4 * np.arange(-size, size + 1))  # 3 z_1 + 4 z_2
    pairs = np.outer(mass, mass)

    def share(shift):
        return float(pairs[lines + 3 * shift[0] + 4 * shift[1] <= 32].sum())

    r = sigma * margins.one_sided(1 - share((0, 0)), weight)
    assert 3 < r < reach
    for shift in itertools.product(range(-reach, reach + 1), repeat=2):
        if math.hypot(*shift) <= r:
            own = share(shift)
            assert weight * own > weight * (1 - own) + (1 - weight)
    outward = next(k for k in range(1, 9) if 5 * k > r)
    own = share((3 * outward, 4 * outward))
    assert weight * own < weight * (1 - own) + (1 - weight)


def test_the_best_form_uses_what_is_known():
    alone, both = margins.best(0.4, 1.0, 0.84), margins.best(0.4, 0.1, 0.84)
    assert alone == margins.one_sided(0.4, 0.84) > 0
    assert both == margins.two_sided(0.4, 0.1, 0.84) > alone
    assert margins.best(0.4, 0.4, 0.84) == alone
    assert margins.best(0.6, 0.1, 0.9) > 0.1  # p_A below one half, but far above every other class
    assert margins.best(0.45, 0.44, 0.6) == 0.0


@given(st.floats(0.5, 1.0))
def test_the_needed_margin_is_rounded_up_and_nothing_at_one(weight):
    w = Fraction(weight)
    assert Fraction(margins.needed_margin(weight)) > (1 - w) / w or weight == 1
    assert margins.needed_margin(1.0) == 0.0


@pytest.mark.parametrize("weight", [0.5, 0.3])
def test_half_a_weight_proves_nothing(weight):
    """w <= 1/2 abstains."""
    assert margins.best(1e-12, 1e-12, weight) == 0.0


def test_the_lipschitz_form_is_rounded_down_where_nothing_else_was_rounded():
    rng = np.random.default_rng(4)
    for margin, constant in rng.uniform(0.5, 1.0, (2_000, 2)):
        truth = Fraction(margin) / (2 * Fraction(constant))
        assert truth * (1 - Fraction(1, 2**49)) < Fraction(margins.lipschitz(margin, constant, 1.0)) <= truth
