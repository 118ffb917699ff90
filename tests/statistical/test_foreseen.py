"""Answers with a learned prior: no rate of false ones above alpha, whatever the prior foresees and whenever they stop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from certify.bounds.binomial import first_true
from certify.bounds.prior import Prior
from certify.claims.certificate import AlphaSplit, Terms
from certify.claims.conclusions import exceeds
from certify.claims.counts import Counts
from certify.claims.procedures import SLICE
from certify.smoothing.gaussian import Gaussian

ALPHA, LOOKS, FALSE_ALARM = 0.05, 60, 1e-6
PRIORS = {
    "sure": Prior(atoms=(0.0,), weights=(1.0,)),
    "all but refuted": Prior(atoms=(0.9, 0.97), weights=(0.5, 0.5)),
    "fitted": Prior(atoms=(0.0, 0.1, 0.35, 0.7, 0.9), weights=(0.5, 0.1, 0.1, 0.2, 0.1)),
}
CHANCES = {"two of one half": (0.5, 0.5), "ten of a tenth": (0.1,) * 10, "one and many": (0.9, *(0.01,) * 10)}


def least_hits(terms, p, draws):
    """The least hits that prove a label of probability p, or less, to be more probable than that."""
    proves = lambda hits: exceeds(terms, Counts(draws=draws, votes=(hits, 0)), p)  # noqa: E731
    return first_true(-1, draws + 1, lambda hits: hits > draws or proves(hits))


def false_answers(prior, chances, runs, seed):
    """Of how many answers a bound of any label was false at any look."""
    terms = Terms(law=Gaussian(1.0), alpha=ALPHA, split=AlphaSplit(of_class=1.0, of_upper=0.0), classes=2, prior=prior)
    least = {p: np.array([least_hits(terms, p, SLICE * look) for look in range(1, LOOKS + 1)]) for p in set(chances)}
    rng, false = np.random.default_rng(seed), np.zeros(runs, dtype=bool)
    for part in np.array_split(np.arange(runs), max(1, runs // 5_000)):
        votes = rng.multinomial(SLICE, chances, size=(len(part), LOOKS)).cumsum(axis=1)
        for label, p in enumerate(chances):
            false[part] |= (votes[:, :, label] >= least[p]).any(axis=1)
    return int(false.sum())


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize("chances", CHANCES.values(), ids=CHANCES)
def test_no_more_answers_are_false_than_alpha_allows(prior, chances):
    runs = 10_000
    assert false_answers(prior, chances, runs, 5) <= binom.isf(FALSE_ALARM, runs, ALPHA)


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize("chances", CHANCES.values(), ids=CHANCES)
def test_no_more_of_a_hundred_thousand_answers_are_false_than_alpha_allows(prior, chances):
    runs = 100_000
    found = false_answers(prior, chances, runs, 6)
    print(f"\n{found} of {runs} answers false at alpha {ALPHA}")
    assert found <= binom.isf(FALSE_ALARM, runs, ALPHA)
