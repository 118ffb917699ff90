from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from certify.certificate import Counts
from certify.mixture import mix, radius
from certify.procedures import Best
from tests.certify.test_procedures import counts, terms

CERTIFICATE = Best(terms(sigma=1.0), 10_000).conclude(counts(990, 10, 0))


def test_weight_one_is_the_ordinary_certificate_and_one_half_never_certifies():
    """acceptance: claims 7.10."""
    assert radius(CERTIFICATE, 1.0) == pytest.approx(CERTIFICATE.radius, rel=1e-12)
    assert radius(CERTIFICATE, 1.0) <= CERTIFICATE.radius
    assert radius(CERTIFICATE, 0.5) == 0.0


@pytest.mark.parametrize(
    ("weight", "shift"), [(0.96, 0.052), (0.90, 0.140), (0.84, 0.241), (0.76, 0.407), (0.60, 0.967)]
)
def test_the_price_of_the_weight(weight, shift):
    assert CERTIFICATE.radius - radius(CERTIFICATE, weight) == pytest.approx(shift, abs=6e-4)


@given(st.floats(0.5, 1.0), st.floats(0.5, 1.0))
def test_radius_grows_with_the_weight(one, other):
    low, high = sorted((one, other))
    assert radius(CERTIFICATE, low) <= radius(CERTIFICATE, high)


@given(st.floats(0.51, 0.999), st.floats(0.6, 0.9999))
def test_the_closed_form_is_tight_for_a_half_space_and_an_adversary(weight, p):
    """h votes A for x < a; g is one-hot on the other class. The mixture flips exactly at the radius."""
    r = float(ndtri(p) - ndtri(1 / (2 * weight)))
    if r < 1e-3:
        return
    for distance, holds in [(r * 0.999, True), (r * 1.001 + 1e-9, False)]:
        share = ndtr(ndtri(p) - distance)
        assert bool(weight * share > weight * (1 - share) + (1 - weight)) is holds


def test_the_label_is_the_certificate_s_where_the_radius_is_positive():
    """acceptance: claims 7.10."""
    against = np.array([0.0, 1.0, 0.0])
    mixture = mix(CERTIFICATE, counts(990, 10, 0), against, 0.9)
    assert (mixture.class_index, mixture.radius > 0) == (0, True)
    assert mixture.probabilities == pytest.approx((0.891, 0.109, 0.0))
    thin = Best(terms(sigma=1.0), 10_000).conclude(counts(600, 400, 0))
    loose = mix(thin, counts(600, 400, 0), against, 0.6)
    assert (loose.class_index, loose.radius) == (1, 0.0)


def test_no_certificate_no_radius():
    none = Best(terms(), 10_000).conclude(counts(10, 10, 10))
    assert mix(none, Counts(draws=30, votes=(10, 10, 10)), np.full(3, 1 / 3), 0.9).radius == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1, 50.0])
def test_a_base_answer_that_is_no_probability_is_an_error(bad):
    """acceptance: claims 7.10."""
    with pytest.raises(ValueError, match="finite"):
        mix(CERTIFICATE, counts(990, 10, 0), np.array([bad, 0.5, 0.5]), 0.9)
