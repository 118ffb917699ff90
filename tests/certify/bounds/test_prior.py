"""The learned prior: what it may depend on, and that its bounds keep their level."""

from __future__ import annotations

import math
from functools import cache

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, xlogy

from certify.bounds import anytime, prior
from certify.bounds.prior import Prior, PriorTable

TERRIBLE = {
    "sure, and wrong": Prior(atoms=(0.0,), weights=(1.0,)),
    "nearly sure": Prior(atoms=(1e-6, 1e-3), weights=(0.5, 0.5)),
    "nothing": Prior(atoms=(1.0,), weights=(1.0,)),
    "a hair above": Prior(atoms=(0.999,), weights=(1.0,)),
    "far and wide": Prior(atoms=(0.0, 0.01, 0.5, 0.9), weights=(0.25,) * 4),
    "half a measure": Prior(atoms=(0.2,), weights=(0.5,)),
}
PRIORS = st.builds(
    lambda atoms, raw: Prior(atoms=tuple(atoms), weights=tuple((np.array(raw[: len(atoms)]) / sum(raw)).tolist())),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.lists(st.floats(0.01, 1), min_size=5, max_size=5),
)


@given(PRIORS, st.integers(1, 5_000), st.floats(0, 1), st.sampled_from([0.05, 1e-3]))
def test_the_rejected_values_are_an_initial_segment(guess, draws, share, alpha):
    """At random (n, k); and the bound is proven at itself, never further than ln 2 behind."""
    hits = round(share * draws)
    grid = np.linspace(0.002, 0.998, 60)
    rejected = [prior.chosen_exceeds(guess, draws, hits, alpha, 1 - m) for m in grid]
    assert rejected == sorted(rejected, reverse=True)
    complement = prior.chosen_lower_complement(guess, draws, hits, alpha)
    assert rejected == [bool(1 - m >= complement) for m in grid]
    assert complement == 1 or prior.chosen_exceeds(guess, draws, hits, alpha, complement)
    for m in (0.3, 0.5, 0.9):
        without = anytime.log_evidence(draws, hits, m)
        assert prior.log_evidence(guess, draws, hits, 1 - m) >= without - math.log(2) - 1e-9


@pytest.mark.parametrize("guess", TERRIBLE.values(), ids=TERRIBLE)
@pytest.mark.parametrize(
    ("draws", "hits", "m"), [(10, 10, 0.5), (64, 50, 0.6), (1_000, 990, 0.97), (10**7, 9 * 10**6, 0.899)]
)
def test_the_evidence_is_that_of_50_digits(guess, draws, hits, m):
    beta = mpmath.exp(mpmath.mpf(anytime.log_evidence(draws, hits, m, 1 - m)))
    m, misses, total = 1 - mpmath.mpf(1 - m), draws - hits, beta
    for atom, weight in zip(guess.atoms, guess.weights, strict=True):
        u = mpmath.mpf(atom)
        total += weight * u**misses * (u + (1 - u) / m) ** hits
    assert prior.log_evidence(guess, draws, hits, float(1 - m)) == pytest.approx(float(mpmath.log(total / 2)), abs=1e-7)


@given(PRIORS, st.integers(1, 300), st.floats(0.05, 0.95))
def test_where_the_hits_prove_nothing_the_guess_could_not_either(guess, draws, m):
    """With k <= n m no alternative is likelier than the null, so evidence is nowhere thrown away that could reject."""
    hits = math.floor(draws * m)
    assert prior.log_evidence(guess, draws, hits, 1 - m) <= 0
    ratios = [xlogy(draws - hits, u) + hits * math.log(u + (1 - u) / m) for u in guess.atoms]
    assert max(ratios) <= 1e-9


def ever_false(p, horizon, rejects):
    """The exact probability that some look within the horizon rejects the true value."""
    alive, stopped = np.array([1.0]), 0.0
    for draws in range(1, horizon + 1):
        alive = np.append(alive * (1 - p), 0) + np.insert(alive * p, 0, 0)
        for hits in range(math.floor(draws * p) + 1, draws + 1):
            if alive[hits] and rejects(draws, hits):
                stopped += alive[hits]
                alive[hits] = 0
    return stopped


@pytest.mark.parametrize("guess", TERRIBLE.values(), ids=TERRIBLE)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_no_prior_is_false_more_often_than_its_level_by_exact_dynamic_programming(guess, p):
    """A greedy stopper over 120 looks, at level alpha m, alpha = .05."""
    assert ever_false(p, 120, lambda n, k: prior.chosen_exceeds(guess, n, k, 0.05, 1 - p)) <= 0.05 * p


@pytest.mark.slow
@pytest.mark.parametrize("guess", TERRIBLE.values(), ids=TERRIBLE)
@pytest.mark.parametrize("p", [0.3, 0.5, 0.75, 0.95])
def test_no_prior_is_false_more_often_than_its_level_over_300_looks(guess, p):
    false = ever_false(p, 300, lambda n, k: prior.chosen_exceeds(guess, n, k, 0.05, 1 - p))
    print(f"\np = {p}: {false:.5f} of {0.05 * p:.5f}")
    assert false <= 0.05 * p


def test_the_mutant_that_aims_by_hindsight_fails():
    """The likeliest alternative, chosen after the draws: .085 false within 120 looks at .05."""

    def hindsight(draws, hits):
        u = (1 - hits / draws) / 0.5
        ratio = xlogy(draws - hits, u) + hits * math.log(u + (1 - u) / 0.5)
        return ratio >= -math.log(0.05)

    assert ever_false(0.5, 120, hindsight) > 0.08


def test_the_mutant_whose_prior_changes_with_m_leaves_holes():
    """It rejects 1/2 though smaller values stand, so that no evaluation proves a bound."""
    draws, hits, alpha = 40, 31, 0.01
    right, wrong = Prior(atoms=(0.4,), weights=(1.0,)), Prior(atoms=(1.0,), weights=(1.0,))

    def changing(q):
        return prior.chosen_exceeds(right if 1 - q >= 0.5 else wrong, draws, hits, alpha, q)

    rejected = [changing(1 - m) for m in np.linspace(0.3, 0.7, 81)]
    assert rejected != sorted(rejected, reverse=True)
    assert changing(0.5)
    assert not changing(0.51)


@pytest.mark.parametrize(("ratio", "z"), [(1.0, 1.0), (1.0, 2.0), (2.0, 1.0)])
def test_a_right_guess_saves_draws_and_a_wrong_one_costs_few(ratio, z):
    """Draws until R = ratio sigma is proven at alpha = .001, over 200 seeded streams of margin z."""
    m0, p = float(ndtr(ratio)), float(ndtr(ratio + z))
    right, wrong = (Prior(atoms=(u,), weights=(1.0,)) for u in ((1 - p) / (1 - m0), 0.95))
    streams = np.cumsum(np.random.default_rng(21).random((200, 1_500)) < p, axis=1)

    def mean(exceeds):
        exceeds = cache(exceeds)  # most streams come by the same counts
        return np.mean([next(n for n in range(10, 1_500) if exceeds(n, int(row[n - 1]))) for row in streams])

    plain = mean(lambda n, k: anytime.chosen_exceeds(n, k, m0, 0.001))
    guessed = mean(lambda n, k: prior.chosen_exceeds(right, n, k, 0.001, 1 - m0))
    mistaken = mean(lambda n, k: prior.chosen_exceeds(wrong, n, k, 0.001, 1 - m0))
    assert guessed < 0.97 * plain
    assert mistaken < 1.12 * plain


def test_the_guess_is_a_table_over_the_base_pass():
    low, high, flat = (0.1, 0.9), (0.9, 0.1), (0.5, 0.5)
    table = PriorTable(
        atoms=(0.0, 0.5), margin_edges=(0.5,), score_edges=(1.0, 2.0), weights=((low, low, flat), (high, low, flat))
    )
    assert table.of(0.7, 0.0) == Prior(atoms=(0.0, 0.5), weights=high)
    assert table.of(0.5, 1.0).weights == low
    assert table.of(0.49, 1.99).weights == low
    assert table.of(0.2, math.inf).weights == flat
    assert table.of(math.nan, math.nan).weights == flat


@pytest.mark.parametrize(
    ("atoms", "weights", "said"),
    [
        ((0.5,), (0.5, 0.5), "one weight an atom"),
        ((1.5,), (1.0,), "from 0 to 1"),
        ((math.nan,), (1.0,), "from 0 to 1"),
        ((0.5,), (1.1,), "sum to more"),
        ((0.5, 0.1), (1.1, -0.1), "not be negative"),
        ((0.5,), (math.nan,), "not be negative"),
        ((), (), "weights"),
    ],
)
def test_what_is_no_measure_is_refused(atoms, weights, said):
    with pytest.raises(ValueError, match=said):
        Prior(atoms=atoms, weights=weights)


@pytest.mark.parametrize(
    ("edges", "weights", "said"),
    [
        ((0.5, 0.5), (((1.0,),),) * 3, "rise"),
        ((0.5,), (((1.0,),),), "2 rows of 1 cells"),
        ((0.5,), (((1.0,),), ((1.0,), (1.0,))), "2 rows of 1 cells"),
        ((0.5,), (((1.0,),), ((2.0,),)), "sum to more"),
    ],
)
def test_a_table_that_is_none_is_refused(edges, weights, said):
    with pytest.raises(ValueError, match=said):
        PriorTable(atoms=(0.5,), margin_edges=edges, score_edges=(), weights=weights)


def test_the_interface_knows_no_request_and_no_draw():
    """A prior that depends on the request or the draws would be void: there is no argument by which it could."""
    import inspect

    assert list(inspect.signature(PriorTable.of).parameters) == ["self", "margin", "score"]


def test_an_atom_may_have_no_weight():
    sparse, plain = Prior(atoms=(0.0, 0.5), weights=(0.0, 1.0)), Prior(atoms=(0.5,), weights=(1.0,))
    with np.errstate(divide="raise"):
        assert prior.log_evidence(sparse, 50, 45, 0.4) == prior.log_evidence(plain, 50, 45, 0.4)


@pytest.mark.parametrize(("hits", "complement"), [(50, 0.5), (10, 0.5), (100, 0.0), (100, 1.0)])
def test_what_could_not_exceed_one_is_no_evidence(hits, complement):
    assert prior.log_evidence(TERRIBLE["half a measure"], 100, hits, complement) == -math.inf


def test_the_guard_is_added_to_what_the_evidence_has_to_reach():
    guess, complement = TERRIBLE["nearly sure"], 0.1
    evidence = math.log1p(-complement) + prior.log_evidence(guess, 1_000, 990, complement)
    for more, proven in ((0.0, False), (-0.5, False), (-1.5, True)):
        alpha = math.exp(-evidence - more * anytime.GUARD)
        assert prior.chosen_exceeds(guess, 1_000, 990, alpha, complement) is proven
