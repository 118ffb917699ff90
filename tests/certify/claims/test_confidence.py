"""Confidence: what grades of votes prove of the mean of the number that the network gives the certified class."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.bounds import anytime
from certify.claims.certificate import AlphaSplit
from certify.claims.confidence import (
    MOST_THRESHOLDS,
    check_thresholds,
    confidence,
    counted,
    grades_of,
    labels_of,
    last_vote,
    lower_sum,
    reached,
)
from certify.claims.counts import Counts
from tests.certify import exact
from tests.certify.claims.test_procedures import terms
from tests.certify.gaussian import best_run, target_run

SPLIT = AlphaSplit(of_class=0.4, of_upper=0.2, of_threshold=0.1, of_interval=0.2, of_confidence=0.1)
TERMS = terms(split=SPLIT)
THRESHOLDS = (0.5, 0.75, 0.90625)


def proven(hits, *, votes=1_000, draws=1_000, thresholds=THRESHOLDS, t=TERMS, target=None):
    procedure = best_run(t, 10**6) if target is None else target_run(t, 10**6, target)
    certificate = procedure.conclude(Counts(draws=draws, votes=(votes, draws - votes, 0)))
    return certificate, confidence(certificate, hits, thresholds, t)


def test_grades_by_hand():
    """Two classes and none; the number of the voted class exceeds no threshold, one of them or both."""
    votes = np.array([0, 1, 2, 3 + 0, 3 + 1, 6 + 1, 6 + 1])
    assert labels_of(votes, 2).tolist() == [0, 1, 2, 0, 1, 1, 1]
    assert grades_of(votes, 2).tolist() == [0, 0, 0, 1, 1, 2, 2]
    table = counted(votes, 2, 2)
    assert table.tolist() == [[1, 1, 1], [1, 1, 0], [0, 2, 0]]
    assert table.sum(axis=0).tolist() == [2, 4, 1]
    assert (reached(table, 0), reached(table, 1)) == ((1, 0), (3, 2))


@pytest.mark.parametrize("classes", [2, 15, 16, 127, 255, 256, 32_767, 65_535, 65_536])
@pytest.mark.parametrize("thresholds", [0, 1, 7, 15, 16])
def test_votes_in_the_least_type_that_holds_them_are_parted_as_the_numbers_that_they_are(classes, thresholds):
    """255 labels and none are 256 numbers, which no byte can be divided by."""
    last = last_vote(classes, thresholds)
    votes = np.array([0, classes, last - classes, last], dtype=np.min_scalar_type(last))
    assert labels_of(votes, classes).tolist() == [0, classes, 0, classes]
    assert grades_of(votes, classes).tolist() == [0, 0, thresholds, thresholds]
    table = counted(votes, classes, thresholds)
    assert (table.shape, int(table.sum())) == ((thresholds + 1, classes + 1), 4)
    assert (table[0, 0] >= 1, table[-1, -1] >= 1, table[0, classes] >= 1) == (True, True, True)
    assert reached(table, 0) == (1,) * thresholds


@pytest.mark.parametrize(
    "thresholds",
    [(), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.75, 0.5), (math.nan,), (0.1,), (0.5, 0.9), (-0.5,), (math.inf,)],
)
def test_thresholds_are_single_floats_that_rise_between_nothing_and_one(thresholds):
    with pytest.raises(ValueError, match="thresholds"):
        check_thresholds(thresholds)
    check_thresholds(THRESHOLDS)
    check_thresholds(tuple(each / 32 for each in range(1, MOST_THRESHOLDS + 1)))
    with pytest.raises(ValueError, match="1 to 16 thresholds"):
        check_thresholds(tuple(each / 32 for each in range(1, MOST_THRESHOLDS + 2)))


@pytest.mark.parametrize("charge", [0.0, 0.003])
@pytest.mark.parametrize("target", [None, 0.25, 0.0])
def test_it_is_the_lower_sum_of_what_each_threshold_proves_at_its_part_of_the_share(target, charge):
    """At 50 digits: every step with the probability of its upper end, at a tenth of alpha for all three."""
    t, hits = terms(split=SPLIT, charge=charge), (995, 960, 700)
    certificate, found = proven(hits, t=t, votes=998, target=target)
    moved = mpmath.mpf(certificate.radius) / mpmath.mpf(0.25)
    for said, shift in ((found.lower, moved), (found.lower_at_input, mpmath.mpf(0))):
        truth = mpmath.mpf(0)
        for (below, upper), hit in zip(pairwise((0.0, *THRESHOLDS)), hits, strict=True):
            complement = mpmath.mpf(anytime.chosen_lower_complement(1_000, hit, 0.001 * 0.1 / 3)) + mpmath.mpf(charge)
            truth += (mpmath.mpf(upper) - below) * mpmath.ncdf(-exact.normal_quantile(complement) - shift)
        assert float(truth) * (1 - 1e-10) <= said <= truth
    assert (found.class_index, found.radius, found.ball) == (0, certificate.radius, certificate.ball)
    assert 0 < found.lower < found.lower_at_input < THRESHOLDS[-1]


@given(st.lists(st.integers(0, 900), min_size=3, max_size=3), st.integers(0, 2), st.integers(0, 60))
def test_more_hits_never_prove_less_and_lost_ones_never_more(hits, place, more):
    hits = sorted(hits, reverse=True)
    larger = sorted([each + more * (index <= place) for index, each in enumerate(hits)], reverse=True)
    _, few = proven(hits, votes=970)
    _, many = proven(larger, votes=970)
    assert many.lower >= few.lower
    assert many.lower_at_input >= few.lower_at_input
    _, later = proven(hits, votes=990, draws=1_020)  # twenty draws more, and none of them counts
    assert later.lower_at_input <= few.lower_at_input


def test_where_the_certificate_abstains_or_there_is_no_share_nothing_is_said():
    for votes in (500, 0):
        certificate, found = proven((votes, votes, votes), votes=votes, draws=1_000 if votes else 64)
        if certificate.class_index is None:
            assert (found.class_index, found.ball, found.lower, found.lower_at_input, found.radius) == (None,) * 4 + (
                0.0,
            )
    _, without = proven((900, 900, 900), t=terms())
    assert (without.class_index, without.lower) == (None, None)


def test_nothing_reached_proves_nothing_and_too_much_charge_leaves_nothing():
    _, found = proven((0, 0, 0))
    assert (found.class_index, found.lower, found.lower_at_input) == (0, 0.0, 0.0)
    whole = AlphaSplit(of_class=0.5, of_upper=0.0, of_confidence=0.5)
    _, barely = proven((600, 500, 400), votes=1_000, t=terms(split=whole, charge=0.45))
    assert barely.lower < 0.1
    with pytest.raises(ValueError, match="zip"):
        proven((900, 800))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=MOST_THRESHOLDS), st.integers(0, 2**32 - 1))
def test_the_sum_is_never_above_the_exact_one(shares, seed):
    rising = np.sort(np.random.default_rng(seed).choice(2**20, len(shares), replace=False) + 1) / (2**20 + 2)
    thresholds = [float(np.float32(each)) for each in rising]
    truth = sum(
        (Fraction(upper) - Fraction(below)) * Fraction(share)
        for (below, upper), share in zip(pairwise((0.0, *thresholds)), shares, strict=True)
    )
    found = Fraction(lower_sum(thresholds, shares))
    assert truth * (1 - Fraction(1, 10**13)) - Fraction(1, 10**300) <= found <= truth


def test_a_share_for_it_comes_off_another_or_is_refused():
    with pytest.raises(ValueError, match="nor sum to more than 1"):
        AlphaSplit(of_class=0.5, of_upper=0.2, of_threshold=0.1, of_interval=0.2, of_confidence=0.1)
