from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from certify.bounds import anytime, binomial
from tests.certify import exact

PUBLISHED = [
    # share, draws, lower bound at alpha = .001, level alpha * m
    (1.0, 100, 0.9218),
    (1.0, 10_000, 0.99919),
    (0.99, 1_000, 0.9712),
    (0.99, 10_000, 0.98511),
    (0.9, 1_000, 0.8540),
    (0.9, 100_000, 0.89540),
    (0.7, 1_000, 0.6319),
]


@pytest.mark.parametrize(("share", "draws", "bound"), PUBLISHED)
def test_the_table_is_reproduced(share, draws, bound):
    lower = 1 - anytime.chosen_lower_complement(draws, round(share * draws), 0.001)
    assert lower == pytest.approx(bound, abs=6e-5)


@pytest.mark.parametrize(
    ("draws", "hits", "m"),
    [(1, 1, 0.5), (32, 32, 0.5), (64, 50, 0.6), (1_000, 990, 0.97), (1_000, 600, 0.5), (5_000, 4_999, 0.99)],
)
def test_the_evidence_equals_quadrature(draws, hits, m):
    truth = exact.log_evidence(draws, hits, mpmath.mpf(m))
    assert anytime.log_evidence(draws, hits, m) == pytest.approx(float(truth), abs=1e-9)
    assert anytime.log_evidence(draws, hits, m, complement=1 - m) == pytest.approx(float(truth), abs=1e-9)


@pytest.mark.parametrize("kappa", [anytime.KAPPA, anytime.KAPPA_UPPER])
def test_the_guard_covers_double_precision_up_to_ten_million_draws(kappa):
    """Seeded counts of every size and share, about where the evidence decides, against 50 digits: a fifth of the guard.

    The first few also by quadrature, which knows nothing of the closed form.
    """
    rng, worst, tried = np.random.default_rng(8), 0.0, 0
    for i in range(120):
        draws = 10**7 if i % 3 == 0 else round(10 ** rng.uniform(0, 7))
        share = rng.choice([rng.random(), 10 ** -rng.uniform(0, 7), 1 - 10 ** -rng.uniform(0, 7)])
        hits = round(draws * share)
        misses, spread = draws - hits, math.sqrt((hits + 1) * (draws - hits + 1) / draws)
        q = (misses + rng.choice([0.1, 1, 10, 20]) + rng.uniform(0, 8) * spread) / draws
        if 0 < q < 1 and hits > draws * (1 - q):
            truth = exact.log_evidence_by_fraction(draws, hits, 1 - mpmath.mpf(q), kappa)
            if tried < 8:
                assert abs(truth - exact.log_evidence(draws, hits, 1 - mpmath.mpf(q), kappa)) < 1e-35
            found = anytime.log_evidence(draws, hits, 1 - q, complement=q, kappa=kappa)
            worst, tried = max(worst, abs(float(found - truth))), tried + 1
    assert tried > 60
    assert worst < anytime.GUARD / 5


@pytest.mark.parametrize("draws", [1, 1_000, 10**7])
@pytest.mark.parametrize("complement", [5e-324, 1e-300, 1e-40, 1e-16])
@pytest.mark.parametrize("kappa", [anytime.KAPPA, anytime.KAPPA_UPPER])
def test_where_the_mass_is_too_small_for_a_double_nothing_is_proven(draws, complement, kappa):
    """All hits, at a value next to one: the evidence is a number or none, and never above the truth by the guard."""
    found = anytime.log_evidence(draws, draws, 1.0, complement=complement, kappa=kappa)
    assert found <= draws * complement + 1e-9  # the best alternative has no miss at all


@given(st.integers(1, 400), st.data(), st.sampled_from([anytime.KAPPA, anytime.KAPPA_UPPER]))
def test_one_step_is_a_martingale(draws, data, kappa):
    """E[E_{n+1} | n, k] = E_n under p = m, wherever both next values speak at all."""
    m = data.draw(st.floats(0.3, 0.98))
    hits = data.draw(st.integers(math.floor((draws + 1) * m) + 1, draws)) if (draws + 1) * m < draws - 1 else draws
    places = (draws, hits), (draws + 1, hits + 1), (draws + 1, hits)
    now, up, down = (anytime.log_evidence(*at, m, kappa=kappa) for at in places)
    if down > -math.inf and now > -math.inf:
        assert m * math.exp(up - now) + (1 - m) * math.exp(down - now) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("p", [0.5, 0.6, 0.8, 0.95])
def test_never_false_more_often_than_alpha_by_exact_dynamic_programming(p):
    """A greedy stopper over 300 looks; the mutant with Clopper-Pearson at every look fails the same budget."""
    alpha, horizon = 0.05, 300
    anytime_false = _ever_false(p, horizon, lambda n, k: anytime.exceeds(n, k, p, alpha))
    mutant_false = _ever_false(p, horizon, lambda n, k: 1 - binomial.clopper_pearson_complement(n, k, alpha) > p)
    assert 0 < anytime_false <= alpha
    assert mutant_false > 2 * alpha


def _ever_false(p, horizon, says_above):
    alive, stopped = np.array([1.0]), 0.0
    for draws in range(1, horizon + 1):
        alive = np.append(alive * (1 - p), 0) + np.insert(alive * p, 0, 0)
        for hits in range(math.floor(draws * p), draws + 1):
            if alive[hits] and says_above(draws, hits):
                stopped += alive[hits]
                alive[hits] = 0
    return stopped


@given(st.integers(1, 100_000), st.floats(0, 1), st.sampled_from([0.05, 1e-3, 1e-9]))
def test_bounds_are_proven_at_themselves_and_enclose_the_share(draws, share, alpha):
    """The evidence, evaluated once at L itself, is enough."""
    hits = round(share * draws)
    complement = anytime.chosen_lower_complement(draws, hits, alpha)
    assert hits / draws >= 1 - complement
    if complement < 1:
        assert anytime.chosen_exceeds(draws, hits, 1 - complement, alpha, complement=complement)
    upper = anytime.upper(draws, hits, alpha)
    assert upper >= hits / draws
    assert complement >= binomial.clopper_pearson_chosen_complement(draws, hits, alpha) * (1 - 1e-9)


@given(st.integers(1, 3_000), st.floats(0.5, 1))
def test_the_rejected_values_are_an_initial_segment(draws, share):
    hits = round(share * draws)
    rejected = [anytime.chosen_exceeds(draws, hits, m, 0.01) for m in np.linspace(0.001, 0.999, 80)]
    assert rejected == sorted(rejected, reverse=True)


def test_no_more_hits_than_expected_prove_nothing():
    assert anytime.log_evidence(100, 50, 0.5) == -math.inf
    assert anytime.log_evidence(100, 0, 0.0) == -math.inf
    assert not anytime.exceeds(100, 60, 1.0, 0.05)


@given(st.integers(1, 5_000), st.floats(0, 1), st.sampled_from([0.05, 1e-3, 1e-9]))
def test_the_upper_bound_is_the_lower_bound_of_the_misses_and_wastes_nothing(draws, share, alpha):
    hits = round(share * draws)
    upper, misses = anytime.upper(draws, hits, alpha), draws - hits

    def evidence(bound):
        return anytime.log_evidence(draws, misses, 1 - bound, complement=bound, kappa=anytime.KAPPA_UPPER)

    proven = upper < 1 and evidence(upper) >= -math.log(alpha) + 1e-6
    assert proven or upper == 1
    if upper * (1 - 1e-9) > hits / draws:
        assert evidence(upper * (1 - 1e-9)) < -math.log(alpha) + 2e-6


def test_upper_bounds_by_fifty_digits():
    """The exact evidence of the misses at U, and a hair below it."""
    for draws, hits, alpha in ((100, 0, 1e-3), (1_000, 600, 0.05), (5_000, 4_990, 1e-6)):
        upper = mpmath.mpf(anytime.upper(draws, hits, alpha))
        level = -mpmath.log(mpmath.mpf(alpha))
        assert exact.log_evidence(draws, draws - hits, 1 - upper, anytime.KAPPA_UPPER) >= level
        below = upper * (1 - mpmath.mpf("1e-5"))
        assert exact.log_evidence(draws, draws - hits, 1 - below, anytime.KAPPA_UPPER) < level


@given(st.integers(2, 5_000), st.data(), st.sampled_from([0.05, 1e-3, 1e-9]), st.sampled_from([0.5, 8.0]))
def test_the_upper_bound_rises_with_the_hits(draws, data, alpha, kappa):
    """So that of the leader bounds every class."""
    hits = data.draw(st.integers(0, draws - 1))
    fewer, more = (anytime.upper(draws, k, alpha, kappa) for k in (hits, hits + 1))
    assert fewer <= more


@pytest.mark.parametrize("share", [0.5, 0.69, 0.84, 0.9, 0.977, 0.99])
@pytest.mark.parametrize("draws", [128, 1_000, 10_000, 1_000_000])
def test_the_prior_of_upper_bounds_is_tighter_for_a_leading_class(draws, share):
    hits = round(draws * share)
    for alpha in (0.1, 1e-3, 1e-6):
        assert anytime.upper(draws, hits, alpha) <= anytime.upper(draws, hits, alpha, anytime.KAPPA)


def test_the_upper_bound_never_falls_below_the_truth_more_often_than_alpha_by_dynamic_programming():
    alpha, p = 0.05, 0.4
    below = _ever_false(1 - p, 300, lambda n, misses: anytime.upper(n, n - misses, alpha) < p)
    assert 0 < below <= alpha


def test_close_to_one_the_complement_keeps_its_digits():
    """All of 10^7 draws agree: 1 - L is about 2e-6, and m as a double is 1e-10 of it off; the bound stays proven."""
    complement = anytime.chosen_lower_complement(10_000_000, 10_000_000, 1e-3)
    q = mpmath.mpf(complement)
    evidence = mpmath.log(mpmath.quad(lambda t: (t * t + (1 - t * t) / (1 - q)) ** 10_000_000, [0, 0.1, 0.5, 1]))
    assert mpmath.log(1 - q) + evidence == pytest.approx(-math.log(1e-3) + 1e-6, abs=2e-7)
    for exceeds in (anytime.chosen_exceeds, lambda n, k, m, a, complement: anytime.log_evidence(n, k, m, complement)):
        near, far = (exceeds(1_000, 1_000, 0.9, 1e-3, complement=c) for c in (0.2, 0.001))
        assert near != far  # the complement alone decides where it is given


@given(st.integers(1, 10**7), st.floats(0.001, 0.999), st.floats(0, 1))
def test_hits_up_to_their_expectation_never_reject(draws, m, share):
    """With k <= n m hits, at any level whatever."""
    assert not anytime.exceeds(draws, math.floor(share * draws * m), m, 0.999999)


@given(st.integers(1, 10**6), st.floats(0, 1), st.sampled_from([0.05, 1e-3, 1e-9]))
def test_it_claims_no_more_than_clopper_pearson_with_the_draws_known(draws, share, alpha):
    """L <= CP(alpha), and U >= CP(alpha)."""
    hits = round(share * draws)
    assert anytime.chosen_lower_complement(draws, hits, alpha) >= binomial.clopper_pearson_complement(
        draws, hits, alpha
    )
    assert anytime.upper(draws, hits, alpha) >= binomial.clopper_pearson_upper(draws, hits, alpha) * (1 - 1e-12)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=6), st.floats(0.3, 0.9))
def test_evidence_is_free_of_order_and_workers_add_counts(parts, m):
    """The likelihood ratio of every alternative is a product over draws, so merged counts are pooled counts."""
    hits, misses = (sum(column) for column in zip(*parts, strict=True))
    if hits <= (hits + misses) * m:
        return
    u = np.linspace(0.0005, 0.9995, 1_000) ** 2  # nodes of the mixture: u = t^2 is Beta(1/2, 1)
    logs = sum(e * np.log(u) + k * np.log(u + (1 - u) / m) for k, e in parts)
    mixed = logs.max() + math.log(np.mean(np.exp(logs - logs.max())))
    assert anytime.log_evidence(hits + misses, hits, m) == pytest.approx(mixed, abs=0.05)


def test_too_many_draws_are_refused():
    with pytest.raises(ValueError, match="10000000"):
        anytime.log_evidence(anytime.MAX_DRAWS + 1, 5, 0.5)


def test_the_label_may_be_chosen_from_the_same_draws():
    """Two classes at one half: plain alpha fails, alpha * m holds. Seeded; a false alarm has probability 1e-6."""
    alpha, runs, draws = 0.05, 20_000, 60
    top = np.maximum(k := np.random.default_rng(5).binomial(draws, 0.5, runs), draws - k)
    lower = {int(h): 1 - binomial.clopper_pearson_chosen_complement(draws, int(h), alpha) for h in set(top)}
    plain = {int(h): 1 - binomial.clopper_pearson_complement(draws, int(h), alpha) for h in set(top)}
    limit = binom.isf(1e-6, runs, alpha)
    assert sum(lower[int(h)] > 0.5 for h in top) <= limit
    assert sum(plain[int(h)] > 0.5 for h in top) > limit


@given(st.integers(0, 400), st.floats(0.01, 1), st.floats(0, 0.5))
def test_least_hits_by_definition(draws, m, alpha):
    found = anytime.least_hits(draws, m, alpha)
    proving = [k for k in range(draws + 1) if alpha > 0 and m < 1 and anytime.exceeds(draws, k, m, alpha)]
    assert found == (proving[0] if proving else None)


def test_a_single_hit_may_be_enough():
    assert anytime.least_hits(2, 1e-9, 0.001) == 1
    assert anytime.least_hits(1_000, 1.0, 0.001) is None


def proven_at(alpha):
    return anytime.exceeds(1_000, 990, 0.9, alpha)


def chosen_at(alpha):
    return anytime.chosen_exceeds(1_000, 990, 0.9, alpha)


@pytest.mark.parametrize(
    ("proven", "evidence"),
    [
        (proven_at, anytime.log_evidence(1_000, 990, 0.9)),
        (chosen_at, anytime.log_evidence(1_000, 990, 0.9) + math.log(0.9)),
    ],
)
def test_the_guard_is_added_to_what_the_evidence_has_to_reach(proven, evidence):
    for more, holds in ((0.0, False), (-0.5, False), (-1.5, True)):
        assert proven(math.exp(-evidence - more * anytime.GUARD)) is holds


def test_the_upper_bound_is_proven_with_the_guard():
    """The guard moves `U` by `GUARD / |d log E / d q|`, far more than the search leaves open."""
    bound = anytime.upper(1_000, 600, 1e-3)
    needed = -math.log(1e-3)
    evidence = anytime.log_evidence(1_000, 400, 1 - bound, bound, anytime.KAPPA_UPPER)
    assert needed + anytime.GUARD <= evidence < needed + 2 * anytime.GUARD
