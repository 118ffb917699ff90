"""Answers with two-sided bounds: no statement false in more than alpha, under the greediest stop; and a mutant.

A statement is false exactly where a count reaches a critical number, so whole runs are judged by arrays; the last test ties
these numbers to what the procedures answer.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import binom

from certify.bounds import anytime, binomial
from certify.bounds.binomial import first_true
from certify.claims.certificate import AlphaSplit, Terms
from certify.claims.counts import Counts
from certify.claims.procedures import Best, Precision, Target
from certify.mixture import mix
from certify.smoothing.ball import Ball
from certify.smoothing.gaussian import Gaussian
from certify.smoothing.margins import needed_margin

ALPHA, FALSE_ALARM, STEP, LOOKS, WEIGHT = 0.1, 1e-6, 4, 160, 0.9
SPLIT = AlphaSplit(of_class=0.8, of_upper=0.2)
SHARED, EACH_ITS_OWN = (ALPHA * SPLIT.of_class, ALPHA * SPLIT.of_upper / 2), (ALPHA, ALPHA)
VECTORS = {
    "two of one half": (0.5, 0.5),
    "two ahead, tied": (0.4, 0.4, *[0.02] * 10),
    "near the top, and many": (0.42, 0.38, *[0.02] * 10),
    "one ahead, two tied behind": (0.4, 0.2, 0.2, *[0.02] * 10),
    "ten of a tenth": (0.1,) * 10,
}
FEW, MANY = 3_000, 100_000


@cache
def hits_above(draws, p, level, fixed=False):
    """The least hits whose lower bound lies above p, at any number of draws or at one that was fixed beforehand."""

    def proves(hits):
        if fixed:
            return 1 - binomial.clopper_pearson_chosen_complement(draws, hits, level) > p
        return anytime.chosen_exceeds(draws, hits, p, level)

    return first_true(-1, draws + 1, lambda k: k > draws or proves(k))


@cache
def hits_below(draws, p, level, fixed=False):
    """The largest number of hits whose upper bound lies below p; -1 if there is none."""

    def proves(misses):
        if fixed:
            return binomial.clopper_pearson_upper(draws, draws - misses, level) < p
        return anytime.exceeds(draws, misses, 1 - p, level)

    return draws - first_true(-1, draws + 1, lambda k: k > draws or proves(k))


def false_runs(p, runs, seed, levels, step=STEP, looks=LOOKS):
    """In which runs some look has a false bound: L of any class, p_B beside the leader, or U of the leader.

    A single look is at a number of draws fixed beforehand.
    """
    (of_class, of_upper), fixed = levels, looks == 1
    p, rng, found = np.array(p), np.random.default_rng(seed), []
    first, second = np.sort(p)[::-1][:2]
    others = np.where((p == first) & (np.arange(p.size) == p.argmax()), second, first)
    for rows in [min(5_000, runs - start) for start in range(0, runs, 5_000)]:
        hits, false = np.zeros((rows, p.size), dtype=np.int64), np.zeros(rows, dtype=bool)
        for draws in range(step, looks * step + 1, step):
            hits += rng.multinomial(step, p, size=rows)
            leader, ordered = hits.argmax(axis=1), np.sort(hits, axis=1)
            false |= (hits >= [hits_above(draws, each, of_class, fixed) for each in p.tolist()]).any(axis=1)
            below = np.array([hits_below(draws, each, of_upper, fixed) for each in others.tolist()])
            false |= ordered[:, -2] <= below[leader]
            false |= ordered[:, -1] <= hits_below(draws, float(first), of_upper, fixed)
        found.append(false)
    return np.concatenate(found)


@pytest.mark.parametrize("p", VECTORS.values(), ids=VECTORS)
@pytest.mark.parametrize("runs", [pytest.param(FEW, id="few"), pytest.param(MANY, marks=pytest.mark.slow, id="many")])
def test_no_more_answers_have_a_false_statement_than_alpha_allows(p, runs):
    found = int(false_runs(p, runs, 31, SHARED).sum())
    print(f"\n{found} of {runs} answers with something false at alpha {ALPHA}")
    assert found <= binom.isf(FALSE_ALARM, runs, ALPHA)


@pytest.mark.parametrize("p", [VECTORS["two of one half"], VECTORS["two ahead, tied"]])
def test_the_mutant_that_takes_the_better_of_both_certificates_at_the_whole_of_alpha_fails(p):
    """The class at alpha, as the one-sided certificate has it alone, and each of two others at alpha as well.

    At one number of draws, where bounds spend nearly all that they have.
    """
    found = [int(false_runs(p, FEW, 31, levels, step=500, looks=1).sum()) for levels in (SHARED, EACH_ITS_OWN)]
    print(f"\n{found} of {FEW} answers with something false at alpha {ALPHA}")
    assert found[0] <= binom.isf(FALSE_ALARM, FEW, ALPHA) < found[1]


@pytest.mark.parametrize("p", [(0.4, 0.2, 0.2, 0.1, 0.1), (0.5, 0.5)])
def test_what_the_procedures_claim_falsely_is_among_what_is_counted_here(p):
    """Certificates, refutations, precision and the mixture's radius, of counts that are unlikely and so often mislead."""
    terms = Terms(law=Gaussian(1.0), alpha=0.9, split=SPLIT, classes=len(p), two_sided=True)
    p, rng = np.array(p), np.random.default_rng(5)
    reach = float(ndtri(p[0]) - ndtri(p[1])) / 2
    seen = [rng.multinomial(draws, rng.dirichlet(15 * p)) for draws in (40, 150, 600) for _ in range(15)]
    levels = 0.9 * SPLIT.of_class, 0.9 * SPLIT.of_upper / 2
    counted = np.array([_false_bound(p, hits, levels) for hits in seen])
    claimed = np.array([_false_claim(p, hits, reach, terms) for hits in seen])
    assert np.all(counted[claimed])
    assert claimed.sum() >= 5


def _false_bound(p, hits, levels):
    draws, leader, ordered = int(hits.sum()), int(hits.argmax()), np.sort(hits)
    return bool(
        any(k >= hits_above(draws, float(each), levels[0]) for k, each in zip(hits, p, strict=True))
        or ordered[-2] <= hits_below(draws, float(np.delete(p, leader).max()), levels[1])
        or ordered[-1] <= hits_below(draws, float(p.max()), levels[1])
    )


def _false_claim(p, hits, reach, terms):
    counts, parts = Counts(draws=int(hits.sum()), votes=tuple(hits.tolist())), terms.law.parts
    best, close = Best().conclude(terms, counts), Precision(0.2).conclude(terms, counts)
    within = Target(Ball(parts, (max(0.0, reach - 1e-9),))).conclude(terms, counts)
    beyond = Target(Ball(parts, (reach + 1e-9,))).conclude(terms, counts)
    others = p.max() if best.class_index is None else np.delete(p, best.class_index).max()
    wrong = [best.p_b_upper < others, within.status == "refuted", beyond.status == "certified"]
    wrong.append(close.status == "certified" and close.radius + 0.2 < reach)
    if best.class_index is not None:
        label = p[best.class_index]
        truth = (ndtri(label) - ndtri(others)) / 2
        wrong += [best.p_a_lower > label, best.radius > max(0.0, truth)]
        mixed = terms.law.lead(1 - label, others, needed_margin(WEIGHT)).size
        wrong.append(mix.radius(best, WEIGHT) > mixed * (1 + 1e-9))
    return any(wrong)
