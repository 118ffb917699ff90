"""Time-uniform bounds of quantiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from certify.bounds.anytime import least_hits
from certify.bounds.quantiles import lower, not_above, not_below, ranked, upper

FALSE_ALARM = 1e-6
LOOKS = [*range(20, 321, 20)]

LAWS = {
    # a sampler of (runs, draws), and the quantile function inf{t: F(t) >= q}
    "normal": (lambda rng, shape: rng.normal(size=shape), lambda q: float(ndtri(q))),
    "lattice": (
        lambda rng, shape: rng.binomial(4, 0.5, size=shape).astype(float),
        lambda q: float(binom.ppf(q, 4, 0.5)),
    ),
    "two atoms": (lambda rng, shape: (rng.random(shape) >= 0.5).astype(float), lambda q: float(q > 0.5)),
    "infinite half of the time": (
        lambda rng, shape: np.where(rng.random(shape) < 0.5, 0.0, np.inf),
        lambda q: 0.0 if q <= 0.5 else np.inf,
    ),
}


@pytest.mark.parametrize(
    ("ratio", "draws", "share"),
    [
        *[(0.0, 100, 0.72), (0.0, 1_000, 0.571), (0.0, 10_000, 0.522)],
        *[(0.5, 100, 0.88), (0.5, 1_000, 0.753), (0.5, 10_000, 0.712)],
        *[(1.0, 100, 0.97), (1.0, 1_000, 0.890), (1.0, 10_000, 0.857)],
        *[(1.5, 100, None), (1.5, 1_000, 0.965), (1.5, 10_000, 0.944)],
    ],
)
def test_the_table_worked_out_beforehand(ratio, draws, share):
    """k_n/n at level .001 for the median within R, which the Beta mixture matches to .01."""
    rank = least_hits(draws, float(ndtr(ratio)), 0.001)
    assert rank is None if share is None else rank / draws == pytest.approx(share, abs=0.0101)


def false_bounds(law, q, runs, level, looks, seed, rank_of):
    """In how many runs some look has a lower bound above the quantile, and in how many an upper bound below it."""
    sample, quantile = LAWS[law]
    values, truth = sample(np.random.default_rng(seed), (runs, looks[-1])), quantile(q)
    low, high = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for n in looks:
        ordered = np.sort(values[:, :n], axis=1)
        if (rank := rank_of(n, 1 - q, level)) is not None:
            low |= ordered[:, n - rank] > truth
        if (rank := rank_of(n, q, level)) is not None:
            high |= ordered[:, rank - 1] < truth
    return int(low.sum()), int(high.sum())


def fixed_rank(n, probability, level):
    """The mutant: the rank that is right for one number of draws, fixed beforehand."""
    rank = int(binom.ppf(1 - level, n, probability)) + 1
    return rank if rank <= n else None


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("q", [0.5, 0.8])
def test_false_at_any_look_in_at_most_the_level(law, q):
    """3,000 seeded runs, 16 looks, level .05 a side; binomial limits at a false-alarm rate of 1e-6."""
    limit = binom.isf(FALSE_ALARM, 3_000, 0.05)
    assert max(false_bounds(law, q, 3_000, 0.05, LOOKS, 3, least_hits)) <= limit


def test_the_mutant_with_the_ranks_of_a_fixed_number_of_draws_fails():
    """At every look."""
    limit = binom.isf(FALSE_ALARM, 3_000, 0.05)
    assert min(false_bounds("normal", 0.5, 3_000, 0.05, LOOKS, 3, fixed_rank)) > 2 * limit


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_false_at_any_look_in_at_most_the_level_in_many_runs(law):
    runs = 100_000
    found = false_bounds(law, 0.5, runs, 0.05, LOOKS, 13, least_hits)
    mutant = false_bounds(law, 0.5, runs // 10, 0.05, LOOKS, 13, fixed_rank)
    print(f"\n{law}: lower {found[0] / runs:.4f}, upper {found[1] / runs:.4f} of .05;", end=" ")
    print(f"mutant {10 * mutant[0] / runs:.3f}, {10 * mutant[1] / runs:.3f}")
    assert max(found) <= binom.isf(FALSE_ALARM, runs, 0.05)


@given(st.integers(1, 400), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1), st.floats(0, 0.3))
def test_the_bounds_are_the_ranks_and_lost_values_only_widen(draws, q, seed, lost):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=draws)
    low, high = lower(values, q, 0.05), upper(values, q, 0.05)
    ordered = np.sort(values)
    below, above = least_hits(draws, 1 - q, 0.05), least_hits(draws, q, 0.05)
    assert low == (ordered[draws - below] if below else -math.inf)
    assert high == (ordered[above - 1] if above else math.inf)
    gaps = np.where(rng.random(draws) < lost, np.nan, values)
    assert lower(gaps, q, 0.05) <= low <= high <= upper(gaps, q, 0.05)
    # Both are mirror images of each other, and free of order.
    assert upper(-values[::-1], 1 - q, 0.05) == -low


def test_what_cannot_be_proven_has_no_rank():
    assert least_hits(1_000, 1.0, 0.05) is None
    assert least_hits(1_000, 0.5, 0.0) is None
    assert least_hits(3, 0.5, 0.05) is None
    values = np.arange(3.0)
    assert (not_below(values, None), not_above(values, None)) == (-math.inf, math.inf)
    assert (not_below(values, 2), not_above(values, 2)) == (1.0, 1.0)
    assert (not_below(values, 3), not_above(values, 3)) == (0.0, 2.0)


def test_any_rank_of_any_order_of_the_values():
    """numpy's selection leaves the neighbours of the place asked for in order, but for one permutation in some hundred."""
    rng = np.random.default_rng(5)
    for rank in rng.integers(1, 258, 5_000).tolist():
        assert ranked(rng.permutation(257).astype(float), rank) == rank - 1
