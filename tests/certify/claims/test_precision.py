"""The procedure that stops once the radius is known to within a tolerance."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import binom

from certify.bounds import anytime, binomial
from certify.claims.certificate import AlphaSplit
from certify.claims.conclusions import most_probable_above
from certify.claims.counts import Counts
from certify.claims.procedures import SLICE
from tests.certify.claims.test_procedures import counts, terms
from tests.certify.gaussian import precision_run

EACH = AlphaSplit(of_class=0.5, of_upper=0.5)


def uncertainty(run, seen):
    return run.procedure._uncertainty(run.terms, seen)


PRECISION = precision_run(terms(sigma=1.0), 10_240, 0.5)

TABLE = [
    # counts, does it conclude, status, class, radius at least, radius at most
    (counts(0, 0, 0), False, "undecided", None, 0.0, 0.0),
    (counts(64, 0, 0), False, "undecided", 0, 1.0, 1.5),
    (counts(576, 64, 0), False, "undecided", 0, 0.9, 1.1),
    (counts(0, 1_152, 128), True, "certified", 1, 0.9, 1.28),
    (counts(1_152, 107, 0, none=20, lost=1), True, "certified", 0, 0.9, 1.28),
    (counts(1_152, 28, 0, lost=100), False, "undecided", 0, 0.9, 1.28),
    (counts(600, 40, 640), True, "undecided", None, 0.0, 0.0),  # the radius is known to be small; no class is certified
    (counts(0, 0, 0, none=1_280), True, "undecided", None, 0.0, 0.0),
    (counts(10_240, 0, 0), True, "undecided", 0, 2.9, 3.3),  # all agree: from above nothing bounds the radius
]


@pytest.mark.parametrize(("seen", "stops", "status", "label", "low", "high"), TABLE)
def test_precision(seen, stops, status, label, low, high):
    received, concluded = PRECISION.receive(seen), PRECISION.conclude(seen)
    assert (received is not None) is stops
    assert received in (None, concluded)
    assert (concluded.status, concluded.class_index) == (status, label)
    assert low <= concluded.radius <= high
    assert (concluded.radius_tolerance, concluded.target_radius, concluded.procedure) == (0.5, None, "precision")


@pytest.mark.parametrize(
    ("p", "tolerance", "draws"),
    [
        (0.9, 0.5, 970),
        (0.9, 0.2, 6_550),
        (0.99, 0.5, 5_100),
        (0.99, 0.2, 33_600),
        (0.999, 0.5, 36_800),
        (0.999, 0.2, 231_000),
    ],
)
def test_the_draws_are_those_worked_out_beforehand(p, tolerance, draws):
    """Draws until the radius is known to within w, at .001 for either bound; within 5 %.

    With one prior for both bounds, that is: with the upper bound's own, a twentieth fewer are enough.
    """
    t = terms(alpha=0.002, sigma=1.0, split=EACH)

    def known(n, kappa):
        procedure, hits = precision_run(replace(t, kappa_upper=kappa), 10**7, tolerance), round(p * n)
        return procedure.conclude(Counts(draws=n, votes=(hits, n - hits, 0))).status == "certified"

    assert known(round(1.05 * draws), anytime.KAPPA)
    assert not known(round(0.95 * draws), anytime.KAPPA)
    assert known(round(0.95 * draws), t.kappa_upper)


def test_without_a_share_for_the_upper_bound_it_never_stops_early():
    procedure = precision_run(terms(split=AlphaSplit(of_class=1.0, of_upper=0.0)), 1_000, 10.0)
    assert procedure.receive(counts(900, 60, 0)) is None
    assert procedure.receive(counts(940, 60, 0)).status == "undecided"


def test_looks_grow_apart_with_the_draws_and_the_last_one_is_never_missed():
    """Every slice at first, then every 32nd part of the draws: at most 3 % more draws than a look after each slice."""
    procedure = precision_run(terms(sigma=1.0), 10**6 + 5, 1e9)
    looks = [n for n in range(SLICE, 10**5, SLICE) if procedure.receive(Counts(draws=n, votes=(9 * n // 10, 0)))]
    assert looks[:63] == [SLICE * i for i in range(1, 64)]
    assert all(later - now <= max(SLICE, now / 32) for now, later in itertools.pairwise(looks))
    assert len(looks) < 300
    assert procedure.receive(Counts(draws=10**6 + 5, votes=(9 * 10**5, 0))) is not None


@given(st.integers(1, 20_000), st.floats(0, 1), st.floats(0.01, 2), st.integers(0, 400))
def test_a_certified_radius_is_enclosed_and_lost_draws_only_widen(draws, share, tolerance, lost):
    """Lost draws only lower L and raise U, so they never bring the stop nearer."""
    procedure = precision_run(terms(sigma=0.25), 10**6, tolerance)
    hits = round(share * draws)
    seen = Counts(draws=draws, votes=(hits, draws - hits, 0))
    gaps = Counts(draws=draws + lost, votes=seen.votes, lost=lost)
    certificate = procedure.conclude(seen)
    if certificate.status == "certified":
        assert certificate.radius <= 0.25 * ndtri(max(hits, draws - hits) / draws) <= certificate.radius + tolerance
    assert uncertainty(procedure, gaps) >= uncertainty(procedure, seen) - 1e-12
    assert certificate.status == "certified" or procedure.conclude(gaps).status == "undecided"


def test_forecasts_are_within_the_budget_and_near_the_truth():
    for seen in [counts(0, 0, 0), counts(32, 0, 0), counts(20, 12, 0), counts(10_200, 20, 0)]:
        assert 0 <= PRECISION.expected_remaining(seen) <= 10_240 - seen.draws
    needed = next(n for n in itertools.count(640, 32) if PRECISION.receive(counts(9 * n // 10, n - 9 * n // 10, 0)))
    forecast = 320 + PRECISION.expected_remaining(counts(288, 32, 0))
    assert 0.7 * needed < forecast < 1.3 * needed


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_the_enclosure_is_false_in_at_most_the_shares_of_alpha(p):
    """The true radius lies in [radius, radius + tolerance] whenever it says certified: 400 seeded runs at alpha .1.

    False-alarm rate 1e-6 by the binomial limit.
    """
    procedure = precision_run(terms(alpha=0.1, sigma=1.0, split=EACH), 2_048, 0.6)
    truth, rng, runs, false = max(0.0, float(ndtri(p))), np.random.default_rng(17), 400, 0
    for _ in range(runs):
        hits = 0
        for draws in range(SLICE, 2_049, SLICE):
            hits += rng.binomial(SLICE, p)
            if certificate := procedure.receive(Counts(draws=draws, votes=(hits, draws - hits, 0))):
                break
        known = certificate.status == "certified"
        false += certificate.radius > truth or (known and truth > certificate.radius + 0.6)
        false += certificate.class_index == 1 and p > 0.5
    assert false <= binom.isf(1e-6, runs, 0.1)


def test_the_uncertainty_is_rounded_up():
    """In exact fractions, of a sigma that may be larger by its last place, which was rounded away."""
    rng = np.random.default_rng(9)
    for sigma in (*rng.uniform(0.5, 1.0, 50), *rng.uniform(1.0, 1.1, 50)):
        procedure = precision_run(terms(sigma=float(sigma), split=EACH), 10**6, 0.5)
        seen = counts(60, 40, 0)  # no class is certified, so the largest radius alone is what is uncertain
        most = binomial.quantile_above(most_probable_above(procedure.terms, seen))
        largest = Fraction(most) * Fraction(math.nextafter(float(sigma), math.inf))
        assert largest <= Fraction(uncertainty(procedure, seen)) < largest * (1 + Fraction(1, 2**49))
