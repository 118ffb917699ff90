"""How often an answer claims something false, on models whose every probability is known: long runs, no server.

A claim at a look is false exactly where a count reaches a critical number, so whole runs are judged by arrays. The last
test ties these numbers to the procedures. Looks are greedy: a run is false if any look, for any class, is. Every seed is
fixed; over seeds, a sound rule exceeds its limit with probability 1e-6. Short forms run with the other tests.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from certify.bounds import anytime, binomial
from certify.claims.certificate import AlphaSplit, Terms
from certify.claims.counts import Counts
from certify.ood.verdict import Detector, assess
from certify.smoothing import margins
from certify.smoothing.gaussian import Gaussian
from tests.certify.gaussian import best_run

ALPHA, FALSE_ALARM, CHUNK = 0.10, 1e-6, 5_000
SPLIT = AlphaSplit(of_class=0.5, of_upper=0.2, of_threshold=0.1, of_interval=0.2)
VECTORS = {
    "two of .5": np.full(2, 0.5),
    "ten of .1": np.full(10, 0.1),
    "a hundred of .01": np.full(100, 0.01),
    ".9 and ten of .01": np.array([0.9] + [0.01] * 10),
}


def forms(short, long):
    return pytest.mark.parametrize(
        "runs", [pytest.param(short, id="short"), pytest.param(long, marks=pytest.mark.slow, id="long")]
    )


def limit(runs):
    return binom.isf(FALSE_ALARM, runs, ALPHA) / runs


@cache
def least(draws, says):
    """The least number of hits at which `says(draws, hits)`; one more than the draws if none."""
    low, high = -1, draws + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if says(draws, middle) else (middle, high)
    return high


@cache
def chosen(p, level):
    """Whether the lower bound of a class chosen by its draws exceeds p."""
    return lambda draws, hits: anytime.chosen_exceeds(draws, hits, p, level)


@cache
def fixed(p, level):
    """Whether the lower bound of one fixed event exceeds p."""
    return lambda draws, hits: anytime.exceeds(draws, hits, p, level)


@cache
def refuting(p, level):
    """Whether the upper bound of one fixed event, of which these hits are the misses, lies below 1 - p."""
    return lambda draws, hits: anytime.exceeds(draws, hits, p, level, anytime.KAPPA_UPPER)


@cache
def clopper_pearson(p, level):
    return lambda draws, hits: 1 - binomial.clopper_pearson_chosen_complement(draws, hits, level) > p


def false_labels(shares, runs, rules, looks, step, seed):
    """For each rule, the share of runs in which some look has a lower bound of some class above the truth."""
    rng, found = np.random.default_rng(seed), np.zeros(len(rules))
    for start in range(0, runs, CHUNK):
        rows = min(CHUNK, runs - start)
        hits, false = np.zeros((rows, len(shares)), dtype=int), np.zeros((len(rules), rows), dtype=bool)
        for draws in range(step, looks * step + 1, step):
            hits += rng.multinomial(step, shares, size=rows)
            for rule, seen in zip(rules, false, strict=True):
                seen |= (hits >= [least(draws, rule(float(p), ALPHA)) for p in shares]).any(axis=1)
        found += false.sum(axis=1)
    return found / runs


@forms(4_000, 100_000)
@pytest.mark.parametrize("shares", VECTORS.values(), ids=VECTORS)
def test_a_label_chosen_by_the_draws_under_any_stop_is_false_in_at_most_alpha(shares, runs):
    """Mutant: Clopper-Pearson at every look, on the very same draws."""
    found, mutant = false_labels(shares, runs, (chosen, clopper_pearson), looks=200, step=2, seed=21)
    print(
        f"\nany class, any of 200 looks: {found:.5f} false at alpha {ALPHA}; Clopper-Pearson at every look {mutant:.5f}"
    )
    assert 0 < found <= limit(runs)
    assert mutant > found
    if shares[0] <= 0.5:
        assert mutant > limit(runs)


@forms(4_000, 100_000)
def test_the_plain_level_for_a_label_chosen_by_the_draws_fails(runs):
    """The mutant with plain alpha on a uniform vector, looks at every second draw."""
    found, mutant = false_labels(VECTORS["ten of .1"], runs, (chosen, fixed), looks=100, step=2, seed=22)
    print(f"\nalpha m {found:.5f}, plain alpha {mutant:.5f}, at alpha {ALPHA}")
    assert found <= limit(runs) < mutant


WEIGHT = 0.84
NEEDED = margins.needed_margin(WEIGHT)


lower_complement, upper = cache(anytime.chosen_lower_complement), cache(anytime.upper)


def claimed_units(draws, own, other, two_sided):
    """The mixture's radius in units of sigma: p_A at .8 alpha and the others at .1 alpha each, or p_A with alpha alone."""
    complement = lower_complement(draws, own, 0.8 * ALPHA if two_sided else ALPHA)
    p_b_upper = upper(draws, other, 0.1 * ALPHA) if two_sided else complement
    return margins.best(complement, min(complement, p_b_upper), WEIGHT)


def false_mixtures(shares, runs, two_sided, claim, seed):
    """The share of runs in which, at some look, the leader's mixture claims a positive radius. None is true.

    A votes where z < a, B where z > b, many classes between them; g is one-hot on the leader's rival. Their shares are
    such that the mixture ties at the input itself, so each positive radius is false, and so is each other label.
    """
    rng, found = np.random.default_rng(seed), 0
    for start in range(0, runs, CHUNK):
        rows = min(CHUNK, runs - start)
        hits, false = np.zeros((rows, len(shares)), dtype=int), np.zeros(rows, dtype=bool)
        for draws in range(10, 801, 10):
            hits += rng.multinomial(10, shares, size=rows)
            top = np.sort(hits, axis=1)[:, -2:]
            pairs, which = np.unique(top, axis=0, return_inverse=True)
            units = np.array([claim(draws, int(own), int(other), two_sided) for other, own in pairs])
            false |= (units > 0)[which.reshape(-1)]
        found += int(false.sum())
    return found / runs


def at_the_tie(two_sided):
    if two_sided:
        return np.array([0.5, 0.5 - NEEDED, *[NEEDED / 20] * 20])
    top = 1 / (2 * WEIGHT)
    return np.array([top, 1 - top])


@forms(2_000, 100_000)
@pytest.mark.parametrize("two_sided", [False, True], ids=["one-sided", "two-sided"])
def test_the_mixture_claims_a_false_radius_in_at_most_alpha(two_sided, runs):
    """The label chosen by the draws, any stop, at the boundary of the theorem."""
    found = false_mixtures(at_the_tie(two_sided), runs, two_sided, claimed_units, seed=23)
    print(f"\nmixture: {found:.5f} false at alpha {ALPHA}")
    assert 0 < found <= limit(runs)


def test_the_certificate_s_own_radius_for_the_mixture_fails():
    """Mutant: no price for the accurate network."""

    def own(draws, hits, _, __):
        return -ndtri(lower_complement(draws, hits, ALPHA))

    assert false_mixtures(at_the_tie(False), 500, False, own, seed=24) > limit(500)


RATIO, CORRELATION = 0.5, 0.6
MAJORITY = float(ndtr(RATIO))


@cache
def critical(draws, shares, levels):
    """Critical counts of the six statements at a look, at these levels: class, upper, threshold (two sides), interval."""
    of_class, of_upper, of_threshold, of_interval = levels
    return (
        [least(draws, chosen(p, of_class)) for p in shares],
        least(draws, refuting(1 - max(shares), of_upper)),
        least(draws, chosen(MAJORITY, of_threshold)),
        least(draws, chosen(1 - MAJORITY, of_threshold)),
        least(draws, fixed(MAJORITY, of_interval)),
    )


def draw(shares, rows, draws, rng):
    """Votes and scores (rows, draws) of one latent normal: a score N(0, 1), correlated with the class."""
    latent = rng.standard_normal((rows, draws))
    edges = ndtri(np.cumsum(shares)[:-1])
    scores = CORRELATION * latent + np.sqrt(1 - CORRELATION**2) * rng.standard_normal((rows, draws))
    return np.searchsorted(edges, latent), scores


def some_claim_is_false(shares, votes, scores, levels, step):
    """Of each row, whether some claim is false at some look. The threshold leaves MAJORITY of the scores at most it.

    Under a shift by R = RATIO sigma the median score moves within [-RATIO, RATIO], and both quantiles lie at its ends.
    """
    looks = np.arange(step, votes.shape[1] + 1, step)

    def at_looks(hits):
        return np.cumsum(hits, axis=1)[:, looks - 1]

    by_class = np.stack([at_looks(votes == c) for c in range(len(shares))], axis=2)
    top = int(np.argmax(shares))
    at_most, above_low = at_looks(scores <= RATIO), at_looks(scores > -RATIO)
    false = np.zeros(len(votes), dtype=bool)
    for i, draws in enumerate(looks.tolist()):
        of_class, upper, most, least_side, ends = critical(draws, tuple(shares.tolist()), levels)
        false |= (by_class[:, i] >= of_class).any(axis=1) | (draws - by_class[:, i, top] >= upper)
        false |= (at_most[:, i] >= most) | (draws - at_most[:, i] >= least_side)
        false |= (at_most[:, i] >= ends) | (above_low[:, i] >= ends)
    return false


SHARED = (ALPHA * SPLIT.of_class, ALPHA * SPLIT.of_upper, ALPHA * SPLIT.of_threshold, ALPHA * SPLIT.of_interval / 2)
EACH_ITS_OWN = (ALPHA,) * 4


def false_answers(shares, runs, seed, looks=640, step=1):
    rng, found = np.random.default_rng(seed), np.zeros(2)
    for start in range(0, runs, 1_000):
        votes, scores = draw(shares, min(1_000, runs - start), looks * step, rng)
        found += [some_claim_is_false(shares, votes, scores, each, step).sum() for each in (SHARED, EACH_ITS_OWN)]
    return found / runs


@forms(2_000, 100_000)
@pytest.mark.parametrize("shares", [VECTORS[k] for k in ("two of .5", "ten of .1", ".9 and ten of .01")])
def test_all_claims_of_an_answer_share_one_alpha(shares, runs):
    """All claims on, a score correlated with the class, any stop. Mutant: each claim at its own alpha."""
    found, mutant = false_answers(shares, runs, seed=25)
    print(f"\nany claim of an answer: {found:.5f} false at alpha {ALPHA}; each at its own alpha {mutant:.5f}")
    assert 0 < found <= limit(runs) < mutant


@pytest.mark.parametrize("shares", [VECTORS["two of .5"], VECTORS[".9 and ten of .01"]])
def test_what_the_procedures_claim_falsely_is_among_what_is_counted_here(shares):
    """Certificate, bounds, verdict and interval of the procedures themselves, at a level where many are false."""
    terms = Terms(law=Gaussian(1.0, 0.0), alpha=0.9, split=SPLIT, classes=len(shares))
    levels = tuple(level * 9 for level in SHARED)
    detector = Detector(threshold=RATIO, radius=RATIO, score_draws=16, calibration=np.zeros(1))
    votes, scores = draw(shares, 150, 128, np.random.default_rng(26))
    counted = some_claim_is_false(shares, votes, scores, levels, 16)
    found = np.array(
        [
            any(_false(shares, v[:n], s[:n], terms, detector) for n in range(16, 129, 16))
            for v, s in zip(votes, scores, strict=True)
        ]
    )
    assert np.all(counted[found])
    assert found.sum() >= 10


def _false(shares, votes, scores, terms, detector):
    counts = Counts(draws=len(votes), votes=tuple(np.bincount(votes, minlength=len(shares)).tolist()))
    certificate, ood = best_run(terms, 10_000).conclude(counts), assess(scores, terms, detector).certified
    label = certificate.class_index
    claims = [certificate.p_b_upper >= np.delete(shares, counts.leader()).max()]
    if label is not None:
        claims += [certificate.p_a_lower <= shares[label], certificate.radius <= max(0.0, ndtri(shares[label]))]
    claims += [ood.score_lower is None or ood.score_lower <= -RATIO, ood.verdict != "out_of_distribution"]
    claims += [ood.score_upper is None or ood.score_upper >= RATIO, ood.verdict != "in_distribution"]
    return not all(claims)
