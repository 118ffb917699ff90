from __future__ import annotations

import math

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from certify.bounds import binomial
from tests.certify import exact

ALPHAS = (0.5, 0.05, 0.001, 1e-6, 1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("draws", [1, 2, 17, 1_000, 100_000, 10_000_000])
def test_clopper_pearson_keeps_its_level_and_wastes_nothing(draws, alpha):
    """By the tail at 50 digits up to n = 10^7, with k = 0, 1 and n among the counts."""
    for hits in {0, 1, draws // 2, draws - draws // 100, draws - 1, draws}:
        complement = binomial.clopper_pearson_complement(draws, hits, alpha)
        tail = exact.tail_at_least(draws, hits, 1 - mpmath.mpf(complement))
        if hits == 0:
            assert complement == 1.0
        else:
            assert tail <= alpha
            if complement < 0.99:  # closer to one a double cannot hold the bound more finely
                assert tail >= alpha * (1 - mpmath.mpf(10) ** -6)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    ("draws", "hits"), [(100, 100), (1_000, 990), (1_000, 700), (100_000, 60_000), (10_000_000, 9_999_999)]
)
def test_a_class_chosen_by_its_draws_is_tested_at_alpha_times_m(draws, hits, alpha):
    lower = 1 - mpmath.mpf(binomial.clopper_pearson_chosen_complement(draws, hits, alpha))
    assert exact.tail_at_least(draws, hits, lower) <= alpha * lower
    assert exact.tail_at_least(draws, hits, lower + mpmath.mpf(10) ** -6 * (1 - lower)) > alpha * lower * (
        1 - mpmath.mpf(10) ** -3
    )


def test_one_hit_proves_nothing_of_a_chosen_class():
    assert binomial.clopper_pearson_chosen_complement(5, 1, 0.05) == 1.0


@pytest.mark.parametrize("p", [0.5, 0.7, 0.95, 0.999])
@pytest.mark.parametrize("draws", [1, 10, 60, 300])
def test_coverage_by_enumeration(draws, p):
    alpha = 0.05
    lowers = [1 - binomial.clopper_pearson_complement(draws, hits, alpha) for hits in range(draws + 1)]
    uppers = [binomial.clopper_pearson_upper(draws, hits, alpha) for hits in range(draws + 1)]
    weights = binom.pmf(range(draws + 1), draws, p)
    assert sum(w for w, lower in zip(weights, lowers, strict=True) if lower > p) <= alpha
    assert sum(w for w, upper in zip(weights, uppers, strict=True) if upper < p) <= alpha


@given(st.integers(2, 10**6), st.floats(0, 1), st.sampled_from(ALPHAS))
def test_clopper_pearson_is_monotone(draws, share, alpha):
    """L rises with k and alpha, and falls with n. The slack is the proof's, 1e-9 of a tail, and
    that of the complement's last places.
    """
    last = 1e-13

    def lower(n, k, level):
        return 1 - binomial.clopper_pearson_complement(n, k, level)

    hits = round(share * (draws - 1))
    here = lower(draws, hits, alpha)
    assert here <= lower(draws, hits + 1, alpha) * (1 + 1e-9) + last
    assert here >= lower(draws + 1, hits, alpha) * (1 - 1e-9) - last
    assert here >= lower(draws, hits, alpha / 3) * (1 - 1e-9) - last


@pytest.mark.parametrize("p", [1e-300, 1e-100, 1e-17, 0.5 - 2**-54, 0.5, 1 - 2**-53, 1 - 1e-9])
def test_quantiles_lie_on_their_side_at_the_extremes(p):
    """1 - 2^-53 and 1e-300 among them, by the distribution function at 50 digits."""
    below, above = binomial.quantile_below(p), binomial.quantile_above(p)
    assert mpmath.ncdf(mpmath.mpf(below)) <= mpmath.mpf(p) <= mpmath.ncdf(mpmath.mpf(above))
    assert above - below <= 1e-13 * max(1.0, abs(below))
    assert mpmath.ncdf(-mpmath.mpf(binomial.quantile_of_complement_below(p))) >= mpmath.mpf(p)


@given(st.floats(1e-300, 1 - 2**-53))
def test_quantiles_lie_on_their_side(p):
    truth = exact.normal_quantile(mpmath.mpf(p)) if p > 1e-30 else None
    if truth is not None:
        assert binomial.quantile_below(p) <= truth <= binomial.quantile_above(p)
        assert truth - binomial.quantile_below(p) < 1e-13 * (1 + abs(truth))
        assert binomial.quantile_of_complement_below(p) <= -truth


@pytest.mark.parametrize("z", [-37.0, -8.0, -2.5, -1e-9, 0.0, 1e-9, 0.5, 2.0, 5.5, 8.2])
def test_probabilities_lie_on_their_side(z):
    truth = mpmath.ncdf(mpmath.mpf(z))
    assert binomial.probability_below(z) <= truth <= binomial.probability_above(z)
    assert binomial.probability_above(z) - binomial.probability_below(z) < 1e-13


def test_extremes_of_the_quantile():
    assert binomial.quantile_below(0.0) == -math.inf
    assert binomial.quantile_of_complement_below(0.0) == math.inf
    assert binomial.quantile_of_complement_below(2**-53) > 8
    assert binomial.quantile_below(1.5) == math.inf
    assert binomial.quantile_of_complement_below(1.5) == -math.inf


@pytest.mark.parametrize(
    ("draws", "hits", "alpha"), [(0, 0, 0.05), (5, 6, 0.05), (5, -1, 0.05), (5, 3, 0.0), (5, 3, 1.0)]
)
def test_nonsense_is_refused(draws, hits, alpha):
    with pytest.raises(ValueError, match="must"):
        binomial.clopper_pearson_complement(draws, hits, alpha)


@given(st.integers(0, 60), st.floats(0, 1), st.floats(1e-6, 0.6))
def test_least_hits_is_the_least_that_is_proven(draws, complement, alpha):
    found = binomial.least_hits(draws, complement, alpha)
    tails = [exact.tail_at_least(draws, k, 1 - mpmath.mpf(complement)) for k in range(draws + 1)]
    if found is None:
        assert draws == 0 or tails[draws] > alpha * (1 - 2e-9)
        return
    assert tails[found] <= alpha
    assert found == 0 or tails[found - 1] > alpha * (1 - 2e-9)


def test_two_hits_of_two_prove_what_their_square_allows():
    """m^2 <= alpha m, that is m <= alpha."""
    assert binomial.clopper_pearson_chosen_complement(2, 2, 0.05) == pytest.approx(0.95, rel=1e-8)


@pytest.mark.parametrize("z", [-36.0, -20.0, -6.0, -1.0])
def test_small_probabilities_keep_their_digits_on_either_side(z):
    truth = mpmath.ncdf(mpmath.mpf(z))
    assert truth * (1 - mpmath.mpf(1e-11)) < binomial.probability_below(z) <= truth
    assert truth <= binomial.probability_above(z) < truth * (1 + mpmath.mpf(1e-11))


def test_a_bound_that_proves_nothing_is_one():
    assert binomial.clopper_pearson_complement(1, 1, 1e-300) == 1.0
    assert binomial.bisect_complement(0.3, lambda q: False) == 1.0
    assert binomial.bisect_complement(0.3, lambda q: q >= 0.7) == pytest.approx(0.7, rel=1e-12)


def test_no_probability_is_above_one():
    assert binomial.probability_above(10.0) == 1.0


def test_any_hit_proves_more_than_a_probability_of_zero():
    assert binomial.least_hits(10, 1.0, 0.01) == 1
