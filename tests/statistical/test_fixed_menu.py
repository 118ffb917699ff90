"""Whoever asks for every number of fixed draws on the menu, and keeps what it likes: exactly, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from certify.bounds.binomial import first_true
from certify.claims.certificate import WHOLE_ON_CLASS, Terms, class_alone
from certify.claims.counts import Counts
from certify.smoothing.gaussian import Gaussian
from tests.certify.gaussian import fixed_run

ALPHA = 0.1
MENU = (1_000, 10_000, 100_000)
SEED = 11


def terms(split):
    return Terms(law=Gaussian(1.0, 0.0), alpha=ALPHA, split=split, classes=2)


def least_false(draws, p, split):
    """The least hits of a class of probability p that give a bound above p; one more than the draws if none do."""
    procedure = fixed_run(terms(split), draws)

    def false(hits):
        counts = Counts(draws=draws, votes=(hits, draws - hits))
        found = procedure.receive(counts)
        return found.class_index == 0 and found.p_a_lower > p

    return first_true(0, draws, false) if false(draws) else draws + 1


def false_share(draws, p, split):
    """The exact chance that the bound of either of two classes, p and 1 - p, is false."""
    first = binom.sf(least_false(draws, p, split) - 1, draws, p)
    second = binom.sf(least_false(draws, 1 - p, split) - 1, draws, 1 - p)
    return float(first + second)


def any_false(p, split):
    """Streams of different numbers of draws are independent."""
    return 1 - math.prod(1 - false_share(draws, p, split) for draws in MENU)


@pytest.mark.parametrize("p", [0.5, 0.500001, 0.501, 0.52, 0.7, 0.9, 0.99, 0.999])
def test_any_number_of_the_menu_is_false_at_most_with_alpha(p):
    assert any_false(p, class_alone(len(MENU))) <= ALPHA


def test_alpha_whole_on_each_of_them_was_more_than_alpha():
    """The mutant, at one half: what three streams at the whole of alpha give."""
    assert any_false(0.5, WHOLE_ON_CLASS) == pytest.approx(0.265, abs=0.002)
    assert any_false(0.5, class_alone(3)) > ALPHA / 2  # and the split wastes little


@pytest.mark.parametrize("p", [0.5, 0.6, 0.95])
def test_a_client_that_asks_for_all_of_the_menu_until_it_likes_one(p):
    """Ten classes share the misses; it asks in any order and stops at the first answer that certifies most."""
    rng, runs = np.random.default_rng(SEED), 20_000
    split, false = class_alone(len(MENU)), np.zeros(runs, dtype=bool)
    shares = np.array([p, *[(1 - p) / 9] * 9])
    for draws in MENU:
        votes = rng.multinomial(draws, shares, size=runs)
        for share in set(shares.tolist()):
            false |= (votes[:, shares == share] >= least_false(draws, share, split)).any(axis=1)
    assert false.mean() <= ALPHA + 4 * math.sqrt(ALPHA / runs)
