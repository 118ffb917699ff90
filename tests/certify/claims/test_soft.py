"""Soft votes: bounds of the mean of what a network says under noise."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import beta, binom, norm

from certify.bounds import anytime
from certify.claims import soft
from certify.claims.certificate import Terms
from certify.claims.confidence import mean_in
from certify.smoothing.gaussian import Gaussian
from tests.certify import exact
from tests.certify.claims.test_procedures import SPLIT
from tests.certify.gaussian import ball

TERMS = Terms(law=Gaussian(0.25, 0.0), alpha=0.001, split=SPLIT, classes=3)
FALSE_ALARM = 1e-6


def bits(draws, seed=0):
    return np.random.default_rng(seed).integers(0, 2**32, draws, dtype=np.uint32)


def one_of(votes, seed=0):
    """The histogram of the first of two classes."""
    return soft.histogram(soft.exclusive(np.stack([votes, 1 - votes], axis=1)), bits(len(votes), seed))[0]


def quantiles_of(parts, draws):
    """Values spread like a mixture of Beta laws, without chance."""
    grid = np.linspace(0, 1, 100_001)
    mass = sum(weight * beta.cdf(grid, a, b) for weight, a, b in parts)
    return np.interp((np.arange(draws) + 0.5) / draws, mass, grid)


@pytest.mark.parametrize(
    ("parts", "lower"),
    [
        ([(1, 8, 2)], (0.724, 0.782, 0.794)),
        ([(0.97, 40, 1), (0.03, 2, 3)], (0.868, 0.940, 0.953)),
        ([(0.999, 800, 2), (0.001, 2, 3)], (0.915, 0.987, 0.995)),
    ],
)
def test_the_table_worked_out_beforehand(parts, lower):
    """Lower bounds of the mean at n = 100, 1000, 10^4, alpha = .001."""
    for draws, expected in zip((100, 1_000, 10_000), lower, strict=True):
        found = 1 - soft.lower_complement(one_of(quantiles_of(parts, draws)), 0.001)
        assert found == pytest.approx(expected, abs=0.0025)


@given(st.integers(0, soft.UNIT))
def test_rounding_by_keyed_bits_is_unbiased_to_the_last_bit(unit):
    """The words below the rest round up, so the mean over all words is the vote itself."""
    low, rest = divmod(unit, 2**32)
    words = sorted({0, max(rest - 1, 0), min(rest, 2**32 - 1), 2**32 - 1})
    found = soft.histogram(np.full((len(words), 1), unit), np.array(words, dtype=np.uint32))[0]
    up = sum(word < rest for word in words)
    assert found[low] == len(words) - up
    assert up == 0 or found[low + 1] == up
    assert Fraction(low, 256) + Fraction(rest, 2**32) / 256 == Fraction(unit, soft.UNIT)


@given(st.integers(2, 300), st.integers(0, 2**32 - 1), st.sampled_from([np.float16, np.float32, np.float64]))
def test_votes_never_sum_to_more_than_one(classes, seed, dtype):
    logits = np.random.default_rng(seed).normal(scale=4, size=(20, classes))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    votes = (shares / shares.sum(axis=1, keepdims=True)).astype(dtype)
    units = soft.exclusive(votes)
    assert units.min() >= 0
    assert units.sum(axis=1).max() <= soft.UNIT
    assert np.all(units <= votes.astype(np.float64) * soft.UNIT)
    assert np.all(units >= votes.astype(np.float64) * soft.UNIT * (1 - 2e-2) - 2)


def test_a_lost_or_infinite_row_votes_for_nothing():
    units = soft.exclusive(np.array([[np.nan, 0.5], [np.inf, 0.0], [0.25, 0.75]]))
    assert units.tolist() == [[0, 0], [0, 0], [soft.UNIT // 4, 3 * (soft.UNIT // 4)]]
    assert soft.histogram(units, bits(3)).sum() == 6


@pytest.mark.parametrize("votes", [[[-0.1, 1.0]], [[0.7, 0.6]], [[0.5] * 20]])
def test_votes_for_labels_that_do_not_exclude_each_other_are_refused(votes):
    """Labels of which several may be right at once."""
    with pytest.raises(
        ValueError, match="^soft votes must be probabilities of classes that exclude each other: at least 0, of sum 1$"
    ):
        soft.exclusive(np.array(votes))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_histograms_merge(sizes, seed):
    rng = np.random.default_rng(seed)
    votes = soft.exclusive(rng.dirichlet(np.ones(3), size=sum(sizes)))
    words = bits(sum(sizes), seed)
    cuts = [0, *itertools.accumulate(sizes)]
    parts = [soft.histogram(votes[a:b], words[a:b]) for a, b in itertools.pairwise(cuts)]
    assert np.array_equal(sum(parts), soft.histogram(votes, words))


def exact_evidence(counts, m):
    total = mpmath.mpf(0)
    for b, weight in zip(soft._BETS.tolist(), [0.09] * 10 + [0.1], strict=True):
        term = mpmath.log(weight)
        for value in np.flatnonzero(counts).tolist():
            factor = 1 - mpmath.mpf(b) + mpmath.mpf(b) * value / 256 / m
            term += int(counts[value]) * mpmath.log(factor) if factor else mpmath.mpf("-inf")
        total += mpmath.exp(term)
    return float(mpmath.log(total))


@pytest.mark.parametrize("draws", [1, 100, 10_000, 10**7])
@pytest.mark.parametrize("parts", [[(1, 8, 2)], [(1, 800, 2)], [(1, 2, 8)]])
def test_the_evidence_is_that_of_40_digits(draws, parts):
    shares = one_of(quantiles_of(parts, 5_000))
    counts = shares * draws // 5_000
    counts[200] += draws - counts.sum()
    mean = float(counts @ np.arange(257)) / 256 / draws
    for q in (1 - 0.5 * mean, 1 - 0.9 * mean, 1 - 0.999 * mean):
        truth = exact_evidence(counts, 1 - mpmath.mpf(q))
        assert soft.log_evidence(counts, q) == pytest.approx(truth, abs=1e-7)


def test_weights_are_a_probability():
    assert math.isclose(math.fsum(np.exp(soft._LOG_WEIGHTS)), 1.0, rel_tol=1e-15)


@settings(max_examples=40)
@given(st.integers(1, 2_000), st.floats(0.2, 30), st.floats(0.2, 30), st.sampled_from([0.05, 1e-3, 1e-9]))
def test_the_rejected_values_are_an_initial_segment_and_the_bound_is_proven_at_itself(draws, a, b, level):
    """m M(m) is convex and at most one at m = 1."""
    counts = one_of(quantiles_of([(1, a, b)], draws))
    complement = soft.lower_complement(counts, level)
    grid = np.linspace(0.002, 0.998, 60)
    evidence = np.array([math.log(m) + soft.log_evidence(counts, 1 - m) for m in grid])
    assert np.all(np.diff(np.exp(evidence - evidence.max()), n=2) >= -1e-12)
    rejected = evidence >= -math.log(level) + anytime.GUARD
    assert rejected.tolist() == sorted(rejected.tolist(), reverse=True)
    assert rejected.tolist() == [bool(m <= 1 - complement) for m in grid]
    if complement < 1:
        proof = math.log1p(-complement) + soft.log_evidence(counts, complement)
        assert proof >= -math.log(level) + anytime.GUARD
    assert 1 - complement <= float(counts @ np.arange(257)) / 256 / draws + 1e-12


def test_votes_of_nothing_or_of_everything():
    zero, all_in = np.zeros(257, dtype=np.int64), np.zeros(257, dtype=np.int64)
    zero[0], all_in[256] = 100, 100
    assert soft.lower_complement(zero, 0.05) == 1.0
    assert 0 < soft.lower_complement(all_in, 0.001) < 0.0833  # constant bets prove .9182 at n = 100, if all agree
    assert 1 - soft.lower_complement(all_in, 0.001) == pytest.approx(0.9182, abs=6e-5)
    with pytest.raises(ValueError, match="1 to 10000000"):
        soft.lower_complement(np.zeros(257, dtype=np.int64), 0.05)


SOURCES = {
    "two level": np.array([2.0, 2.0]),
    "ten level": np.full(10, 0.3),
    "one ahead": np.array([9.0, 1.0, 1.0, 1.0]),
    "hundred level": np.full(100, 0.01),
}


def ever_false(weights, runs, draws, level, seed, chosen=True):
    """In how many runs some class has, after some draw, a bound above its true mean: Dirichlet votes, rounded by bits."""
    rng, mean, false = np.random.default_rng(seed), weights / weights.sum(), 0
    log_needed = -math.log(level) + anytime.GUARD - (np.log(mean) if chosen else 0.0)
    for _ in range(0, runs, size := max(1, 200_000 // (draws * weights.size))):
        votes = rng.dirichlet(weights, size=(size, draws))
        bins = np.floor(votes * 256 + rng.random((size, draws, 1)))
        evidence = np.full(votes.shape, -np.inf)
        for bet, log_weight in zip(soft._BETS, soft._LOG_WEIGHTS, strict=True):
            with np.errstate(divide="ignore"):
                steps = np.log1p(bet * (bins / 256 / mean - 1))
            evidence = np.logaddexp(evidence, log_weight + np.cumsum(steps, axis=1))
        false += int((evidence >= log_needed).any(axis=(1, 2)).sum())
    return false, -(-runs // size) * size


@pytest.mark.parametrize("name", SOURCES)
def test_a_greedy_stop_on_any_class_is_false_in_at_most_the_level(name):
    """Any class, after any of 100 draws, at level .05; false-alarm rate 1e-6 by the binomial limit."""
    false, runs = ever_false(SOURCES[name], 1_000, 100, 0.05, seed=2)
    assert false <= binom.isf(FALSE_ALARM, runs, 0.05)


def test_the_mutant_at_plain_level_fails_where_the_class_is_chosen():
    false, runs = ever_false(SOURCES["ten level"], 1_000, 100, 0.05, seed=2, chosen=False)
    assert false > 2 * binom.isf(FALSE_ALARM, runs, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two level", "ten level", "one ahead"])
def test_a_greedy_stop_on_any_class_in_many_runs(name):
    false, runs = ever_false(SOURCES[name], 100_000, 100, 0.05, seed=12)
    print(f"\n{name}: {false / runs:.4f} of {runs} runs false at .05")
    assert false <= binom.isf(FALSE_ALARM, runs, 0.05)


def test_the_simulated_evidence_is_the_module_s():
    votes = np.random.default_rng(5).dirichlet([3.0, 2.0], size=50)
    counts = soft.histogram(soft.exclusive(votes), bits(50))[0]
    bins = np.repeat(np.arange(257), counts)
    terms = [
        log + np.log1p(b * (bins / 256 / 0.4 - 1)).sum() for b, log in zip(soft._BETS, soft._LOG_WEIGHTS, strict=True)
    ]
    assert np.logaddexp.reduce(terms) == pytest.approx(soft.log_evidence(counts, 0.6), abs=1e-9)


@pytest.mark.parametrize("radius", [0.0, 0.1, 0.25, 0.7])
def test_confidence_is_below_the_exact_one(radius):
    for complement in (0.9, 0.5, 0.1, 1e-3, 1e-9):
        quantile = -exact.normal_quantile(mpmath.mpf(complement))
        truth = mpmath.ncdf(quantile - mpmath.mpf(radius) / mpmath.mpf(0.25))
        found = mean_in(TERMS, complement, ball(radius))
        assert float(truth) * (1 - 1e-11) - 1e-14 <= found <= truth
    charged = Terms(law=Gaussian(0.25, 0.01), alpha=0.001, split=SPLIT, classes=3)
    assert mean_in(charged, 0.1, ball(radius)) < mean_in(TERMS, 0.1, ball(radius))
    assert mean_in(TERMS, 1.0, ball(radius)) == 0.0


@pytest.mark.parametrize("slope", [0.3, 3.0, 300.0])
def test_confidence_holds_for_a_linear_network_at_the_edge_of_the_ball(slope):
    """v = expit(slope w.x): the mean at distance R, by quadrature, is above what the bound at the centre says."""

    def mean(at):
        return quad(lambda z: expit(slope * (at + 0.25 * z)) * norm.pdf(z), -9, 9, points=[-at / 0.25], limit=400)[0]

    for radius in (0.1, 0.3):
        claimed = mean_in(TERMS, 1 - mean(0.25), ball(radius))
        assert claimed <= mean(0.25 - radius) + 1e-9
        if slope > 100:  # next to a half-space, where the bound is tight
            assert claimed == pytest.approx(mean(0.25 - radius), abs=2e-3)


def test_ten_million_draws_are_the_most():
    counts = np.zeros(257, dtype=np.int64)
    counts[256] = anytime.MAX_DRAWS
    assert 0 < soft.lower_complement(counts, 0.001) < 1e-5
    counts[256] += 1
    with pytest.raises(ValueError, match="got 10000001"):
        soft.lower_complement(counts, 0.001)


def test_a_bet_that_a_single_vote_of_zero_loses_is_nothing_to_warn_of():
    counts = np.zeros(257, dtype=np.int64)
    counts[[0, 256]] = 1, 50
    with np.errstate(divide="raise"):
        assert math.isfinite(soft.log_evidence(counts, 0.5))
