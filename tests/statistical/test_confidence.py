"""Confidence against the truth: networks of two classes along a line, whose mean under the drawn noise is summed exactly.

Noise is the lattice law as it is drawn, so `E v_c` at every grid input of a ball is a finite sum. Whoever is told looks at
every stop and keeps what is false: greedy stopping.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.special import betainc, betaln, expit, ndtr, ndtri
from scipy.stats import binom

from certify.bounds import anytime
from certify.claims.certificate import AlphaSplit, Terms
from certify.claims.confidence import check_thresholds, confidence
from certify.claims.counts import Counts
from certify.smoothing.gaussian import Gaussian
from export.build.noise_table import rounded_gaussian_tails
from tests.certify.gaussian import best_run

FALSE_ALARM = 1e-6
ALPHA, SIGMA, CUT, TOP = 0.5, 6.0, 127.5, 255
SPLIT = AlphaSplit(of_class=0.4, of_upper=0.2, of_threshold=0.1, of_interval=0.2, of_confidence=0.1)
TERMS = Terms(law=Gaussian(SIGMA), alpha=ALPHA, split=SPLIT, classes=2)
LOOKS = np.arange(16, 641, 16)
THRESHOLDS = (0.53125, 0.625, 0.75, 0.875, 0.9375, 0.984375)
SLOPES = {"hesitant": 0.05, "smooth": 0.3, "sure": 40.0}
CENTRES = (128, 131, 136, 146)


def masses():
    """P(Z = z) for z from -K to K."""
    above = rounded_gaussian_tails(SIGMA).astype(float) / 2.0**64
    right = np.append(1 - above[0] - above[0], above[:-1] - above[1:])  # 0 and what lies to its right
    return np.concatenate([right[:0:-1], right])


def mean_confidence(slope):
    """E v_1 at every grid input, by enumeration: v_1 is a logistic of the noisy coordinate, never clipped."""
    mass = masses()
    reach = len(mass) // 2
    numbers = expit(slope * (np.arange(-reach, TOP + reach + 1) - CUT))
    return np.array([mass @ numbers[x : x + len(mass)] for x in range(TOP + 1)])


def complements(hits, level):
    """`anytime.chosen_lower_complement` of all hits at all looks at once."""
    n = LOOKS[:, None].astype(float)
    k = np.minimum(hits, n)

    def proven(q):
        with np.errstate(divide="ignore", invalid="ignore"):
            shape = n - k + anytime.KAPPA
            mass = betainc(shape, k + 1, q)
            log_m = np.log1p(-q)
            found = np.log(anytime.KAPPA) + betaln(k + 1, shape) + np.log(mass) - k * log_m - shape * np.log(q) + log_m
        enough = (found >= -np.log(level) + anytime.GUARD) & (mass >= 1e-290)
        return enough & (k > n * (1 - q)) & (k > 0) & (q < 1)

    low, high = (n - k) / n, np.ones_like(k)
    for _ in range(50):
        middle = 0.5 * (low + high)
        yes = proven(middle)
        low, high = np.where(yes, low, middle), np.where(yes, middle, high)
    return high


@cache
def tables(of_class, of_threshold):
    """What k hits at each look prove, [looks, 0 to 640]: of a class and of a class beyond a threshold."""
    hits = np.arange(LOOKS[-1] + 1)[None].astype(float)
    return 1 - complements(hits, of_class), 1 - complements(hits, of_threshold)


def shifted(p, sigmas):
    with np.errstate(divide="ignore"):
        return ndtr(ndtri(p) - sigmas)


def said(hits_of_class, hits, mutant=""):
    """The radius in sigmas and the numbers that are said of the ball and of the input, [runs, looks]; of `hits` there is an
    array for each threshold.
    """
    level = ALPHA * SPLIT.of_confidence / len(THRESHOLDS)
    of_class, of_threshold = tables(ALPHA * SPLIT.of_class, level)
    at = np.arange(len(LOOKS))
    proven = of_class[at, hits_of_class]
    radius = np.where(proven > 0.5, ndtri(np.maximum(proven, 0.5)), -1.0)
    moved = np.maximum(radius, 0.0)
    steps = np.diff([0.0, *THRESHOLDS])
    if mutant == "the upper sum":
        steps = np.diff([*THRESHOLDS, 1.0])
    first = THRESHOLDS[0] if mutant == "the upper sum" else 0.0
    sums = [
        first * shifted(proven, by)
        + sum(step * shifted(of_threshold[at, each], by) for step, each in zip(steps, hits, strict=True))
        for by in (moved, 0.0)
    ]
    return radius, sums[1 if mutant == "the number at the input" else 0], sums[1]


def false_runs(slope, centre, runs, seed, mutant=""):
    """In how many runs a number that is said at some look lies above the exact mean at some grid input of its ball, or that
    of the input above the mean there.
    """
    rng, mass = np.random.default_rng(seed), masses()
    noise = rng.choice(len(mass), (runs, int(LOOKS[-1])), p=mass / mass.sum()) - len(mass) // 2
    at = slope * (centre + noise - CUT)
    sure, vote, exact = expit(np.abs(at)), at > 0, mean_confidence(slope)
    false = np.zeros(runs, dtype=bool)
    for label, mean in ((0, 1 - exact), (1, exact)):
        mine = vote == label
        hits = [np.cumsum(mine & (sure > each), axis=1)[:, LOOKS - 1] for each in THRESHOLDS]
        radius, number, here = said(np.cumsum(mine, axis=1)[:, LOOKS - 1], hits, mutant)
        reach = np.floor(np.maximum(radius, 0.0) * SIGMA).astype(int)
        least = np.array([mean[max(0, centre - r) : centre + r + 1].min() for r in range(TOP)])
        wrong = (number > least[np.minimum(reach, TOP - 1)]) | (here > mean[centre])
        false |= ((radius > 0) & wrong).any(axis=1)
    return int(false.sum())


CASES = [(slope, centre) for slope in SLOPES.values() for centre in CENTRES]


def false_in(runs, mutant="", seed=0):
    return [false_runs(slope, centre, runs, seed + i, mutant) for i, (slope, centre) in enumerate(CASES)]


def test_what_is_simulated_is_what_is_claimed():
    """The tables against the claim itself, at some counts."""
    check_thresholds(THRESHOLDS)
    rng = np.random.default_rng(3)
    for look in (0, 3, 39):
        draws = int(LOOKS[look])
        votes = int(rng.integers(int(0.9 * draws), draws + 1))
        hits = np.sort(rng.integers(draws // 2, votes + 1, len(THRESHOLDS)))[::-1]
        certificate = best_run(TERMS, 10**6).conclude(Counts(draws=draws, votes=(draws - votes, votes)))
        found = confidence(certificate, hits.tolist(), THRESHOLDS, TERMS)
        column = np.zeros(len(LOOKS), int)
        columns = [np.where(np.arange(len(LOOKS)) == look, each, column)[None] for each in (votes, *hits)]
        radius, number, here = said(columns[0], columns[1:])
        assert radius[0, look] * SIGMA == pytest.approx(certificate.radius, rel=1e-6)
        assert number[0, look] == pytest.approx(found.lower, rel=1e-6)
        assert here[0, look] == pytest.approx(found.lower_at_input, rel=1e-6)


def test_no_number_is_above_the_mean_anywhere_in_its_ball_more_often_than_alpha():
    """A tenth of alpha = .5 is its share: 12,000 seeded runs, false-alarm rate 1e-6 for each of twelve cases."""
    limit = binom.isf(FALSE_ALARM, 1_000, ALPHA * SPLIT.of_confidence)
    assert max(false_in(1_000)) <= limit


@pytest.mark.parametrize("mutant", ["the upper sum", "the number at the input"])
def test_a_mutant_is_caught(mutant):
    limit = binom.isf(FALSE_ALARM, 1_000, ALPHA * SPLIT.of_confidence)
    assert max(false_in(1_000, mutant)) > limit


@pytest.mark.slow
def test_no_number_is_above_the_mean_in_many_runs():
    runs = 9_000
    false = false_in(runs, seed=100)
    print(f"\n{len(CASES) * runs} runs, false shares {[each / runs for each in false]}")
    assert max(false) <= binom.isf(FALSE_ALARM, runs, ALPHA * SPLIT.of_confidence)
