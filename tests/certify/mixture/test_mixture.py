from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.claims.certificate import Certificate, LowerBound
from certify.claims.counts import Counts
from certify.mixture.mix import WeightRange, log_mixture, mix, radius
from certify.smoothing import margins
from certify.smoothing.gaussian import Gaussian
from tests.certify.claims.test_procedures import counts, terms
from tests.certify.gaussian import best_run


@cache
def surely():
    return best_run(terms(sigma=1.0), 10_000).conclude(counts(990, 10, 0))


def test_weight_one_is_the_ordinary_certificate_and_one_half_never_certifies():
    assert radius(surely(), 1.0) == pytest.approx(surely().radius, rel=1e-12)
    assert radius(surely(), 1.0) <= surely().radius
    assert radius(surely(), 0.5) == 0.0


@pytest.mark.parametrize(
    ("weight", "shift"), [(0.96, 0.052), (0.90, 0.140), (0.84, 0.241), (0.76, 0.407), (0.60, 0.967)]
)
def test_the_price_of_the_weight(weight, shift):
    assert surely().radius - radius(surely(), weight) == pytest.approx(shift, abs=6e-4)


@given(st.floats(0.5, 1.0), st.floats(0.5, 1.0))
def test_radius_grows_with_the_weight(one, other):
    low, high = sorted((one, other))
    assert radius(surely(), low) <= radius(surely(), high)


def test_the_label_is_the_certificate_s_where_the_radius_is_positive():
    against = np.array([0.0, 1.0, 0.0])
    mixture = mix(surely(), counts(990, 10, 0), against, 0.9)
    assert (mixture.class_index, mixture.radius > 0) == (0, True)
    assert mixture.probabilities == pytest.approx((0.891, 0.109, 0.0))
    thin = best_run(terms(sigma=1.0), 10_000).conclude(counts(600, 400, 0))
    loose = mix(thin, counts(600, 400, 0), against, 0.6)
    assert (loose.class_index, loose.radius) == (1, 0.0)


def test_no_certificate_no_radius():
    none = best_run(terms(), 10_000).conclude(counts(10, 10, 10))
    assert mix(none, Counts(draws=30, votes=(10, 10, 10)), np.full(3, 1 / 3), 0.9).radius == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1, 50.0])
def test_a_base_answer_that_is_no_probability_is_an_error(bad):
    with pytest.raises(ValueError, match="^the accurate network put out probabilities that are not finite numbers"):
        mix(surely(), counts(990, 10, 0), np.array([bad, 0.5, 0.5]), 0.9)


def certificate(complement, p_b_upper, sigma=1.0):
    """Of a bound from anywhere: counts, soft votes, another procedure."""
    bound = LowerBound(class_index=0, complement=complement, draws=100, alpha=0.001)
    return Certificate(
        status="certified", procedure="best", law=Gaussian(sigma), bound=bound, p_b_upper=p_b_upper, draws=100, lost=0
    )


def test_the_radius_uses_the_bound_of_the_other_classes_and_scales_with_sigma():
    alone, both = radius(certificate(0.4, 0.4), 0.84), radius(certificate(0.4, 0.1), 0.84)
    assert (alone, both) == pytest.approx((0.012, 0.492), abs=6e-4)
    assert radius(certificate(0.4, 0.1, sigma=0.25), 0.84) == pytest.approx(both / 4)
    for sigma in (0.1, 0.7, 3.3):
        units = margins.best(0.4, 0.1, 0.84)
        assert Fraction(radius(certificate(0.4, 0.1, sigma=sigma), 0.84)) <= Fraction(sigma) * Fraction(units)


@given(
    st.lists(st.integers(0, 200), min_size=3, max_size=3).filter(sum),
    st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda g: sum(g) > 0),
    st.floats(0.5, 1.0),
)
def test_the_served_label_is_the_certified_one_wherever_the_radius_is_positive(votes, accurate, weight):
    found = best_run(terms(sigma=1.0), 10_000).conclude(counts(*votes))
    mixture = mix(found, counts(*votes), np.array(accurate) / sum(accurate), weight)
    assert mixture.class_index == (found.class_index if mixture.radius > 0 else int(np.argmax(mixture.probabilities)))


def test_the_certified_label_is_served_even_where_the_printed_shares_have_another_argmax():
    """True shares are certified, observed ones are printed. Here the bound comes from elsewhere."""
    found = mix(certificate(0.1, 0.1), counts(40, 60, 0), np.array([0.0, 1.0, 0.0]), 0.7)
    assert (found.class_index, int(np.argmax(found.probabilities))) == (0, 1)
    assert 0 < found.radius < 1


def test_shares_are_those_of_the_draws_and_rounding_above_one_is_cut():
    nothing = best_run(terms(), 100).conclude(counts(0, 0, 0))
    assert mix(nothing, counts(0, 0, 0), np.array([1.0 + 5e-7, 0.0, 0.0]), 0.75).probabilities == (0.25, 0.0, 0.0)
    assert mix(nothing, counts(1, 0, 0), np.array([0.0, 1.0, 0.0]), 0.75).probabilities == (0.75, 0.25, 0.0)
    assert WeightRange(minimum=0.75, maximum=0.75).minimum == 0.75


def test_an_accurate_network_that_saturates_to_one_hot_ties_and_does_not_break_the_certificate():
    """h leads by exactly (1 - w) / w, where a one-hot g makes a tie; nothing is certified."""
    saturated = np.exp(np.array([0.0, 200.0], dtype=np.float32) - np.float32(200)).astype(float)
    weight, shares = 2 / 3, np.array([0.75, 0.25])
    mixed = (1 - weight) * saturated + weight * shares
    assert mixed[0] == pytest.approx(mixed[1], abs=1e-15)
    assert radius(certificate(0.25, 0.25), weight) == 0.0
    assert radius(certificate(0.25 - 1e-9, 0.25), weight) > 0


RANGE = WeightRange(minimum=0.84, maximum=0.99)


@given(st.floats(0.84, 0.99))
def test_a_weight_that_varies_certifies_exactly_as_its_minimum(weight):
    accurate = np.array([0.2, 0.3, 0.5])
    mixture = mix(surely(), counts(990, 10, 0), accurate, weight, RANGE)
    fixed = mix(surely(), counts(990, 10, 0), accurate, 0.84)
    assert (mixture.radius, mixture.robust_weight) == (fixed.radius, 0.84)
    assert mixture.probabilities[2] == pytest.approx((1 - weight) * 0.5)


def test_certifying_with_the_weight_of_the_input_would_be_false():
    """Mutant: w(x) = .99 instead of the minimum .84, which the mixing network puts out at x + d."""
    from scipy.special import ndtr, ndtri

    mutant = radius(certificate(0.1, 0.1), 0.99)
    share = ndtr(ndtri(0.9) - 0.99 * mutant)
    assert 0.84 * share < 0.84 * (1 - share) + 0.16


@pytest.mark.parametrize("weight", [0.83999, 0.99001, math.nan])
def test_a_weight_outside_of_its_declared_range_is_an_error(weight):
    with pytest.raises(ValueError, match="outside of its declared range"):
        mix(surely(), counts(990, 10, 0), np.full(3, 1 / 3), weight, RANGE)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.95), (0.9, 0.8), (0.9, 1.1), (math.nan, 0.9)])
def test_a_range_that_cannot_be_certified_is_refused(low, high):
    with pytest.raises(ValueError, match="must range within"):
        WeightRange(minimum=low, maximum=high)
    assert WeightRange(minimum=0.5, maximum=1.0).minimum == 0.5


def log_softmax(logits):
    return [mpmath.mpf(each) - mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(e)) for e in logits)) for each in logits]


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3, 1e4])
@pytest.mark.parametrize("weight", [0.5, 0.84, 1 - 1e-12, 1.0])
def test_the_stable_log_form_is_the_direct_form_at_extreme_logits(scale, weight):
    """The direct form at 50 digits."""
    rng = np.random.default_rng(5)
    g, h = log_softmax(scale * rng.normal(size=4)), log_softmax(scale * rng.normal(size=4))
    w = mpmath.mpf(weight)
    direct = [mpmath.log((1 - w) * mpmath.exp(a) + w * mpmath.exp(b)) for a, b in zip(g, h, strict=True)]
    found = log_mixture(np.array(g, dtype=float), np.array(h, dtype=float), weight)
    assert found == pytest.approx(np.array(direct, dtype=float), rel=1e-12)


def test_a_class_without_any_probability_has_the_logarithm_minus_infinity():
    one_hot = np.log(np.array([1.0, 1e-300]), where=[True, False], out=np.array([0.0, -np.inf]))
    assert log_mixture(one_hot, one_hot, 0.75).tolist() == pytest.approx([0.0, -math.inf])
    for bad in (math.nan, 0.1):
        with pytest.raises(
            ValueError, match="^expected logarithms of probabilities, at most 0 and not NaN; apply log-soft"
        ):
            log_mixture(one_hot, np.array([0.0, bad]), 0.75)


def test_logarithms_in_single_precision_are_mixed_in_double():
    narrow = np.log(np.array([0.3, 0.7])).astype(np.float32)
    found = log_mixture(narrow, narrow[::-1], 0.84)
    assert found.dtype == np.float64
    assert found == pytest.approx(log_mixture(narrow.astype(float), narrow[::-1].astype(float), 0.84), rel=1e-15)
